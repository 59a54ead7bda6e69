"""Rows that policies are compared on: of a run, or of a file with logits and labels."""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import class_labels, finite_matrix, softmax
from selectkit.cache import Features, FeatureStore
from selectkit.config import BenchConfig, CalibrateConfig
from selectkit.errors import ConfigError, DataError
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.scores import calibrated_gate, score_named
from selectkit.policies import SCORES, Guide, Outputs, OwnScore
from selectkit.policies.softmax import named, score_function

Labels = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

FIELDS = "labels (N,), logits (N, K) or probabilities (N, K), and if there are any groups (N,)"


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Independent labelled rows that neither head nor calibrator has seen.

    They stand for everybody: what a policy does with all of them is its true risk, and a random
    part of them is what it is calibrated on.

    Attributes:
        outputs: N rows; what each of them is accepted by stands in the place of the gate.
        labels: Shape (N,), codes in [0, K).
        source: Where they come from, in words.
        positive: Code of the positive class, or None.
        guide: Other rows that say which rules to test, in the same form; None: a policy that wants
            some takes a third of its calibration rows.
        gated: `outputs` with the calibrated gate itself in its place; None without a gate.
        notes: What the user should know about the rows.
    """

    outputs: Outputs
    labels: Labels
    source: str
    positive: int | None = None
    guide: Guide | None = None
    gated: Outputs | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.outputs.probabilities.shape[1])

    @classmethod
    def of_arrays(
        cls,
        outputs: Outputs,
        labels: npt.ArrayLike,
        *,
        source: str = "arrays",
        positive: int | None = None,
        score: str | OwnScore = "msp",
        guide: Guide | None = None,
        gate: Float64s | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Population":
        """Make a population of rows in memory.

        Args:
            outputs: N independent rows.
            labels: Shape (N,), codes in [0, K).
            source: Where they come from, in words.
            positive: Code of the positive class; 1 when there are two and none is named.
            score: What rows are accepted by.
            guide: Other labelled rows, or None.
            gate: Shape (N,), calibrated gate, or None.
            notes: What the user should know about the rows.

        Returns:
            The population; features are left out, because the score is computed here once.

        Raises:
            ConfigError: If the score or the positive class is unknown.
            DataError: If labels or gate do not fit the outputs.
        """
        n_classes = outputs.probabilities.shape[1]
        y = class_labels(np.asarray(labels), len(outputs), n_classes)
        if positive is None and n_classes == 2:
            positive = 1
        if positive is not None and not 0 <= positive < n_classes:
            raise ConfigError(f"the positive class {positive} is outside [0, {n_classes}).")
        plain = replace(outputs, features=None, head=None)
        return cls(
            replace(plain, gate=score_function(*named(score))(outputs)),
            y,
            source,
            positive,
            None if guide is None else replace(guide, outputs=_scored(guide.outputs, score)),
            None if gate is None else replace(plain, gate=gate),
            notes,
        )


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
        return _of_file(path, config), None
    if config.positive is not None:
        raise ConfigError(f"--positive is for a file; {path} knows its own positive class.")
    run = RunDirectory.open(path)
    return _of_run(run, run.store(store), config), run


def _of_run(run: RunDirectory, store: FeatureStore, config: BenchConfig) -> Population:
    """Val_calib and val_test together, one image of each group; val_select guides."""
    select, raw = run.outputs(store, "val_select")
    notes: tuple[str, ...] = ()
    if (run.path / "calibrator.json").is_file():
        calibrator = run.calibrator()[0]
    else:
        fit = fitted_calibrator(CalibrateConfig().calibrator, raw, select)
        calibrator, notes = fit.calibrator, fit.warnings
    seen = replace(raw, probabilities=calibrator.probabilities(raw.logits))
    score, _, about = score_named(config.score, run, store, select, seen)
    gate = None
    if raw.gate is not None:
        gate, of_gate = calibrated_gate(select, seen)
        about = (*about, *of_gate) if config.score != gate.kind else about
    parts = [run.outputs(store, split, calibrator) for split in ("val_calib", "val_test")]
    chosen = [one_per_group(rows) for rows, _ in parts]
    outputs = _joined([o.take(i) for (_, o), i in zip(parts, chosen, strict=True)])
    n = sum(len(rows.y) for rows, _ in parts)
    repeated = () if n == len(outputs) else (_about_groups(n, len(outputs)),)
    return Population.of_arrays(
        outputs,
        np.concatenate([rows.y[i] for (rows, _), i in zip(parts, chosen, strict=True)]),
        source=f"val_calib and val_test of {run.path}",
        positive=run.head.positive,
        score=score,
        guide=_guide(select, seen),
        gate=None if gate is None else gate(outputs),
        notes=(*notes, *about, *repeated, _REUSED),
    )


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


def _scored(outputs: Outputs, score: str | OwnScore) -> Outputs:
    s = score_function(*named(score))(outputs)
    return replace(outputs, features=None, head=None, gate=s)


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
