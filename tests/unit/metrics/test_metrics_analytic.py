"""Intervals from influences: DeLong's variance by its definition, groups, limits, comparisons."""

from math import isnan

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtri

from selectkit import metrics as m
from selectkit.errors import DataError

Floats = npt.NDArray[np.float64]
NAMES = ["augrc", "auroc_failure", "e_augrc", "error"]


def sample(n: int, seed: int = 0, *, ties: bool = True) -> tuple[Floats, npt.NDArray[np.bool_]]:
    r = np.random.default_rng(seed)
    s = r.random(n)
    return (np.round(s, 1) if ties else s), r.random(n) < 0.05 + 0.5 * (1 - s) ** 2


def deviation(interval: m.Interval, ceiling: float) -> float:
    """Standard deviation that an interval on the logit scale was made of."""
    low, high = (np.log(x / (ceiling - x)) for x in (interval.low, interval.high))
    share = interval.value / ceiling
    return float((high - low) / (2 * ndtri(0.975)) * ceiling * share * (1 - share))


def delong_variance(right: Floats, wrong: Floats) -> float:
    """DeLong, DeLong and Clarke-Pearson (1988), from all pairs."""
    gap = right[:, None] - wrong[None, :]
    wins = (gap > 0) + 0.5 * (gap == 0)
    of_right, of_wrong = wins.mean(axis=1), wins.mean(axis=0)
    return float(of_right.var(ddof=1) / len(right) + of_wrong.var(ddof=1) / len(wrong))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("n", [12, 200])
def test_the_variance_of_the_auroc_is_delongs(n: int, ties: bool) -> None:
    s, e = sample(n, ties=ties)
    found = m.delong(["auroc_failure"], s, e)["auroc_failure"]
    assert found.value == pytest.approx(m.auroc_failure(s, e), abs=1e-12)
    assert deviation(found, 1) ** 2 == pytest.approx(delong_variance(s[~e], s[e]), rel=1e-9)


@pytest.mark.parametrize(("name", "ceiling"), [("augrc", 0.5), ("e_augrc", 0.25), ("error", 1)])
@pytest.mark.parametrize("ties", [True, False])
def test_influences_are_derivatives(name: str, ceiling: float, ties: bool) -> None:
    """The variance is that of the derivative of the metric by the weight of each row."""
    s, e = sample(50, seed=3, ties=ties)
    statistic = m.curve_statistics([name], s, e)
    big = 200_000
    weights = np.full((50, 50), big) + np.eye(50, dtype=int)
    moved = statistic(weights)[name] - statistic(np.full((1, 50), big))[name]
    variance = ((moved * big * 50) ** 2).sum() / (50 * 49)
    found = m.delong([name], s, e)[name]
    assert found.value == pytest.approx(m.selective_metrics([name], s, e)[name], abs=1e-12)
    assert deviation(found, ceiling) ** 2 == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_repeated_rows_in_groups_are_one_row(name: str) -> None:
    s, e = sample(80, seed=4)
    again = np.repeat(np.arange(80), 5)
    single = m.delong([name], s, e)[name]
    whole = m.delong([name], s[again], e[again], groups=again)[name]
    as_rows = m.delong([name], s[again], e[again])[name]
    assert whole.high - whole.low == pytest.approx(single.high - single.low, rel=0.02)
    assert as_rows.high - as_rows.low < 0.5 * (single.high - single.low)


@pytest.mark.parametrize("n", [300, 3000])
def test_it_agrees_with_the_bootstrap(n: int) -> None:
    s, e = sample(n, seed=5)
    drawn = m.bootstrap(NAMES, s, e, n_replicates=2000, rng=np.random.default_rng(0))
    for name, found in m.delong(NAMES, s, e).items():
        width = drawn[name].high - drawn[name].low
        assert found.value == pytest.approx(drawn[name].value, abs=1e-12)
        assert found.low == pytest.approx(drawn[name].low, abs=0.2 * width), name
        assert found.high == pytest.approx(drawn[name].high, abs=0.2 * width), name


