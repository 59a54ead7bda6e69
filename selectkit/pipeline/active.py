"""The active exit policy of a run: exactly one of four artifacts, read and replaced as a whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selectkit import artifact
from selectkit.errors import ArtifactError
from selectkit.policies import (
    CascadePolicy,
    ExitPolicy,
    GatePolicy,
    OwnScore,
    ScrcPolicy,
    thresholds_policy,
)
from selectkit.policies.scores import Gate
from selectkit.policies.scores import load as load_score

POLICY_FILES = ("thresholds.json", "gateparams.json", "scrcparams.json", "cascade.json")
SCORE_FILES = ("score.json", "score.safetensors")

Read = Callable[[str, str], dict[str, Any]]
"""Reads an artifact of the run, by file name and kind, and checks that it belongs to the head."""


def active_file(run: Path) -> str:
    """Return the name of the file that holds the active policy.

    Args:
        run: A run directory.

    Returns:
        One of `POLICY_FILES`; "thresholds.json" when there is none.

    Raises:
        ArtifactError: If there are two.
    """
    found = [name for name in POLICY_FILES if (run / name).is_file()]
    if len(found) > 1 and "gateparams.json" in found and not _is_policy(run / "gateparams.json"):
        found.remove("gateparams.json")  # the calibrated gate is only the score of another policy
    if len(found) > 1:
        raise ArtifactError(f"{run} has two active policies, {' and '.join(found)}. "
                            "Calibrate again.")  # fmt: skip
    return found[0] if found else POLICY_FILES[0]


def active_policy(
    run: Path, read: Read, calibrator: str
) -> tuple[ExitPolicy | CascadePolicy, dict[str, Any]]:
    """Return the active policy and its document.

    Args:
        run: A run directory.
        read: Reads its artifacts.
        calibrator: Hash of its probability calibrator.

    Returns:
        The policy. A cascade decides with what all its stages say, not with this run's outputs
        alone.

    Raises:
        ArtifactError: If it is missing, damaged, one of two, or belongs to another head, calibrator
            or score.
    """
    name = active_file(run)
    kind = name.removesuffix(".json")
    document = read(name, kind)
    if document["calibrator"] != calibrator:
        raise ArtifactError(f"{run / name} belongs to another calibrator. Calibrate again.")
    match kind:
        case "cascade":
            return CascadePolicy.from_dict(document), document
        case "gateparams":
            return GatePolicy.from_dict(document), document
        case "scrcparams":
            return ScrcPolicy.from_dict(document, _own_score(run, document)), document
    return thresholds_policy(document, _own_score(run, document)), document


def replace_policy(
    run: Path,
    policy: ExitPolicy | CascadePolicy,
    about: dict[str, Any],
    score_files: frozenset[str] = frozenset(),
) -> str:
    """Write a policy, and remove every other one.

    Args:
        run: A run directory.
        policy: The policy.
        about: The other fields of its artifact, head, calibrator, split, ..., and those of its own
            that say more than it does.
        score_files: Files of its score, which stay.

    Returns:
        The content hash of its document.
    """
    name = f"{policy.artifact}.json"
    version = {"format_version": 2} if isinstance(policy, GatePolicy) else {}
    hash_ = artifact.save(run / name, policy.artifact, {**version, **policy.to_dict(), **about})
    for other in (*POLICY_FILES, *SCORE_FILES):
        if other != name and other not in score_files:
            (run / other).unlink(missing_ok=True)
    return hash_


def _is_policy(gateparams: Path) -> bool:
    return "policy" in artifact.load(gateparams, "gateparams")[0]


def _own_score(run: Path, policy: dict[str, Any]) -> OwnScore | None:
    """The score of a policy, when it has numbers of its own."""
    if "score_artifact" not in policy:
        return None
    kind = "gateparams" if policy["score"] == Gate.kind else "score"
    path = run / f"{kind}.json"
    document, tensors = artifact.load(path, kind)
    if artifact.content_hash(document) != policy["score_artifact"]:
        raise ArtifactError(f"{path} is not the score of the policy. Calibrate again.")
    return Gate.from_dict(document) if kind == "gateparams" else load_score(document, tensors)
