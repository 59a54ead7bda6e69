"""Resamples: every statistic equals its metric on the materialised rows; units, strata, memory."""

import threading
import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit import metrics as m
from selectkit.errors import DataError
from selectkit.metrics import Statistics
from selectkit.metrics.bootstrap import bca_interval
from selectkit.metrics.ranked import Ranked
from selectkit.metrics.resample import Units, multinomial_counts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N = 40
RAW = ["aurc", "aurc_mean", "augrc", "e_aurc", "e_augrc", "error", "risk_at_coverage@0.7"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts(n: int, b: int, seed: int = 0) -> Ints:
    return np.concatenate(list(m.bootstrap_weights(n, b, None, rng(seed))))


def same(statistic: Statistics, metric: Callable[[Ints], dict[str, float]], weights: Ints) -> None:
    """Statistics of weights are the metrics of the rows, repeated as often."""
    found = statistic(weights)
    for b, row in enumerate(weights):
        expected = metric(np.repeat(np.arange(len(row)), row))
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name][b] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("kind", ["errors", "reals", "deferred"])
def test_selective_metrics(kind: str) -> None:
    r = rng(1)
    s = np.round(r.random(N), 1)
    ell = r.normal(size=N) if kind == "reals" else (r.random(N) < 0.3).astype(float)
    if kind == "deferred":
        s[r.random(N) < 0.9] = -np.inf
    names = [*RAW, "risk_at_coverage@1e-13", "coverage_at_risk@0.2"]
    statistic = m.curve_statistics(names, s, ell)
    same(statistic, lambda i: m.selective_metrics(names, s[i], ell[i]), counts(N, 60))


def test_a_resample_of_the_deferred_alone_has_no_risk() -> None:
    statistic = m.curve_statistics(
        ["risk_at_coverage@0.5", "coverage_at_risk@1"], [1, -np.inf], [0, 1]
    )
    found = statistic(np.array([[0, 2], [1, 1]]))
    assert np.isnan(found["risk_at_coverage@0.5"]).tolist() == [True, False]
    assert found["coverage_at_risk@1"].tolist() == [0, 0.5]


def test_balanced_areas() -> None:
    r = rng(2)
    s, e, y = np.round(r.random(N), 1), r.random(N) < 0.4, r.integers(0, 3, N)
    e[-1], y[-1] = True, 7  # a class of one, which many resamples miss
    statistic = m.balanced_statistics(["aurc_balanced", "augrc_balanced"], s, e, y)

    def balanced(i: Ints) -> dict[str, float]:
        found = (f(s[i], e[i], y[i]) for f in (m.aurc_balanced, m.augrc_balanced))
        return dict(zip(("aurc_balanced", "augrc_balanced"), found, strict=True))

    same(statistic, balanced, counts(N, 60))


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("subset", [True, False])
def test_probabilities(digits: int, subset: bool) -> None:
    r = rng(3)
    top = np.round(r.uniform(0.5, 1, N), digits)
    p, y = np.stack([top, 1 - top], axis=1), r.integers(0, 2, N)
    accepted = r.random(N) < 0.4 if subset else None
    statistic = m.probability_statistics(
        ["nll", "brier", "ece", "ece_mass", "confidence"], p, y, n_bins=7, accepted=accepted
    )

    def direct(i: Ints) -> dict[str, float]:
        if accepted is not None:
            i = i[accepted[i]]
        q, t = p[i], y[i]
        return {
            "nll": m.nll(q, t),
            "brier": m.brier(q, t),
            "ece": m.ece(q, t, 7),
            "ece_mass": m.ece(q, t, 7, "mass"),
            "confidence": float(q.max(axis=1).mean()),
        }

    same(statistic, direct, counts(N, 60))


