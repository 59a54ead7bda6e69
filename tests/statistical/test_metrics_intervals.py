"""Intervals cover, tests keep their level, null levels and debiased errors are right on average.

Measured with 3,000 runs and 500 replicates at n = 200 (1,500 at n = 2,000), of
P(error | s) = 0.05 + 0.4 (1 - s)^2 with s uniform: AUGRC 0.947 (0.957), AURC 0.929 (0.947), error
0.939 (0.952) for percentiles; 0.952, 0.936, 0.944 for BCa; AUGRC 0.955, AUROC 0.949, error 0.959
for DeLong's. In twenty groups of ten (n = 200): AUGRC 0.912, 0.909 and 0.936; in two hundred 0.943
for percentiles: intervals of few groups are too narrow. The tests run fewer and allow what has a
chance above one in a million.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats
from scipy.special import ndtr

from selectkit import metrics as m

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Sample = tuple[Floats, Bools, Any]

ERROR, AUGRC = 0.05 + 0.4 / 3, 0.05 / 2 + 0.4 / 12
TRUTH = {
    "error": ERROR,
    "augrc": AUGRC,
    "e_augrc": AUGRC - ERROR**2 / 2,
    "auroc_failure": 1 - (AUGRC - ERROR**2 / 2) / (ERROR * (1 - ERROR)),
}


def credible(hits: int, runs: int, low: float, high: float) -> bool:
    """Whether so many hits have a chance above 1e-6 for some probability in [low, high]."""
    few = scipy_stats.binom.cdf(hits, runs, low) >= 1e-6
    many = scipy_stats.binom.sf(hits - 1, runs, high) >= 1e-6
    return bool(few and many)


def independent(rng: np.random.Generator, n: int) -> Sample:
    s = rng.random(n)
    return s, rng.random(n) < 0.05 + 0.4 * (1 - s) ** 2, None


def clustered(rng: np.random.Generator, n: int) -> Sample:
    """Groups of five whose confidences and errors are alike; each row is as in `independent`."""
    group = np.repeat(np.arange(n // 5), 5)
    shared = rng.normal(size=(2, n // 5))[:, group]
    s, u = ndtr(0.7 * shared + np.sqrt(1 - 0.7**2) * rng.normal(size=(2, n)))
    return s, u < 0.05 + 0.4 * (1 - s) ** 2, group


def bootstrapped(method: Any) -> Callable[..., dict[str, m.Interval]]:
    def intervals(sample: Sample, names: list[str], rng: np.random.Generator) -> Any:
        s, e, groups = sample
        return m.bootstrap(names, s, e, groups=groups, n_replicates=300, rng=rng, method=method)

    return intervals


def analytic(sample: Sample, names: list[str], _: np.random.Generator) -> dict[str, m.Interval]:
    return m.delong(names, sample[0], sample[1], groups=sample[2])


def coverage(
    draw: Callable[[np.random.Generator, int], Sample],
    intervals: Callable[..., dict[str, m.Interval]],
    names: list[str],
    n: int,
    runs: int,
) -> Iterator[int]:
    rng = np.random.default_rng(n)
    hits = dict.fromkeys(names, 0)
    for _ in range(runs):
        for name, found in intervals(draw(rng, n), names, rng).items():
            hits[name] += found.low <= TRUTH[name] <= found.high
    yield from hits.values()


@pytest.mark.parametrize(("n", "runs", "slack"), [(200, 300, 0.02), (2000, 100, 0.01)])
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_covers(n: int, runs: int, slack: float, method: str) -> None:
    for hits in coverage(independent, bootstrapped(method), ["augrc", "error"], n, runs):
        assert credible(hits, runs, 0.95 - slack, 0.97)


@pytest.mark.parametrize(("n", "runs", "slack"), [(200, 300, 0.03), (2000, 100, 0.01)])
def test_bootstrap_of_groups_covers(n: int, runs: int, slack: float) -> None:
    for hits in coverage(clustered, bootstrapped("percentile"), ["augrc", "error"], n, runs):
        assert credible(hits, runs, 0.95 - slack, 0.97)


def test_rows_of_groups_taken_as_independent_do_not_cover() -> None:
    def blind(sample: Sample, names: list[str], _: Any) -> dict[str, m.Interval]:
        return m.delong(names, sample[0], sample[1])

    for hits in coverage(clustered, blind, ["augrc", "error"], 500, 2000):
        assert not credible(hits, 2000, 0.93, 0.97)


@pytest.mark.parametrize(("n", "slack"), [(200, 0.02), (2000, 0.01)])
@pytest.mark.parametrize("draw", [independent, clustered])
def test_intervals_without_resampling_cover(
    draw: Callable[[np.random.Generator, int], Sample], n: int, slack: float
) -> None:
    runs = 1500 if n == 200 else 600
    for hits in coverage(draw, analytic, list(TRUTH), n, runs):
        assert credible(hits, runs, 0.95 - slack, 0.97)


def test_strata_of_fixed_size_need_not_be_paid_for() -> None:
    """Half the rows err 5 %, half 90 %: whoever resamples the halves' sizes, is twice as wide."""
    rng = np.random.default_rng(1)
    half = np.repeat([0, 1], 100)
    chance, s = np.where(half == 0, 0.05, 0.9), np.zeros(200)
    hits = 0
    widths = []
    for _ in range(300):
        e = rng.random(200) < chance
        plain, fixed = (
            m.bootstrap(["error"], s, e, n_replicates=200, rng=rng, strata=strata)["error"]
            for strata in (None, half)
        )
        hits += fixed.low <= 0.475 <= fixed.high
        widths.append((plain.high - plain.low) / (fixed.high - fixed.low))
    assert credible(hits, 300, 0.92, 0.97)
    assert np.mean(widths) == pytest.approx(0.4994 / 0.2636, rel=0.1)


