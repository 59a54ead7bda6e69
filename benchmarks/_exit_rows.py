"""Populations for `benchmarks.exit_policies`: drawn from known laws, and real tables."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selectkit.arrays import softmax
from selectkit.pipeline.bench_rows import Population
from selectkit.policies import Guide, Outputs, Targets

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked of a population.

    Attributes:
        rows: The population.
        n_calib: Rows to calibrate on.
        targets: What to keep.
        only: Names of the policies that make sense, or None for all.
    """

    rows: Population
    n_calib: int
    targets: tuple[Targets, ...]
    only: tuple[str, ...] | None = None


def drawn(n: int, classes: int, seed: int) -> Guide:
    """Rows whose probabilities are right: labels are drawn from them.

    Two classes: log-odds normal with mean -1.5 and deviation 2.5, so a third is positive. More: all
    logits normal with deviation 2.5.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2.5, (n, classes))
    if classes == 2:
        z = np.stack([np.zeros(n), rng.normal(-1.5, 2.5, n)], axis=1)
    p = softmax(z)
    labels = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return Guide(Outputs(z, p), np.minimum(labels, classes - 1))


def synthetic(classes: int, size: int = 10_000) -> Population:
    """A population so large that draws from it are nearly independent, with guide and gate."""
    pool = drawn(size, classes, seed=0)
    top = np.sort(pool.outputs.probabilities, axis=1)[:, -2:]
    noise = np.random.default_rng(1).normal(0, 0.5, size)
    return Population.of_arrays(
        pool.outputs,
        pool.labels,
        source=f"{size:,} rows drawn, {classes} classes",
        guide=drawn(1000, classes, seed=2),
        gate=np.log(top[:, 1] / top[:, 0]) + noise,
    )


def asked(*targets: str) -> tuple[Targets, ...]:
    return tuple(map(Targets.parse, targets))


BOTH = "fnr=0.1,fpr=0.05"
PLAIN = ("empirical threshold", "one threshold")


def questions(data: Path) -> Iterator[tuple[str, Question]]:
    """Yield every population that is there, by name."""
    yield "two classes, n = 1,000", Question(synthetic(2), 1000, asked("error=0.05", BOTH))
    for name, (file, n, read, targets, only) in _TABLES.items():
        path = data / file
        if path.is_file():
            outputs, labels = read(path)
            rows = Population.of_arrays(outputs, labels, source=name)
            yield f"{name}, n = {n:,}", Question(rows, n, asked(*targets), only)
    yield "ten classes, n = 1,000", Question(synthetic(10), 1000, asked("error=0.15"))


Read = Callable[[Path], tuple[Outputs, npt.NDArray[np.int64]]]


def _of_probabilities(path: Path) -> tuple[Outputs, npt.NDArray[np.int64]]:
    with np.load(path) as arrays:
        return _outputs(arrays["probs"]), arrays["labels"].astype(np.int64)


def _of_logits(path: Path) -> tuple[Outputs, npt.NDArray[np.int64]]:
    with np.load(path) as arrays:
        z = arrays["test_logits"].astype(np.float64)
        return Outputs(z, softmax(z)), arrays["test_labels"].astype(np.int64)


def _of_top_label(path: Path) -> tuple[Outputs, npt.NDArray[np.int64]]:
    """Class 0 is "the network is right": (1 + confidence) / 2 keeps it the most probable."""
    with np.load(path) as arrays:
        confidence = arrays["efficientnet_b1__conf"].astype(np.float64)
        wrong = arrays["efficientnet_b1__true"] != arrays["efficientnet_b1__pred"]
    p = (1 + confidence) / 2
    return _outputs(np.stack([p, 1 - p], axis=1)), wrong.astype(np.int64)


def _of_persons(path: Path) -> tuple[Outputs, npt.NDArray[np.int64]]:
    """Whether there is a person in the picture: the first of 80 categories."""
    with np.load(path) as arrays:
        p, y = arrays["scores"][:, 0].astype(np.float64), arrays["labels"][:, 0].astype(np.int64)
    return _outputs(np.stack([1 - p, p], axis=1)), y


def _of_jobs(path: Path) -> tuple[Outputs, npt.NDArray[np.int64]]:
    names = ["VF", "F", "M", "L"]
    with path.open(newline="") as lines:
        table = list(csv.DictReader(lines))
    p = np.array([[float(row[name]) for name in names] for row in table])
    return _outputs(p), np.array([names.index(row["obs"]) for row in table])


def _outputs(probabilities: npt.NDArray[np.floating]) -> Outputs:
    p = probabilities.astype(np.float64)
    return Outputs(np.log(np.maximum(p, 1e-30)), p)


_TABLES: dict[str, tuple[str, int, Read, Sequence[str], tuple[str, ...] | None]] = {
    "cleanlab_imdb_dev": (
        "cleanlab_imdb_dev/cleanlab_imdb_dev.npz", 1000, _of_probabilities,
        ["error=0.05", "fnr=0.1,fpr=0.1"], None,
    ),
    "coco_tresnetxl_dev, persons": (
        "coco_tresnetxl_dev/coco_tresnetxl_dev.npz", 1000, _of_persons,
        ["error=0.03", "fnr=0.05,fpr=0.05"], None,
    ),
    "hpc_cv": ("hpc_cv/hpc_cv.csv", 1000, _of_jobs, ["error=0.2"], None),
    "imagenet_top1_dev": (
        "imagenet_top1_dev/imagenet_top1_dev.npz", 1000, _of_top_label, ["error=0.1"], PLAIN,
    ),
    "cleanlab_cifar10": (
        "cleanlab_cifar10/cifar10.npz", 1000, _of_probabilities, ["error=0.02"], None,
    ),
    "netcal_c10_wrn164": (
        "netcal_c10_wrn164/netcal_c10_wrn164.npz", 1000, _of_probabilities, ["error=0.03"], None,
    ),
    "resnet50_c10_ce": (
        "resnet50_c10_ce/resnet50_c10_ce.npz", 1000, _of_logits, ["error=0.02"], None,
    ),
    "netcal_c100_wrn164": (
        "netcal_c100_wrn164/netcal_c100_wrn164.npz", 1000, _of_probabilities, ["error=0.1"], None,
    ),
}  # fmt: skip