def test_nothing_accepted_has_no_calibration() -> None:
    p, y = np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 1])
    names = ["nll", "brier", "ece", "ece_mass", "confidence"]
    none = m.probability_statistics(names, p, y, accepted=np.zeros(2, dtype=bool))
    assert all(np.isnan(v).all() for v in none(np.array([[1, 1], [2, 0]])).values())
    one = m.probability_statistics(names, p, y, accepted=np.array([True, False]))
    assert all(
        np.isnan(v).tolist() == [False, True] for v in one(np.array([[1, 1], [0, 2]])).values()
    )


STATISTICS: dict[str, Statistics] = {
    "curve": m.curve_statistics(["aurc"], [3, 2, 1], [0, 1, 0]),
    "reals": m.curve_statistics(["e_aurc"], [1, 2, 3], [0.1, 0.2, 0.3]),
    "balanced": m.balanced_statistics(["aurc_balanced"], [3, 2, 1], [0, 1, 0], [0, 1, 1]),
    "labels": m.label_statistics(["accuracy"], [0, 1, 0], [0, 0, 0]),
    "auroc": m.auroc_statistics("auroc", [1, 2, 3], [0, 1, 0]),
    "probabilities": m.probability_statistics(["ece"], [[0.9, 0.1]] * 3, [0, 0, 1]),
}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize(
    "weights", [np.ones((2, 2), int), np.ones((2, 4), int), np.ones(3, int), np.ones((2, 3))]
)
def test_weights_of_other_samples_are_refused(name: str, weights: Ints) -> None:
    with pytest.raises(DataError, match=r"weights must be integers of shape \(B, 3\)"):
        STATISTICS[name](weights)


@pytest.mark.parametrize(
    "generator", [np.random.PCG64, np.random.MT19937, np.random.SFC64, np.random.Philox]
)
def test_counts_of_every_generator_are_multinomial(generator: Callable[[int], object]) -> None:
    """Mean 1 and variance 1 - 1/n each, covariance -1/n: chi-squared of pooled counts."""
    n, b = 50, 4000
    drawn = multinomial_counts(n, b, np.random.Generator(generator(0)))  # type: ignore[arg-type]
    assert (drawn.sum(axis=1) == n).all()
    chance = scipy_stats.binom.pmf(np.arange(6), n, 1 / n)
    expected = np.append(chance, 1 - chance.sum()) * n * b
    found = np.bincount(np.minimum(drawn, 6).reshape(-1), minlength=7)
    assert ((found - expected) ** 2 / expected).sum() < scipy_stats.chi2.ppf(1 - 1e-6, 6) * 1.2
    assert np.cov(drawn.T)[np.triu_indices(n, 1)].mean() == pytest.approx(-1 / n, abs=0.003)
    per_unit = drawn.sum(axis=0, dtype=int)
    assert abs(per_unit - b).max() < 5.5 * np.sqrt(b)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 300])
def test_counts_of_few_units(n: int) -> None:
    drawn = multinomial_counts(n, 200, rng(n))
    assert drawn.shape == (200, n)
    assert (drawn.sum(axis=1, dtype=int) == n).all()


def test_strata_keep_their_sizes_and_groups_stay_whole() -> None:
    strata = np.array(["b", "a", "a", "b", "b", "a", "c"])
    groups = np.array([1, 2, 2, 3, 3, 4, 5])
    for w in m.bootstrap_weights(7, 200, None, rng(), strata=strata):
        assert all((w[:, strata == k].sum(axis=1) == (strata == k).sum()).all() for k in "abc")
    whole = np.concatenate(list(m.bootstrap_weights(7, 200, groups, rng(), strata=strata)))
    assert (whole[:, 1] == whole[:, 2]).all()
    assert (whole[:, 3] == whole[:, 4]).all()
    assert (whole[:, 0] + whole[:, 3] == 2).all()
    assert (whole[:, 6] == 1).all()
    assert len(np.unique(whole[:, 0])) == 3


