"""The verb `calibrate`: a probability calibrator on val_select, a threshold on val_calib."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit import artifact
from selectkit.arrays import Bools
from selectkit.cache import Features, FeatureStore
from selectkit.calibrate import Calibrator
from selectkit.config import CalibrateConfig
from selectkit.errors import ConfigError, LeakageError
from selectkit.location import local_path
from selectkit.pipeline.calibrators import FittedCalibrator, fitted_calibrator
from selectkit.pipeline.extract import settled
from selectkit.pipeline.run import MEASURED, RunDirectory
from selectkit.pipeline.scores import save_score, score_named
from selectkit.pipeline.split import evidence
from selectkit.policies import POSITIVE_RISKS, Outputs, OwnScore, SoftmaxPolicy, Target
from selectkit.risk import Infeasible, labels_needed


@dataclass(frozen=True)
class Calibration:
    """The answer of `calibrate`: a policy, or the reason why everything must be deferred.

    Attributes:
        run: The run directory.
        target: What was asked.
        delta: Probability with which the promise may fail.
        fit: The fitted probability calibrator, and the others that were tried.
        policy: The policy that was found; it defers everything when the target is infeasible.
        kept: True when the target is infeasible and the run keeps the feasible policy it had.
        warnings: What the user should look at.
    """

    run: Path
    target: Target
    delta: float
    fit: FittedCalibrator
    policy: SoftmaxPolicy
    kept: bool
    warnings: tuple[str, ...]

    @property
    def calibrator(self) -> Calibrator:
        """The fitted probability calibrator."""
        return self.fit.calibrator

    @property
    def feasible(self) -> bool:
        """Whether there is a threshold for the target."""
        return self.policy.infeasible is None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "run": str(self.run),
            "feasible": self.feasible,
            "target": str(self.target),
            "delta": self.delta,
            "calibrator": self.calibrator.to_dict(),
            "candidates": [candidate.to_dict() for candidate in self.fit.candidates],
            "policy": self.policy.to_dict(),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        if self.policy.infeasible is not None:
            then = "keeps the policy it had" if self.kept else "defers everything"
            return [*self.fit.table(), self.policy.infeasible.message(), f"{self.run} {then}"]
        certificate = self.policy.certificate
        assert certificate is not None  # a feasible policy has one
        rule = f"accept iff {self.policy.score} >= {self.policy.threshold:.6g}"
        if self.policy.threshold < -1e300:  # below every finite score
            rule = "accept everything"
        return [
            *self.fit.table(),
            certificate.sentence(),
            f"{rule}: {certificate.coverage:.1%} of val_calib",
            f"next: selectkit evaluate {self.run}",
        ]


def calibrate(
    run: str | Path,
    *,
    config: CalibrateConfig | None = None,
    store: str | Path | None = None,
    **settings: Any,
) -> Calibration:
    """Fit the probability calibrator on val_select, then the policy on val_calib.

    The certificate takes its rows for independent draws. Images of one group (site, video,
    track) are not, so only one image of each group of val_calib is used (among the positives,
    when the target is about them), the one whose id hashes lowest: the promise is then about a
    random image of a random group.

    Args:
        run: Run directory made by `fit`.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        **settings: Fields of `CalibrateConfig`, over `config`; `target` must be among them.

    Returns:
        The answer. When the target is infeasible, the run keeps a feasible policy that it has;
        without one it defers everything from now on, and says why.

    Raises:
        ConfigError: If the target is missing or makes no sense.
        ArtifactError: If the run is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        CalibrationError: If val_select does not identify the calibrator.
    """
    chosen = settled(CalibrateConfig, config, settings)
    target = _target(chosen)
    opened = RunDirectory.open(local_path(run, "a run directory"))
    if target.risk in POSITIVE_RISKS and opened.head.positive is None:
        raise ConfigError(
            f"--target {target} is about positives, and {opened.path} names no positive class: "
            f"fit again with --positive, one of {', '.join(opened.head.classes)}."
        )
    cache = opened.store(store)
    select, raw = opened.outputs(cache, "val_select")
    fit = fitted_calibrator(chosen.calibrator, raw, select)
    probabilities = fit.calibrator.probabilities(raw.logits)
    score, fitted_on, about_score = score_named(
        chosen.score, opened, cache, select, replace(raw, probabilities=probabilities)
    )
    calib, outputs = opened.outputs(cache, "val_calib", fit.calibrator)
    policy, n_used = certified(
        calib,
        outputs,
        target=target,
        delta=chosen.delta,
        score=score,
        positive=opened.head.positive,
    )
    kept = policy.infeasible is not None and opened.has_feasible_policy()
    result = Calibration(
        run=opened.path,
        target=target,
        delta=chosen.delta,
        fit=fit,
        policy=policy,
        kept=kept,
        warnings=(
            *fit.warnings,
            *about_score,
            *_warnings(target, chosen, calib, n_used, opened, cache),
        ),
    )
    if not kept:
        _write(opened, chosen, result, select, calib, fitted_on)
    opened.log("calibrate", split=calib.fingerprint, **result.to_dict())
    return result


def certified(
    calib: Features,
    outputs: Outputs,
    *,
    target: Target,
    delta: float,
    score: str | OwnScore,
    positive: int | None,
) -> tuple[SoftmaxPolicy, int]:
    """Find the policy for one target on val_calib.

    Args:
        calib: The labelled rows of val_calib.
        outputs: What head and calibrator say about them.
        target: What to promise.
        delta: Probability with which the promise may fail.
        score: Name of the confidence score, or the score when it has numbers of its own.
        positive: Index of the positive class.

    Returns:
        The policy (deferring everything when the target is infeasible), and the number of
        independent rows it was certified on.

    Raises:
        LeakageError: If the rows are not those of val_calib.
    """
    if calib.split != "val_calib":
        raise LeakageError(
            f"a threshold is certified on val_calib only; got the rows of {calib.split}."
        )
    alone = one_per_group(calib, among=_about(target, calib, positive))
    answer = SoftmaxPolicy.fit(
        outputs.take(alone),
        calib.y[alone],
        target=target,
        delta=delta,
        score=score,
        positive=positive,
        split=calib.fingerprint,
    )
    if isinstance(answer, Infeasible):
        return SoftmaxPolicy.deferring(answer, score=score, positive=positive), len(alone)
    everyone = one_per_group(calib)
    policy = answer.covering(outputs.take(everyone))
    return policy.counting_groups() if len(everyone) < len(calib.y) else policy, len(alone)


def _about(target: Target, calib: Features, positive: int | None) -> Bools:
    """The rows that the target is about: all, the positives, or the negatives."""
    if target.risk not in POSITIVE_RISKS:
        return np.ones(len(calib.y), dtype=np.bool_)
    is_positive = np.asarray(calib.y == positive)
    return ~is_positive if target.risk == "fpr" else is_positive


def one_per_group(rows: Features, among: Bools | None = None) -> npt.NDArray[np.int64]:
    """Return the position of one row of each group, the one whose id hashes lowest, ascending.

    Args:
        rows: Rows with their groups.
        among: Shape (N,): choose among these; None = all.

    Returns:
        Positions in `rows`.
    """
    chosen: dict[str, tuple[bytes, int]] = {}
    for place in range(len(rows.ids)) if among is None else np.flatnonzero(among).tolist():
        key = hashlib.sha256(str(rows.ids[place]).encode()).digest(), place
        group = rows.groups[place]
        chosen[group] = min(chosen.get(group, key), key)
    return np.array(sorted(place for _, place in chosen.values()), dtype=np.int64)


def _target(config: CalibrateConfig) -> Target:
    if config.target is None:
        raise ConfigError(
            "no target: say what to promise, for instance --target fnr=0.02, --target error=0.01 "
            "or --target coverage=0.8."
        )
    return Target.parse(config.target)


def _write(
    run: RunDirectory,
    config: CalibrateConfig,
    result: Calibration,
    select: Features,
    calib: Features,
    score_fitted_on: str,
) -> None:
    head = {"head": run.head.hash}
    calibrator_hash = artifact.save(
        run.path / "calibrator.json",
        "calibrator",
        {**result.calibrator.to_dict(), "fitted_on": select.fingerprint, **head},
    )
    (run.path / "cascade.json").unlink(missing_ok=True)
    of_score = save_score(run, result.policy.scored_by, score_fitted_on, calibrator_hash)
    artifact.save(
        run.path / "thresholds.json",
        "thresholds",
        {
            **result.policy.to_dict(),
            **of_score,
            "calibrator": calibrator_hash,
            "split": calib.fingerprint,
            **head,
        },
    )
    for name in MEASURED:
        (run.path / name).unlink(missing_ok=True)
    run.update("calibrate", config)


def _warnings(
    target: Target,
    config: CalibrateConfig,
    calib: Features,
    n_used: int,
    run: RunDirectory,
    store: FeatureStore,
) -> tuple[str, ...]:
    """Say when val_test cannot verify the promise, when groups repeat, and when choices pile up."""
    if target.risk == "coverage":
        return ()
    lines = []
    groups = len(set(calib.groups))
    if groups < len(calib.y):
        lines.append(
            f"val_calib has {len(calib.y):,} images of {groups:,} groups; images of one group are "
            f"no independent evidence, so one of each was used ({n_used:,} for this target): the "
            "promise is about a random image of a random group"
        )
    needs = labels_needed(target.alpha, config.delta)
    who, n = evidence(store, "val_test", target.risk, run.head.document["positive"])
    if n < needs:
        lines.append(
            f"val_test has {n:,} {who}; to verify {target} on it at confidence "
            f"{1 - config.delta:.0%} takes at least {needs:,}: what it shows is only indicative"
        )
    before = sum(e["event"] == "calibrate" and e["split"] == calib.fingerprint
                 and e["feasible"] for e in run.events())  # fmt: skip
    if before:
        lines.append(
            f"{before} earlier thresholds of this run were certified on the same images; each "
            "promise holds on its own, but choosing the best of several needs a smaller delta "
            f"(--delta {config.delta / (before + 1):.3g} for {before + 1})"
        )
    return tuple(lines)
