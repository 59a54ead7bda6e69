"""Cascades of runs: cheap ones first, dear ones for what they leave, certified as a whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selectkit import artifact
from selectkit.cache import Features
from selectkit.calibrate import Calibrator
from selectkit.errors import ConfigError
from selectkit.location import local_path
from selectkit.pipeline.active import replace_policy
from selectkit.pipeline.calibration import Calibration
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.run import MEASURED, RunDirectory
from selectkit.pipeline.scores import calibrated_gate
from selectkit.pipeline.stages import (
    StageRun,
    common_outputs,
    head_seconds,
    opened_stages,
    reference,
    stage_costs,
    stage_runs,
)
from selectkit.policies import CascadePolicy, Outputs, StageCosts, Targets
from selectkit.policies.scores import Gate


def calibrate_cascade(
    runs: Sequence[str | Path],
    *,
    target: str,
    delta: float = 0.1,
    calibrator: str = "temperature",
    scores: str | Sequence[str] = "msp",
    view_seconds: Mapping[str, float] | None = None,
    costs: Sequence[float] | None = None,
    unit: str = "s",
    human: float | None = None,
    last_decides: bool = False,
    store: str | Path | None = None,
) -> Calibration:
    """Find thresholds for a cascade of runs, and write `cascade.json` into the first.

    val_select says which thresholds are worth a test, val_calib tests them; both only with images
    that every stage has, and val_calib with one image of each group, as `calibrate` does. Every
    later run must have its calibrator already; that of the first is fitted here.

    Args:
        runs: Run directories, in the order in which they see an image.
        target: "error=0.05", "fnr=0.02,deferral=0.3", ...
        delta: Probability with which any of the promises may fail.
        calibrator: Of the first run: a key of `CALIBRATORS`, or "auto".
        scores: Score of the stages, or one per stage: a plain one, or "gate".
        view_seconds: Seconds to extract one image, by view. A view that an earlier stage has
            computed costs nothing more; what a head costs is measured and added.
        costs: Cost of each stage for every image that reaches it, in `unit`, instead of seconds.
        unit: Of `costs` and `human`.
        human: Cost of an image that no stage decides.
        last_decides: Whether the last stage decides every image that reaches it.
        store: Where the store of all runs is now, if it was moved.

    Returns:
        The answer. When the targets are infeasible, the first run keeps a feasible policy that it
        has; without one it defers everything from now on.

    Raises:
        ConfigError: If runs, target, scores or costs make no sense together.
        ArtifactError: If a run is missing, damaged, or a later one has no calibrator.
        LeakageError: If the stages are split differently.
        DataError: If a split has no labelled image.
    """
    targets = Targets.parse(target)
    if costs is not None and view_seconds:
        raise ConfigError("give the cost of stages or the seconds of views, not both.")
    stages = stage_runs([local_path(run, "a run directory") for run in runs], store)
    first = stages[0].run
    own_select, raw = first.outputs(stages[0].store, "val_select")
    fit = fitted_calibrator(calibrator, raw, own_select)
    later = [stage.run.calibrator() for stage in stages[1:]]
    calibrators = (fit.calibrator, *(found for found, _ in later))
    select, guides = common_outputs(stages, "val_select", calibrators)
    ranked_by, notes = _scores(scores, select, guides)
    calib, outputs = common_outputs(stages, "val_calib", calibrators)
    alone = one_per_group(calib)
    heads = [head_seconds(s, said.features) for s, said in zip(stages, outputs, strict=True)]
    paid = tuple(costs) if costs is not None else stage_costs(stages, view_seconds or {}, heads)
    policy = CascadePolicy.fit(
        [said.take(alone) for said in outputs],
        calib.y[alone],
        costs=StageCosts(paid, human, unit),
        target=targets,
        select=(guides, select.y),
        delta=delta,
        scores=ranked_by,
        names=[stage.name for stage in stages],
        positive=first.head.positive,
        last_decides=last_decides,
        split=calib.fingerprint,
        grouped=len(alone) < len(calib.y),
    )
    kept = policy.infeasible is not None and first.has_feasible_policy()
    warnings = (*fit.warnings, *notes, *_warnings(stages, calib, len(alone), costs, view_seconds))
    decided = policy.decide([said.take(alone) for said in outputs]).accepted
    answer = Calibration(
        first.path, targets, delta, fit, policy, kept, warnings, coverage=float(decided.mean())
    )
    if not kept:
        _write(stages, policy, fit.calibrator, [h for _, h in later], heads, own_select, calib)
    first.log("calibrate", split=calib.fingerprint, **answer.to_dict())
    return answer


def cascade_outputs(
    run: RunDirectory, document: Mapping[str, Any], split: str, store: str | Path | None = None
) -> tuple[Features, list[Outputs]]:
    """Read a split for the cascade that a run holds.

    Args:
        run: The run.
        document: Its `cascade.json`.
        split: Name of the split.
        store: Where the store of all runs is now, if it was moved.

    Returns:
        The rows that all stages have, and what each says about them: what
        `CascadePolicy.decide` takes.

    Raises:
        ArtifactError: If a stage is missing, or has another head or calibrator now.
        LeakageError: If the stages are no longer split alike.
    """
    stages, calibrators = opened_stages(run, document, store)
    return common_outputs(stages, split, calibrators)


def _scores(
    scores: str | Sequence[str], select: Features, guides: Sequence[Outputs]
) -> tuple[list[str | Gate], tuple[str, ...]]:
    names = [scores] * len(guides) if isinstance(scores, str) else list(scores)
    if len(names) != len(guides):
        raise ConfigError(f"{len(guides)} stages need one score or as many, got {len(names)}.")
    found: list[str | Gate] = []
    notes: list[str] = []
    for name, said in zip(names, guides, strict=True):
        if name != Gate.kind:
            found.append(name)
            continue
        gate, about = calibrated_gate(select, said)
        found.append(gate)
        notes += about
    return found, tuple(notes)


def _write(
    stages: Sequence[StageRun],
    policy: CascadePolicy,
    calibrator: Calibrator,
    later: Sequence[str],
    heads: Sequence[float],
    select: Features,
    calib: Features,
) -> None:
    run = stages[0].run
    head = {"head": run.head.hash}
    fitted = artifact.save(
        run.path / "calibrator.json",
        "calibrator",
        {**calibrator.to_dict(), "fitted_on": select.fingerprint, **head},
    )
    entries = [
        {
            **entry,
            "run": reference(stage, run.path),
            "head": stage.run.head.hash,
            "calibrator": hash_,
            "seconds_measured": seconds,
        }
        for entry, stage, hash_, seconds in zip(
            policy.to_dict()["stages"], stages, (fitted, *later), heads, strict=True
        )
    ]
    about = {"stages": entries, "calibrator": fitted, "split": calib.fingerprint, **head}
    replace_policy(run.path, policy, about)
    for name in MEASURED:
        (run.path / name).unlink(missing_ok=True)


def _warnings(
    stages: Sequence[StageRun],
    calib: Features,
    n_used: int,
    costs: Sequence[float] | None,
    view_seconds: Mapping[str, float] | None,
) -> tuple[str, ...]:
    """Say when groups repeat, images are missing, and extraction costs nothing."""
    lines = []
    if n_used < len(calib.y):
        lines.append(
            f"val_calib has {len(calib.y):,} images of {n_used:,} groups; images of one group are "
            "no independent evidence, so one of each was used: the promise is about a random image "
            "of a random group"
        )
    for stage in stages:
        total = len(stage.store.rows_of(stage.run.head.view, "val_calib").ids)
        if total > len(calib.y):
            lines.append(
                f"{stage.name} has {total - len(calib.y):,} images of val_calib that another stage "
                "lacks; they were left out"
            )
    if costs is None and not view_seconds:
        lines.append(
            "costs are those of the heads alone; give the seconds of each view, or the cost of "
            "each stage, to count extraction"
        )
    return tuple(lines)
