"""Prediction sets on val_test: how large they are, and how often the true class is in them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools, Ints
from selectkit.metrics import Interval
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.ratios import estimate, measure_ratios
from selectkit.policies import ScrcPolicy
from selectkit.report.parts import ClassSets, Sets, SizeRow

MOST_CLASSES = 20


@dataclass(frozen=True, slots=True, eq=False)
class SetsOf:
    """N rows of K classes with their prediction sets.

    Attributes:
        members: Shape (N, K), True for classes in the set.
        passed: Shape (N,): the rows that pass the score; only their sets count.
        labels: Shape (N,), codes.
        prediction: Shape (N,), codes.
    """

    members: Bools
    passed: Bools
    labels: Ints
    prediction: Ints

    @property
    def size(self) -> Ints:
        """Classes in each set, shape (N,)."""
        return np.asarray(self.members.sum(axis=1))

    @property
    def inside(self) -> Bools:
        """Shape (N,): the true class is in the set."""
        return np.asarray(self.members[np.arange(len(self.labels)), self.labels])

    @property
    def single(self) -> Bools:
        """Shape (N,): the row passes the score and its set is a single class."""
        return np.asarray(self.passed & (self.size == 1))

    @property
    def wrong(self) -> Bools:
        """Shape (N,): the predicted class, which is always in the set, is wrong."""
        return np.asarray(self.prediction != self.labels)


def measure_sets(
    sets: SetsOf, judged: Judged, *, n_replicates: int, seed: int
) -> dict[str, Interval]:
    """Measure prediction sets, over the rows that pass the score.

    Args:
        sets: The sets.
        judged: The same rows.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        mean_set_size; set_coverage, the share with the true class in its set; singleton_share, the
        share whose set is a single class; singleton_error, the share of those that is wrong; with a
        positive class set_fnr, the share of positives without that class in their set.
    """
    passed = sets.passed
    ratios: dict[str, tuple[Bools, npt.NDArray[Any]]] = {
        "mean_set_size": (passed, sets.size.astype(np.float64)),
        "set_coverage": (passed, sets.inside),
        "singleton_share": (passed, sets.single),
        "singleton_error": (sets.single, sets.wrong),
    }
    if judged.positive is not None:
        positives = passed & np.asarray(sets.labels == judged.positive)
        ratios["set_fnr"] = (positives, ~sets.inside)
    return measure_ratios(judged, ratios, n_replicates=n_replicates, seed=seed)


def size_rows(sets: SetsOf) -> tuple[SizeRow, ...]:
    """Return how many sets there are of each size that occurs, smallest first."""
    k = sets.members.shape[1]
    size = sets.size[sets.passed]
    n = np.bincount(size, minlength=k + 1)
    hits = np.bincount(size[sets.inside[sets.passed]], minlength=k + 1)
    return tuple(SizeRow(int(i), int(n[i]), int(hits[i])) for i in np.flatnonzero(n))


def class_rows(sets: SetsOf, classes: tuple[str, ...]) -> tuple[ClassSets, ...]:
    """Return what became of the images of each class, in the order of the codes."""
    found = []
    for k, name in enumerate(classes):
        own = np.asarray(sets.labels == k)
        passed = own & sets.passed
        singles = own & sets.single
        found.append(
            ClassSets(
                name,
                int(own.sum()),
                int(passed.sum()),
                int((passed & sets.inside).sum()),
                int(singles.sum()),
                int((singles & sets.wrong).sum()),
                float(sets.size[passed].mean()) if passed.any() else float("nan"),
            )
        )
    return tuple(found)


def sets_section(
    policy: ScrcPolicy, sets: SetsOf, found: dict[str, Interval], classes: tuple[str, ...]
) -> Sets:
    """Return what the report shows of prediction sets.

    Args:
        policy: The policy.
        sets: Its sets.
        found: What `measure_sets` returned.
        classes: Names of the classes.

    Returns:
        The section; of many classes those whose true class is missed most often.
    """
    rows = class_rows(sets, classes)
    if len(rows) > MOST_CLASSES:
        shares = [(row.passed - row.inside) / max(row.passed, 1) for row in rows]
        rows = tuple(rows[i] for i in np.argsort(-np.array(shares), kind="stable")[:MOST_CLASSES])
    return Sets(
        decides=policy.exits,
        metrics={name: estimate(interval) for name, interval in found.items()},
        sizes=size_rows(sets),
        classes=rows,
        n_classes=len(classes),
    )
