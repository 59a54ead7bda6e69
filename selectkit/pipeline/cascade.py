"""Cascades of runs: cheap ones first, dear ones for what they leave, certified as a whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selectkit.cache import Features
from selectkit.location import local_path
from selectkit.pipeline.active import replace_policy
from selectkit.pipeline.calibration import Calibration
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.cautions import about_evidence
from selectkit.pipeline.choice import Tried
from selectkit.pipeline.prepared import PreparedCascade
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.pipeline.stages import common_outputs, opened_stages, reference, stage_runs
from selectkit.policies import CascadePolicy, Outputs, Targets


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
        view_seconds: As in `StageSettings`.
        costs: As in `StageSettings`.
        unit: As in `StageSettings`.
        human: As in `StageSettings`.
        last_decides: As in `StageSettings`.
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
    paid = None if costs is None else tuple(costs)
    settings = StageSettings(tuple(runs[1:]), paid, view_seconds, unit, human, last_decides)
    stages = stage_runs([local_path(run, "a run directory") for run in runs], store)
    select, raw = stages[0].run.outputs(stages[0].store, "val_select")
    fit = fitted_calibrator(calibrator, raw, select)
    prepared = PreparedCascade.of(
        stages, settings, fit=fit, fitted_on=select.fingerprint, scores=scores
    )
    return certify_cascade(prepared, targets, delta)


def certify_cascade(
    prepared: PreparedCascade, targets: Targets, delta: float, tried: tuple[Tried, ...] = ()
) -> Calibration:
    """Certify a cascade on val_calib, and write `cascade.json` into the first run.

    Args:
        prepared: Its runs and rows.
        targets: What to keep.
        delta: Probability with which any of the promises may fail.
        tried: The policies among which it was chosen.

    Returns:
        The answer, as from `calibrate_cascade`.
    """
    first = prepared.stages[0].run
    policy = prepared.certified(targets, delta)
    answer = Calibration(
        run=first.path,
        targets=targets,
        delta=delta,
        fit=prepared.fit,
        policy=policy,
        kept=policy.infeasible is not None and first.has_feasible_policy(),
        warnings=(
            *prepared.warnings,
            *about_evidence(targets, delta, prepared.calib, first, prepared.stages[0].store),
        ),
        tried=tried,
        coverage=float(policy.decide(prepared.independent).accepted.mean()),
    )
    if not answer.kept:
        _write(prepared, policy)
    first.log("calibrate", split=prepared.calib.fingerprint, **answer.to_dict())
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


def _write(prepared: PreparedCascade, policy: CascadePolicy) -> None:
    run = prepared.stages[0].run
    fitted = run.save_calibrator(prepared.fit.calibrator, prepared.fitted_on)
    entries = [
        {
            **entry,
            "run": reference(stage, run.path),
            "head": stage.run.head.hash,
            "calibrator": hash_,
            "seconds_measured": seconds,
        }
        for entry, stage, hash_, seconds in zip(
            policy.to_dict()["stages"],
            prepared.stages,
            (fitted, *prepared.later),
            prepared.seconds,
            strict=True,
        )
    ]
    about = {"split": prepared.calib.fingerprint, "head": run.head.hash}
    replace_policy(run.path, policy, {**about, "stages": entries, "calibrator": fitted})
    run.forget_measurements()
