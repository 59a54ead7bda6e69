"""Rows to compare policies on: those of a run, or those that all runs of a cascade have."""

from collections.abc import Sequence
from pathlib import Path

from selectkit.cache import Features, FeatureStore
from selectkit.calibrate import Calibrator
from selectkit.config import BenchConfig, CalibrateConfig
from selectkit.pipeline.bench_held_out import HELD_OUT, HeldOut, guide_of
from selectkit.pipeline.bench_rows import Population
from selectkit.pipeline.bench_stages import StagedRows, Stages
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.prepared import HEADS_ALONE, lacking, stage_scores
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.scores import calibrated_gate, score_named
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.pipeline.stages import StageRun, common_outputs
from selectkit.policies import Outputs


def of_run(run: RunDirectory, store: str | Path | None, config: BenchConfig) -> Population:
    """Read the held-out rows of a run.

    Args:
        run: The run.
        store: Where its feature store is now, if it was moved.
        config: Its score and its stages are used.

    Returns:
        Val_calib and val_test together, one image of each group; val_select guides.

    Raises:
        ConfigError: If a setting does not fit the run.
        DataError: If a split has no labelled row.
        CacheError: If the store is missing, damaged, or another.
        LeakageError: If it is no longer split as it was when the head was fitted.
    """
    settings, cache = StageSettings.of(config), run.store(store)
    stages = () if settings is None else settings.opened(run.path, store)
    calibrator, notes = _calibrator(run, cache)
    calibrators = (calibrator, *(stage.run.calibrator()[0] for stage in stages[1:]))

    def read(split: str) -> tuple[Features, list[Outputs]]:
        if stages:
            return common_outputs(stages, split, calibrators)
        rows, outputs = run.outputs(cache, split, calibrator)
        return rows, [outputs]

    select, guides = read("val_select")
    score, _, about = score_named(config.score, run, cache, select, guides[0])
    gate = None
    if guides[0].gate is not None:
        gate, of_gate = calibrated_gate(select, guides[0])
        about = (*about, *of_gate) if config.score != gate.kind else about
    parts = [read(split) for split in HELD_OUT]
    rows = HeldOut.of([part for part, _ in parts])
    joined = [rows.joined([said[stage] for _, said in parts]) for stage in range(len(guides))]
    staged = None
    if settings is not None:
        staged, more = _staged(settings, stages, select, guides, joined, config)
        missing = [lacking(stages, str(part.split), len(part.y)) for part, _ in parts]
        about = (*about, *more, *(line for lines in missing for line in lines))
    return Population.of_arrays(
        joined[0],
        rows.labels,
        source=f"val_calib and val_test of {run.path}",
        positive=run.head.positive,
        score=score,
        guide=guide_of(select, guides[0]),
        gate=None if gate is None else gate(joined[0]),
        notes=tuple(dict.fromkeys([*notes, *about, *rows.notes()])),
        staged=staged,
    )


def _calibrator(run: RunDirectory, cache: FeatureStore) -> tuple[Calibrator, tuple[str, ...]]:
    """The run's own, or the usual one when it has none yet."""
    if (run.path / "calibrator.json").is_file():
        return run.calibrator()[0], ()
    select, raw = run.outputs(cache, "val_select")
    fit = fitted_calibrator(CalibrateConfig().calibrator, raw, select)
    return fit.calibrator, fit.warnings


def _staged(
    settings: StageSettings,
    stages: Sequence[StageRun],
    select: Features,
    guides: Sequence[Outputs],
    joined: Sequence[Outputs],
    config: BenchConfig,
) -> tuple[StagedRows, tuple[str, ...]]:
    """The rows as all stages see them, and what to know about it."""
    costs, _ = settings.prices(stages, guides)
    scores, notes = stage_scores(config.score, select, guides)
    names = tuple(stage.name for stage in stages)
    about = Stages(names, costs, settings.priced, settings.last_decides)
    if settings.priced and not settings.extraction_counts:
        notes += (HEADS_ALONE,)
    return StagedRows.of(about, joined, guides=guides, scores=scores), notes
