"""Percentile intervals cover the truth about as often as they say."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.metrics import Interval, bootstrap

AUGRC = 0.0583333  # of s uniform with error chance 0.05 + 0.4 (1 - s)^2
REPEATS = 300


def credible(hits: int, repeats: int, level: float, slack: float) -> bool:
    """Whether the hits fit a coverage of at least level - slack and below one."""
    enough = scipy_stats.binom.cdf(hits, repeats, level - slack) >= 1e-6
    return bool(enough and hits < repeats)


def draw(
    rng: np.random.Generator, n: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    s = rng.random(n)
    return s, (rng.random(n) < 0.05 + 0.4 * (1 - s) ** 2).astype(float)


def covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def test_interval_of_augrc_covers() -> None:
    rng = np.random.default_rng(0)
    intervals = [
        bootstrap(["augrc"], *draw(rng, 500), n_replicates=400, rng=rng)["augrc"]
        for _ in range(REPEATS)
    ]
    assert credible(sum(covers(i, AUGRC) for i in intervals), REPEATS, 0.95, 0.02)
    assert np.mean([i.high - i.low for i in intervals]) < 0.04


@pytest.mark.parametrize("grouped", [True, False])
def test_correlated_samples_need_groups(grouped: bool) -> None:
    """Each of 60 sites appears ten times: only whole sites carry independent information."""
    rng = np.random.default_rng(1)
    site = np.repeat(np.arange(60), 10)
    hits = 0
    for _ in range(REPEATS):
        s, e = draw(rng, 60)
        groups = site if grouped else None
        found = bootstrap(["error"], s[site], e[site], n_replicates=200, groups=groups, rng=rng)[
            "error"
        ]
        hits += covers(found, 0.05 + 0.4 / 3)
    assert credible(hits, REPEATS, 0.95, 0.04) == grouped