@pytest.mark.parametrize(
    ("groups", "strata", "text"),
    [
        ([1, 1, 2], [0, 1, 1], "the group of row 0 lies in two strata"),
        ([1, 2], None, r"groups must have shape \(3,\), got \(2,\)"),
        (None, [[1, 2, 3]], r"strata must have shape \(3,\), got \(1, 3\)"),
        ([1.0, np.nan, 2.0], None, "groups is NaN in row 1"),
        (np.array([1, "a", None], dtype=object), None, "groups must be of one sortable kind"),
    ],
)
def test_units_that_make_no_sense(groups: object, strata: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Units.of(3, groups, strata)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["skewed", "clustered", "ties"])
def test_bca_equals_scipy(case: str) -> None:
    """Given the same replicates: scipy's interval of a statistic with the jackknife over units."""
    r = rng(4)
    n = 60
    unit = np.arange(n) // 3 if case == "clustered" else np.arange(n)
    value = np.round(r.gamma(0.5, size=n), 1 if case == "ties" else 9)[unit]
    sums = np.bincount(unit, value)

    def mean(rows: Floats, axis: int = -1) -> Floats:
        return np.asarray(rows.mean(axis=axis))

    theirs = scipy_stats.bootstrap((sums,), mean, n_resamples=999, method="BCa", rng=rng(5))
    without = (sums.sum() - sums) / (len(sums) - 1)
    draws = theirs.bootstrap_distribution
    ours = bca_interval(float(sums.mean()), draws, without, 0.95)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=1e-12)


def test_bca_leaves_out_each_unit_once() -> None:
    """The weights of the jackknife are those of its definition, groups and strata included."""
    units = Units.of(6, [0, 0, 1, 2, 2, 3], [0, 0, 0, 1, 1, 1])
    left = np.concatenate(list(units.left_out(400, rng())))
    expected = [[0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 0]]
    assert sorted(left.tolist()) == sorted(expected)
    blocks = np.concatenate(list(Units.of(1000, None).left_out(400, rng())))
    assert blocks.shape == (400, 1000)
    assert ((1 - blocks).sum(axis=0) == 1).all()
    assert set((1 - blocks).sum(axis=1)) == {2, 3}


def test_bca_is_near_the_percentiles_of_a_symmetric_metric_and_moves_with_skew() -> None:
    r = rng(6)
    s, e = r.random(2000), r.random(2000) < 0.5
    plain, moved = (
        m.bootstrap(["error"], s, e, rng=rng(), method=method)["error"]
        for method in ("percentile", "bca")
    )
    assert moved.low == pytest.approx(plain.low, abs=0.003)
    assert moved.high == pytest.approx(plain.high, abs=0.003)
    rare = r.random(300) < 0.02
    plain, moved = (
        m.bootstrap(["error"], s[:300], rare, rng=rng(), method=method, n_replicates=4000)["error"]
        for method in ("percentile", "bca")
    )
    assert moved.low > plain.low
    assert moved.high > plain.high


@pytest.mark.parametrize(
    ("s", "e", "groups"),
    [([0.5], [1], None), ([0.5, 0.4], [1, 0], [3, 3]), ([0.5, 0.4], [0, 1], None)],
)
def test_bca_of_next_to_nothing(s: list[float], e: list[int], groups: list[int] | None) -> None:
    names = ["augrc", "error", "auroc_failure", "risk_at_coverage@0.5"]
    found = m.bootstrap(names, s, e, groups=groups, rng=rng(), n_replicates=50, method="bca")
    assert found["error"].value == np.mean(e)
    assert all(i.low <= i.high or np.isnan(i.low) for i in found.values())


def test_bca_at_its_limits() -> None:
    """All replicates on one side, an influence of one unit alone, tiny and huge influences."""
    draws = np.arange(1.0, 1001.0)
    one = np.zeros(400)
    one[0] = 1
    for level in (0.5, 0.95, 0.999999, 1 - 1e-12):
        for value in (0.0, 500.0, 2000.0):
            for scale in (1e-200, 1e-120, 1.0, 1e100):
                for sign in (-1, 1):
                    found = bca_interval(value, draws, scale * sign * one, level)
                    assert 1 <= found.low <= found.high <= 1000
    assert np.isnan(bca_interval(1.0, np.array([np.nan, np.nan, 1.0]), one, 0.95).low)
    constant = bca_interval(0.3, np.full(100, 0.3), np.full(5, np.nan), 0.95)
    assert (constant.low, constant.high) == (0.3, 0.3)


