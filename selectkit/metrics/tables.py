"""The same metrics for every group: class, site, camera."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.metrics.bootstrap import Interval
from selectkit.metrics.ranked import checked
from selectkit.metrics.resample import name_codes
from selectkit.metrics.statistics import bootstrap


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group of a table.

    Attributes:
        group: Its name.
        n: Its samples.
        metrics: An interval per metric; bounds are NaN for a group of one sample or cluster.
    """

    group: str
    n: int
    metrics: dict[str, Interval]


def group_table(
    metrics: Sequence[str],
    confidence: ArrayLike,
    loss: ArrayLike,
    by: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    n_replicates: int = 1000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> list[GroupRow]:
    """Return selective metrics of every group by itself.

    A group's curve ranks the samples of that group among themselves.

    Args:
        metrics: Names as in `bootstrap`.
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        by: Shape (N,), the group of each sample; anything that sorts.
        clusters: Shape (N,): samples that are resampled together (frames of a video), or None.
        n_replicates: Bootstrap replicates per group.
        rng: Source of randomness.
        level: Nominal coverage of each interval; they are not adjusted for the number of groups.

    Returns:
        A row per group, in sorted order.

    Raises:
        DataError: If an array is malformed, or a name or a setting makes no sense.
    """
    s, ell = checked(confidence, loss)
    names, group = name_codes(by, len(s), "by")
    cluster = None if clusters is None else name_codes(clusters, len(s), "clusters")[1]
    rows = []
    for code, name in enumerate(names):
        member = np.flatnonzero(group == code)
        units = None if cluster is None else cluster[member]
        found = bootstrap(
            metrics,
            s[member],
            ell[member],
            n_replicates=n_replicates,
            groups=units,
            rng=rng,
            level=level,
        )
        if len(member) == 1 or (units is not None and len(np.unique(units)) == 1):
            found = {k: Interval(i.value, np.nan, np.nan) for k, i in found.items()}
        rows.append(GroupRow(str(name), len(member), found))
    return rows