def rivals(rng: np.random.Generator, n: int, noise: float) -> tuple[Floats, Floats, Bools]:
    """Two confidences of the same predictions: equally good but for added noise in the second."""
    u = rng.random(n)
    wrong = rng.random(n) < 0.05 + 0.4 * (1 - u) ** 2
    a, b = u + rng.normal(size=(2, n)) / 5
    return a, b + noise * rng.normal(size=n), wrong


@pytest.mark.parametrize("test", ["bootstrap", "delong"])
def test_paired_comparisons_keep_their_level_and_have_power(test: str) -> None:
    rng = np.random.default_rng(2)
    runs = {"bootstrap": 250, "delong": 1000}[test]
    for noise, low, high in ((0.0, 0.03, 0.07), (1.5, 0.7, 1.0)):
        rejected = 0
        for _ in range(runs):
            a, b, wrong = rivals(rng, 300, noise)
            if test == "delong":
                p = m.compare_delong("augrc", a, wrong, b, wrong).p_value
            else:
                p = m.compare_paired("augrc", a, wrong, b, wrong, n_replicates=199, rng=rng).p_value
            rejected += p <= 0.05
        assert credible(rejected, runs, low, high)


def test_holm_keeps_the_level_of_the_family() -> None:
    """Four rivals as good as the reference: without adjustment one in nine runs says otherwise."""
    rng = np.random.default_rng(3)
    any_adjusted = any_plain = 0
    for _ in range(150):
        u = rng.random(200)
        wrong = rng.random(200) < 0.05 + 0.4 * (1 - u) ** 2
        many = {str(k): (u + rng.normal(size=200) / 5, wrong) for k in range(5)}
        found = m.compare_many("augrc", many, reference="0", n_replicates=199, rng=rng).values()
        any_adjusted += any(pair.p_holm <= 0.05 for pair in found)
        any_plain += any(pair.p_value <= 0.05 for pair in found)
    assert credible(any_adjusted, 150, 0.0, 0.07)
    assert any_plain > any_adjusted


def calibrated(rng: np.random.Generator, n: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    p = rng.dirichlet([0.6] * 3, n)
    return p, (rng.random((n, 1)) > np.cumsum(p, axis=1)).sum(axis=1).clip(0, 2)


def within(values: list[float], expected: float) -> bool:
    """The mean is less than 5 standard errors away (one chance in two million)."""
    return bool(abs(np.mean(values) - expected) < 5 * np.std(values) / np.sqrt(len(values)))


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_null_levels_are_means_over_perfect_probabilities(scheme: Any) -> None:
    rng = np.random.default_rng(4)
    gaps, squared, plain = [], [], []
    for _ in range(600):
        p, y = calibrated(rng, 200)
        gaps.append(m.ece(p, y, 10, scheme) - m.ece_null_level(p.max(axis=1), 10, scheme))
        bins = m.reliability_bins(p, y, 10, scheme)
        alone = bins.count < 2  # such bins have no debiased gap, only what they say is left out
        squared.append(m.debiased_squared_ece(p, y, 10, scheme))
        gap = (bins.accuracy - bins.confidence) ** 2
        plain.append(float((bins.count * gap)[~alone].sum() / 200))
    assert within(gaps, 0.0)
    assert within(squared, 0.0)
    assert not within(plain, 0.0)


def test_resampled_null_levels_keep_their_level() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        p, y = calibrated(rng, 100)
        found.append(m.calibration_null(m.adaptive_ece, p, y, n_draws=19, rng=rng).p_value)
    assert credible(sum(p <= 0.05 for p in found), 200, 0.03, 0.07)
    assert np.mean(found) == pytest.approx(0.525, abs=0.1)
    p, y = calibrated(rng, 1500)
    sharper = p**1.6 / (p**1.6).sum(axis=1, keepdims=True)
    for metric in (m.smooth_ece, m.ece, m.classwise_ece):
        assert m.calibration_null(metric, sharper, y, n_draws=19, rng=rng).p_value == 0.05