def test_real_losses_get_a_symmetric_interval_that_scales_with_them() -> None:
    s, _ = sample(200, seed=6)
    ell = np.random.default_rng(7).normal(1, 2, 200)
    drawn = m.bootstrap(["augrc", "error"], s, ell, rng=np.random.default_rng(0))
    for scale in (1.0, 1e-150, 1e99):
        for name, found in m.delong(["augrc", "error"], s, scale * ell).items():
            assert found.value - found.low == pytest.approx(found.high - found.value)
            width = (drawn[name].high - drawn[name].low) * scale
            assert found.high - found.low == pytest.approx(width, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("level", [0.5, 0.95, 1 - 1e-15])
def test_bounds_stay_in_range(name: str, seed: int, level: float) -> None:
    r = np.random.default_rng(seed)
    n = int(r.integers(1, 12))
    s, e = np.round(r.random(n), 1), r.random(n) < (seed + 0.5) / 6
    found = m.delong([name], s, e, level=level)[name]
    ceiling = {"augrc": 0.5, "e_augrc": 0.25}.get(name, 1.0)
    assert isnan(found.low) or 0 <= found.low <= found.value <= found.high <= ceiling


@pytest.mark.parametrize("n", [1, 2, 10, 97, 1000])
def test_without_variation_there_is_no_interval(n: int) -> None:
    """Also where rounding alone would make one: perfect rankings have no excess."""
    s = np.linspace(1, 0.1, n)
    for e in (np.zeros(n), np.ones(n), np.arange(n) >= 0.7 * n):
        found = m.delong(NAMES, s, e)
        assert isnan(found["e_augrc"].low)
        assert isnan(found["auroc_failure"].low)
    constant = m.delong(["augrc", "error"], s, np.full(n, 0.3))
    assert isnan(constant["error"].low)
    assert isnan(m.delong(["error"], [1, 2], [0, 1], groups=["a", "a"])["error"].low)


def test_compared_classifiers() -> None:
    s, e = sample(400, seed=8)
    noisy = s + np.random.default_rng(9).normal(scale=0.2, size=400)
    for name in NAMES[:3]:
        found = m.compare_delong(name, s, e, noisy, e)
        drawn = m.compare_paired(name, s, e, noisy, e, rng=np.random.default_rng(0))
        width = drawn.difference.high - drawn.difference.low
        assert [found.a, found.b] == pytest.approx([drawn.a, drawn.b])
        assert found.difference.low == pytest.approx(drawn.difference.low, abs=0.2 * width)
        assert found.difference.high == pytest.approx(drawn.difference.high, abs=0.2 * width)
        back = m.compare_delong(name, noisy, e, s, e)
        assert back.difference.value == -found.difference.value
        assert back.p_value == found.p_value


@pytest.mark.parametrize("paired", ["delong", "bootstrap"])
def test_differences_of_rounding_are_none(paired: str) -> None:
    """Ties among equal losses, broken or not: the same areas, summed in another order."""
    r = np.random.default_rng(10)
    level = r.integers(0, 30, 300)
    s, ell = level / 30, r.random(30)[level]
    other = s + 1e-6 * r.random(300)
    if paired == "delong":
        found = m.compare_delong("augrc", s, ell, other, ell)
    else:
        found = m.compare_paired("augrc", s, ell, other, ell, rng=np.random.default_rng(0))
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.p_value == 1


def test_a_difference_without_variation_has_no_p_value() -> None:
    found = m.compare_delong("error", [1, 2], [1, 1], [1, 2], [0, 0])
    assert found.difference.value == 1
    assert isnan(found.difference.low)
    assert isnan(found.p_value)


@pytest.mark.parametrize(
    ("names", "loss", "level", "text"),
    [
        (["aurc"], [0, 1], 0.95, r"unknown metrics \['aurc'\]; known are augrc, auroc_failure"),
        (["e_augrc"], [0, 0.5], 0.95, "e_augrc compares errors"),
        (["auroc_failure"], [0, 2], 0.95, "auroc_failure compares errors"),
        (["error"], [0, 1], 1.0, "level must be strictly between 0 and 1"),
        (["error"], [0, 1e101], 0.9, r"loss is 1e\+101 in row 1; beyond 1e\+100"),
        (["error"], [0, np.nan], 0.9, "loss is nan in row 1"),
    ],
)
def test_refusals(names: list[str], loss: list[float], level: float, text: str) -> None:
    with pytest.raises(DataError, match=text):
        m.delong(names, [1, 2], loss, level=level)


def test_pairs_of_two_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="A has 2 samples and B 3"):
        m.compare_delong("error", [1, 2], [0, 1], [1, 2, 3], [0, 1, 0])
