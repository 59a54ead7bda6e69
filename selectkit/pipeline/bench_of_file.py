"""Rows to compare policies on: those of a file with labels, and logits or probabilities."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import class_labels, finite_matrix, softmax
from selectkit.config import BenchConfig
from selectkit.errors import ConfigError, DataError
from selectkit.pipeline.bench_held_out import about_groups
from selectkit.pipeline.bench_rows import Labels, Population
from selectkit.policies import SCORES, Outputs

FIELDS = "labels (N,), logits (N, K) or probabilities (N, K), and if there are any groups (N,)"


def of_file(path: Path, config: BenchConfig) -> Population:
    """Read the rows of a file.

    Args:
        path: A file *.npz.
        config: Its score and positive class are used.

    Returns:
        One row of each group; nobody guides.

    Raises:
        ConfigError: If a setting does not fit a file.
        DataError: If the file cannot be used.
    """
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
            notes = (about_groups(len(y), len(rows)),)
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
        raise DataError(
            f"{path} is missing: pass a run directory, a feature store or a .npz file with "
            f"{FIELDS}."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npz file without objects: {error}.") from None
