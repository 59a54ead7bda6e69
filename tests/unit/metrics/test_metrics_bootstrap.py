"""The weighted bootstrap equals the materialised one, replicate by replicate."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from selectkit import metrics as m
from selectkit.errors import DataError

Floats = npt.NDArray[np.float64]
Sample = tuple[Floats, Floats]

CURVES: dict[str, Callable[[Floats, Floats], float]] = {
    "aurc": m.aurc,
    "aurc_mean": lambda s, e: m.aurc(s, e, "mean"),
    "augrc": m.augrc,
    "e_aurc": m.e_aurc,
    "e_augrc": m.e_augrc,
    "auroc_failure": m.auroc_failure,
    "error": lambda _, e: float(e.mean()),
    "accuracy": lambda _, e: float(1 - e.mean()),
    "risk_at_coverage@0.8": lambda s, e: m.risk_at_coverage(s, e, 0.8).risk,
    "coverage_at_risk@0.1": lambda s, e: m.coverage_at_risk(s, e, 0.1).coverage,
}
RAW = ["aurc", "aurc_mean", "augrc", "e_aurc", "error", "risk_at_coverage@0.8"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sample(n: int, *, ties: bool, seed: int = 0) -> Sample:
    r = rng(seed)
    s = r.random(n)
    return (np.round(s, 1) if ties else s), (r.random(n) < 0.4 * (1 - s)).astype(float)


def weights(n: int, b: int, groups: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    return np.concatenate(list(m.bootstrap_weights(n, b, groups, rng(1))))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_curve_statistics_equal_materialised_resamples(ties: bool, grouped: bool) -> None:
    s, e = sample(60, ties=ties)
    w = weights(60, 40, np.arange(60) // 4 if grouped else None)
    values = m.curve_statistics(list(CURVES), s, e)(w)
    for b, row in enumerate(w):
        again = np.repeat(np.arange(60), row)
        for name, metric in CURVES.items():
            expected = metric(s[again], e[again])
            assert values[name][b] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


def test_e_aurc_excess_under_duplicates_uses_their_own_optimum() -> None:
    s = -np.arange(30.0)
    e = (np.arange(30) >= 20).astype(float)
    w = weights(30, 20)
    perfect = m.curve_statistics(["e_aurc", "aurc_mean"], s, e)(w)
    assert (perfect["e_aurc"] <= 1e-3).all()


def test_curve_statistics_of_real_losses() -> None:
    s, _ = sample(50, ties=True)
    ell = rng(5).normal(size=50)
    w = weights(50, 20)
    values = m.curve_statistics(RAW, s, ell)(w)
    for b, row in enumerate(w):
        again = np.repeat(np.arange(50), row)
        for name in RAW:
            assert values[name][b] == pytest.approx(CURVES[name](s[again], ell[again]), abs=1e-12)


def test_label_statistics_equal_materialised_resamples() -> None:
    r = rng(2)
    y, guess, taken = r.integers(0, 4, 70), r.integers(0, 4, 70), r.random(70) < 0.6
    by_name = {
        "accuracy": m.accuracy,
        "balanced_accuracy": m.balanced_accuracy,
        "mcc": m.mcc,
        "fnr": m.fnr,
        "fpr": m.fpr,
        "miss_rate": m.miss_rate,
    }
    w = weights(70, 30)
    values = m.label_statistics([*by_name, "coverage", "error"], y, guess, taken)(w)
    for b, row in enumerate(w):
        again = np.repeat(np.arange(70), row)
        for name, metric in by_name.items():
            expected = metric(y[again], guess[again], taken[again])
            assert values[name][b] == pytest.approx(expected, abs=1e-12), name
        assert values["coverage"][b] == pytest.approx(taken[again].mean())
        assert values["error"][b] == pytest.approx(1 - values["accuracy"][b])


def test_probability_and_auroc_statistics_equal_materialised_resamples() -> None:
    r = rng(3)
    p, y = r.dirichlet(np.ones(3), 80), r.integers(0, 3, 80)
    w = weights(80, 20)
    values = m.probability_statistics(["nll", "brier", "ece"], p, y)(w)
    area = m.auroc_statistics("auroc", np.round(p[:, 1], 1), y == 1)(w)["auroc"]
    for b, row in enumerate(w):
        again = np.repeat(np.arange(80), row)
        for name, metric in {"nll": m.nll, "brier": m.brier, "ece": m.ece}.items():
            assert values[name][b] == pytest.approx(metric(p[again], y[again]), abs=1e-12), name
        expected = m.auroc(np.round(p[again, 1], 1), y[again] == 1)
        assert area[b] == pytest.approx(expected, abs=1e-12)


def test_weights_are_multinomial_counts() -> None:
    w = weights(7, 3000)
    assert w.shape == (3000, 7)
    assert (w.sum(axis=1) == 7).all()
    assert w.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
    assert w.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.15)


def test_groups_enter_and_leave_together() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"], dtype=object)
    w = np.concatenate(list(m.bootstrap_weights(6, 50, groups, rng())))
    assert (w[:, 0] == w[:, 2]).all()
    assert (w[:, 0] == w[:, 5]).all()
    assert (w[:, 1] == w[:, 4]).all()
    assert (w[:, 0] + w[:, 1] + w[:, 3] == 3).all()


def test_interval_holds_the_metric_and_is_reproducible() -> None:
    s, e = sample(300, ties=False)
    first = m.bootstrap(["augrc", "coverage_at_risk@0.1"], s, e, rng=rng(9))
    assert first == m.bootstrap(["augrc", "coverage_at_risk@0.1"], s, e, rng=rng(9))
    assert first["augrc"].value == pytest.approx(m.augrc(s, e), abs=1e-15)
    assert first["augrc"].low < first["augrc"].value < first["augrc"].high


def test_groups_widen_the_interval_of_repeated_samples() -> None:
    s, e = sample(60, ties=False)
    site = np.repeat(np.arange(60), 10)
    single = m.bootstrap(["error"], s[site], e[site], rng=rng())["error"]
    whole = m.bootstrap(["error"], s[site], e[site], groups=site, rng=rng())["error"]
    assert whole.high - whole.low > 2.5 * (single.high - single.low)


def test_undefined_replicates_are_dropped_until_they_are_the_majority() -> None:
    y = np.zeros(200, dtype=int)
    y[:1] = 1
    some = m.bootstrap_statistics(
        m.label_statistics(["fnr"], y, np.zeros_like(y)), n=200, rng=rng(), n_replicates=200
    )["fnr"]
    assert (some.value, some.low, some.high) == (1, 1, 1)
    never = m.bootstrap_statistics(
        m.label_statistics(["fnr"], y, y, positive=5), n=200, rng=rng(), n_replicates=20
    )["fnr"]
    assert math.isnan(never.value)
    assert math.isnan(never.low)


def test_paired_comparison_cancels_what_is_shared() -> None:
    s, e = sample(400, ties=False)
    worse = s + rng(4).normal(scale=0.05, size=400)
    same = m.compare_paired("augrc", s, e, s, e, rng=rng())
    assert (same.difference.low, same.difference.high, same.p_value) == (0, 0, 1)
    found = m.compare_paired("augrc", s, e, worse, e, rng=rng())
    alone = m.bootstrap(["augrc"], s, e, rng=rng())["augrc"]
    assert found.difference.value == pytest.approx(found.a - found.b)
    assert found.difference.high - found.difference.low < 0.5 * (alone.high - alone.low)
    useless = m.compare_paired("augrc", s, e, rng(6).random(400), e, rng=rng())
    assert useless.difference.high < 0
    assert useless.p_value == pytest.approx(2 / 1001)


def test_undefined_comparison_has_no_p_value() -> None:
    s = rng().random(20)
    found = m.compare_paired("auroc_failure", s, np.zeros(20), s, np.zeros(20), rng=rng())
    assert math.isnan(found.p_value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s, e: m.bootstrap(["auc"], s, e, rng=rng()), r"unknown metrics \['auc'\]; known"),
        (lambda s, e: m.bootstrap(["risk@0.8"], s, e, rng=rng()), "unknown metrics"),
        (lambda s, e: m.bootstrap(["risk_at_coverage@x"], s, e, rng=rng()), "number after the @"),
        (lambda s, e: m.bootstrap(["risk_at_coverage@2"], s, e, rng=rng()), "coverage must be in"),
        (lambda s, e: m.bootstrap(["coverage_at_risk@-1"], s, e, rng=rng()), "risk must be at"),
        (lambda s, e: m.bootstrap(["augrc"], s, e, rng=rng(), n_replicates=0), "n_replicates"),
        (lambda s, e: m.bootstrap(["augrc"], s, e, rng=rng(), level=95), "level must be strictly"),
        (
            lambda s, e: m.bootstrap(["augrc"], s, e, rng=rng(), groups=[1, 2]),
            r"groups must have shape \(30,\), got \(2,\)",
        ),
        (
            lambda s, e: m.bootstrap(["auroc_failure"], s, e / 2, rng=rng()),
            "auroc_failure compares errors",
        ),
        (lambda s, e: m.compare_paired("augrc", s, e, s[:9], e[:9], rng=rng()), "A has 30 samples"),
    ],
)
def test_refusals(call: Callable[[Floats, Floats], object], text: str) -> None:
    s, e = sample(30, ties=False)
    with pytest.raises(DataError, match=text):
        call(s, e + (np.arange(30) == 0) * (1 - e))
