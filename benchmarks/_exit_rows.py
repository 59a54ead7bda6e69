"""Populations for `benchmarks.exit_policies`: drawn from known laws, and real tables."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selectkit.arrays import softmax
from selectkit.pipeline.bench_rows import Population
from selectkit.pipeline.bench_stages import StagedRows, Stages
from selectkit.policies import Guide, Outputs, StageCosts, Targets

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


PRICES = StageCosts((1.0, 4.0), 50.0, "units")
"""Made up: a second stage four times as dear as the first, a person fifty times."""


def noisy(rows: Guide, seed: int) -> Guide:
    """The same rows as a weaker head sees them: noise of deviation 1 on the log-odds."""
    z = rows.outputs.logits.copy()
    z[:, 1] += np.random.default_rng(seed).normal(0, 1, len(z))
    return replace(rows, outputs=Outputs(z, softmax(z)))


def staged(size: int = 10_000) -> Population:
    """Two classes and two stages: the second knows the right probabilities, the first does not."""
    pool, guide = drawn(size, 2, seed=0), drawn(1000, 2, seed=2)
    small, small_guide = noisy(pool, seed=3), noisy(guide, seed=4)
    about = Stages(("weak", "strong"), PRICES)
    outputs, guides = ((few.outputs, all_.outputs)
                       for few, all_ in ((small, pool), (small_guide, guide)))  # fmt: skip
    return Population.of_arrays(
        small.outputs,
        pool.labels,
        source=f"{size:,} rows drawn, two stages",
        guide=small_guide,
        staged=StagedRows.of(about, outputs, guides=guides),
    )


def two_networks(data: Path) -> Population | None:
    """WideResNet-16-4 and ResNet-50 on the same 10,000 test images; None where a table is missing.

    Raises:
        ValueError: If the tables are not about the same images.
    """
    small, large = (data / _TABLES[name][0] for name in ("netcal_c10_wrn164", "resnet50_c10_ce"))
    if not (small.is_file() and large.is_file()):
        return None
    (first, labels), (last, same) = _of_probabilities(small), _of_logits(large)
    if not np.array_equal(labels, same):
        raise ValueError(f"{small} and {large} are not about the same images.")
    about = Stages(("WideResNet-16-4", "ResNet-50"), PRICES)
    return Population.of_arrays(
        first, labels, source="two networks", staged=StagedRows.of(about, (first, last))
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
    yield "two stages, drawn, n = 1,000", Question(staged(), 1000, asked("error=0.05", "fnr=0.2"))
    networks = two_networks(data)
    if networks is not None:
        yield "two networks, CIFAR-10, n = 1,000", Question(networks, 1000, asked("error=0.02"))


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
