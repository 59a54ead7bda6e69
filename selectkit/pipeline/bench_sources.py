"""Where rows to compare policies on come from: a run, or a file with logits and labels."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import class_labels, finite_matrix, softmax
from selectkit.cache import Features, FeatureStore
from selectkit.calibrate import Calibrator
from selectkit.config import BenchConfig, CalibrateConfig
from selectkit.errors import ConfigError, DataError
from selectkit.pipeline.bench_rows import Labels, Population
from selectkit.pipeline.bench_stages import StagedRows, Stages
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.prepared import HEADS_ALONE, lacking, stage_scores
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.scores import calibrated_gate, score_named
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.pipeline.stages import StageRun, common_outputs
from selectkit.policies import SCORES, Guide, Outputs

FIELDS = "labels (N,), logits (N, K) or probabilities (N, K), and if there are any groups (N,)"


def read_population(
    source: str | Path, config: BenchConfig, store: str | Path | None
) -> tuple[Population, RunDirectory | None]:
    """Read the rows of a run or a file.

    Args:
        source: Run directory, or a file *.npz.
        config: Its score, calibrator and positive class are used.
        store: Where the run's feature store is now, if it was moved.

    Returns:
        The rows, and the run, if it is one.

    Raises:
        ConfigError: If a setting does not fit the source.
        DataError: If the file cannot be used.
        ArtifactError: If the run is missing or damaged.
    """
    path = Path(source)
    if path.suffix == ".npz" and not path.is_dir():
        if store is not None:
            raise ConfigError("--store belongs to a run; a file needs none.")
        if config.stages is not None:
            raise ConfigError("--stages belongs to a run; a file knows one head only.")
        return _of_file(path, config), None
    if config.positive is not None:
        raise ConfigError(f"--positive is for a file; {path} knows its own positive class.")
    run = RunDirectory.open(path)
    return _of_run(run, store, config), run


def _of_run(run: RunDirectory, store: str | Path | None, config: BenchConfig) -> Population:
    """Val_calib and val_test together, one image of each group; val_select guides."""
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
    parts = [read(split) for split in ("val_calib", "val_test")]
    alone = [one_per_group(rows) for rows, _ in parts]
    joined = [
        _joined([said[stage].take(i) for (_, said), i in zip(parts, alone, strict=True)])
        for stage in range(len(guides))
    ]
    staged = None
    if settings is not None:
        staged, more = _staged(settings, stages, select, guides, joined, config)
        missing = [lacking(stages, str(rows.split), len(rows.y)) for rows, _ in parts]
        about = (*about, *more, *(line for lines in missing for line in lines))
    n = sum(len(rows.y) for rows, _ in parts)
    repeated = () if n == len(joined[0]) else (_about_groups(n, len(joined[0])),)
    return Population.of_arrays(
        joined[0],
        np.concatenate([rows.y[i] for (rows, _), i in zip(parts, alone, strict=True)]),
        source=f"val_calib and val_test of {run.path}",
        positive=run.head.positive,
        score=score,
        guide=_guide(select, guides[0]),
        gate=None if gate is None else gate(joined[0]),
        notes=tuple(dict.fromkeys([*notes, *about, *repeated, _REUSED])),
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


_REUSED = (
    "the re-splits are made of val_calib and val_test: choosing a policy by this table and "
    "certifying it on the same val_calib makes its certificate too good. Choose on val_select, as "
    "`selectkit calibrate --policy auto` does, or divide delta by the number of policies"
)


def _about_groups(images: int, groups: int) -> str:
    return (
        f"{images:,} images of {groups:,} groups: one image of each group is used, so that rows "
        "are independent"
    )


def _guide(select: Features, outputs: Outputs) -> Guide:
    return Guide(outputs, select.y, select.groups.astype(np.str_))


def _joined(parts: list[Outputs]) -> Outputs:
    first = parts[0]
    return Outputs(
        np.concatenate([o.logits for o in parts]),
        np.concatenate([o.probabilities for o in parts]),
        np.concatenate([np.asarray(o.features) for o in parts]),
        None if first.gate is None else np.concatenate([np.asarray(o.gate) for o in parts]),
        first.head,
    )


def _of_file(path: Path, config: BenchConfig) -> Population:
    if config.score not in SCORES:
        raise ConfigError(f"--score {config.score} needs a run; a file allows {', '.join(SCORES)}.")
    arrays = _arrays(path)
    logits, probabilities = arrays.get("logits"), arrays.get("probabilities")
    if "labels" not in arrays or (logits is None and probabilities is None):
        raise DataError(f"{path} must hold {FIELDS}; it holds {', '.join(arrays) or 'nothing'}.")
    if probabilities is None:
        assert logits is not None  # one of them is there
        probabilities = softmax(np.asarray(logits, dtype=np.float64))
    p = finite_matrix(probabilities, "probabilities")
    y = class_labels(arrays["labels"], *p.shape)
    outputs = Outputs(np.log(np.maximum(p, 1e-30)) if logits is None else logits, p)
    notes: tuple[str, ...] = ()
    if "groups" in arrays:
        rows = _first_of_each(arrays["groups"], len(y))
        if len(rows) < len(y):
            notes = (_about_groups(len(y), len(rows)),)
            outputs, y = outputs.take(rows), y[rows]
    return Population.of_arrays(
        outputs, y, source=str(path), positive=config.positive, score=config.score, notes=notes
    )


def _first_of_each(groups: npt.NDArray[Any], n: int) -> Labels:
    """One row of each group, drawn with a fixed seed, ascending."""
    if groups.shape != (n,):
        raise DataError(f"groups must have shape ({n},) to match the labels, got {groups.shape}.")
    shuffled = np.random.default_rng(0).permutation(n)
    _, first = np.unique(groups[shuffled], return_index=True)
    return np.sort(shuffled[first]).astype(np.int64)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"{path} is missing: pass a run directory or a .npz file with {FIELDS}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npz file without objects: {error}.") from None