def test_memory_is_bounded() -> None:
    n = 100_000
    r = rng(9)
    s, e = np.round(r.random(n), 4), r.random(n) < 0.2
    statistics = (
        m.curve_statistics(["aurc", "augrc", "risk_at_coverage@0.8"], s, e),
        m.balanced_statistics(["augrc_balanced"], s, e, r.integers(0, 10, n)),
    )
    tracemalloc.start()
    m.bootstrap_statistics(*statistics, n=n, n_replicates=60, rng=rng(), groups=np.arange(n) // 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # 60 replicates of counts alone would be 6 MB as bytes, 48 MB as integers


def test_results_are_no_views_of_working_memory() -> None:
    """Every statistic is called again with other weights: what it returned before must stay."""
    r = rng(10)
    s, e, y = np.round(r.random(N), 1), r.random(N) < 0.3, r.integers(0, 3, N)
    names = [*RAW, "accuracy", "auroc_failure", "coverage_at_risk@0.1"]
    statistics = [
        m.curve_statistics(names, s, e),
        m.curve_statistics(RAW, s, e * r.random(N)),
        m.balanced_statistics(["aurc_balanced", "augrc_balanced"], s, e, y),
        m.auroc_statistics("auroc", s, e),
    ]
    for statistic in statistics:
        first = statistic(counts(N, 5, seed=1))
        kept = {name: value.copy() for name, value in first.items()}
        statistic(counts(N, 5, seed=2))
        for name, value in first.items():
            assert np.array_equal(value, kept[name], equal_nan=True), name
            assert value.base is None or value.base.nbytes <= value.nbytes, name


def test_the_staircase_of_the_sample_outlives_those_of_resamples() -> None:
    r = rng(11)
    ranked = Ranked.of(np.round(r.random(N), 1), r.random(N) < 0.3)
    ranked.steps(counts(N, 3))  # memory enough for what follows
    steps = ranked.steps()
    kept = [a.copy() for a in (steps.accepted, steps.lost, steps.risk, steps.around)]
    ranked.steps()
    ranked.steps(counts(N, 3))
    for before, now in zip(
        kept, (steps.accepted, steps.lost, steps.risk, steps.around), strict=True
    ):
        assert np.array_equal(before, now)


def test_curves_do_not_share_memory() -> None:
    s, e = rng(12).random(N), rng(13).random(N) < 0.5
    first, second = m.risk_coverage_curve(s, e), m.risk_coverage_curve(s, e)
    first.risk[:] = first.coverage[:] = first.generalized_risk[:] = first.threshold[:] = -1
    assert (second.risk >= 0).all()
    assert (second.coverage > 0).all()
    assert (s >= 0).all()


def test_two_threads_share_a_statistic() -> None:
    r = rng(14)
    n = 500
    s, e, y = np.round(r.random(n), 2), r.random(n) < 0.3, r.integers(0, 3, n)
    curve = m.curve_statistics(["aurc", "augrc", "risk_at_coverage@0.8"], s, e)
    balanced = m.balanced_statistics(["aurc_balanced"], s, e, y)
    chunks = [counts(n, 20, seed=k) for k in range(6)]
    expected = [{**curve(w), **balanced(w)} for w in chunks]
    wrong: list[str] = []

    def work(order: list[int]) -> None:
        for k in order * 15:
            found = {**curve(chunks[k]), **balanced(chunks[k])}
            wrong.extend(
                name for name in found if not np.array_equal(found[name], expected[k][name])
            )

    threads = [threading.Thread(target=work, args=(o,)) for o in ([0, 1, 2, 3, 4, 5], [5, 3, 1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
