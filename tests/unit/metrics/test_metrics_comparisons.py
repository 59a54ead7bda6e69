"""Many comparisons, Holm's rule, tables of groups, rates of labels, costs."""

from math import isnan, nan
from typing import Any

import numpy as np
import pytest

from selectkit import metrics as m
from selectkit.errors import DataError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5], [0.5]),
        ([], []),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.02, nan, 0.04], [0.04, nan, 0.04]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        ([0.0, 1.0], [0.0, 1.0]),
    ],
)
def test_holm_by_hand(p: list[float], expected: list[float]) -> None:
    assert m.holm(p) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("p", [[0.1, -0.1], [1.1], [[0.1]], ["a"]])
def test_holm_refuses_what_is_no_p_value(p: Any) -> None:
    with pytest.raises(DataError):
        m.holm(p)


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    r = rng(1)
    for _ in range(200):
        p = r.random(6) ** 3
        rejected = np.zeros(6, dtype=bool)
        for rank, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (6 - rank):
                break
            rejected[i] = True
        assert ((np.array(m.holm(p.tolist())) <= 0.05 + 1e-15) == rejected).all()


def classifiers(n: int = 300) -> dict[str, tuple[Any, Any]]:
    r = rng(2)
    s = r.random(n)
    e = r.random(n) < 0.6 * (1 - s)
    return {"good": (s, e), "noisy": (s + r.normal(size=n) / 3, e), "none": (r.random(n), e)}


def test_many_comparisons_are_the_paired_ones_with_adjusted_p_values() -> None:
    many = classifiers()
    found = m.compare_many("augrc", many, reference="good", rng=rng(3))
    assert list(found) == ["noisy", "none"]
    assert m.holm([c.p_value for c in found.values()]) == [c.p_holm for c in found.values()]
    for name, pair in found.items():
        alone = m.compare_paired("augrc", *many[name], *many["good"], rng=rng(3))
        assert isnan(alone.p_holm)
        assert (pair.a, pair.b) == (alone.a, alone.b)
        assert (pair.difference, pair.p_value) == (alone.difference, alone.p_value)
    assert found["none"].difference.low > 0


def test_groups_and_strata_of_comparisons() -> None:
    many = classifiers(60)
    again = np.repeat(np.arange(60), 10)
    (s, e), (t, f) = many["good"], many["noisy"]
    alone = m.compare_paired("augrc", s, e, t, f, rng=rng())
    whole = m.compare_paired(
        "augrc", s[again], e[again], t[again], f[again], groups=again, rng=rng()
    )
    width = alone.difference.high - alone.difference.low
    assert whole.difference.high - whole.difference.low == pytest.approx(width, rel=0.15)
    fixed = m.compare_many("error", many, reference="good", strata=e, rng=rng())
    assert fixed["none"].difference == m.Interval(0, 0, 0)


def test_statistics_are_compared_by_name() -> None:
    y, a, b = [0, 1, 1, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1]
    found = m.compare_statistics(
        m.label_statistics(["error", "mcc"], y, a),
        m.label_statistics(["error", "coverage"], y, b),
        n=5,
        n_replicates=200,
        rng=rng(),
    )
    assert list(found) == ["error"]
    assert [found["error"].a, found["error"].b] == pytest.approx([0.2, 0.6])
    assert found["error"].difference.value == pytest.approx(-0.4)


@pytest.mark.parametrize(
    ("reference", "extra", "text"),
    [
        ("best", {}, "reference 'best' is not among good, noisy, none"),
        ("good", {"short": ([1.0], [0])}, "comparisons need the same samples, got lengths"),
    ],
)
def test_comparisons_that_cannot_be(reference: str, extra: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        m.compare_many("augrc", {**classifiers(), **extra}, reference=reference, rng=rng())


def test_a_table_of_groups_holds_each_group_by_itself() -> None:
    r = rng(4)
    s, e = r.random(200), r.random(200) < 0.3
    site = np.array(["north", "south"])[r.integers(0, 2, 200)]
    site[17] = "alone"
    rows = m.group_table(["augrc", "error"], s, e, site, rng=rng())
    assert [row.group for row in rows] == ["alone", "north", "south"]
    assert sum(row.n for row in rows) == 200
    for row in rows:
        inside = site == row.group
        assert row.metrics["augrc"].value == pytest.approx(m.augrc(s[inside], e[inside]), abs=1e-12)
        assert isnan(row.metrics["error"].low) == (row.group == "alone")


def test_clusters_of_a_table() -> None:
    r = rng(5)
    again = np.repeat(np.arange(50), 8)
    s, e = r.random(50)[again], (r.random(50) < 0.4)[again]
    half = np.where(again < 49, "many", "one")
    narrow = m.group_table(["error"], s, e, half, rng=rng())
    wide = m.group_table(["error"], s, e, half, clusters=again, rng=rng())
    widths = [t[0].metrics["error"].high - t[0].metrics["error"].low for t in (narrow, wide)]
    assert widths[1] > 2 * widths[0]
    assert isnan(wide[1].metrics["error"].low)


@pytest.mark.parametrize(
    ("by", "clusters", "text"),
    [
        ([1], None, r"by must have shape \(2,\), got \(1,\)"),
        ([1, 2], [1, 2, 3], r"clusters must have shape \(2,\), got \(3,\)"),
        ([1.0, nan], None, "by is NaN in row 1"),
        (np.array([1, "a"], dtype=object), None, "by must be of one sortable kind"),
    ],
)
def test_tables_that_cannot_be(by: Any, clusters: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        m.group_table(["error"], [1, 2], [0, 1], by, clusters=clusters, rng=rng())


def test_intervals_of_rates_are_those_of_resampled_rows() -> None:
    """Drawing outcomes is drawing rows: the quantiles agree within their own noise."""
    r = rng(6)
    y, guess, taken = r.integers(0, 3, 500), r.integers(0, 3, 500), r.random(500) < 0.7
    names = ["accuracy", "balanced_accuracy", "coverage", "fnr", "fpr", "mcc", "miss_rate"]
    fast = m.label_intervals(names, y, guess, taken, n_replicates=4000, rng=rng())
    slow = m.label_intervals(
        names, y, guess, taken, groups=np.arange(500), n_replicates=4000, rng=rng()
    )
    for name in names:
        width = slow[name].high - slow[name].low
        assert fast[name].value == slow[name].value
        assert fast[name].low == pytest.approx(slow[name].low, abs=0.1 * width), name
        assert fast[name].high == pytest.approx(slow[name].high, abs=0.1 * width), name


def test_costs_are_losses() -> None:
    costs = [[0, 1, 2], [10, 0, 5], [-1, 3, 0]]
    y, guess = [0, 1, 2, 1], [2, 0, 0, 1]
    losses = m.cost_losses(y, guess, costs)
    assert losses.tolist() == [2, 10, -1, 0]
    assert m.selective_metrics(["error"], [1, 2, 3, 4], losses)["error"] == pytest.approx(11 / 4)
    refused: list[tuple[Any, str]] = [
        ([[0, 1]], "shape"),
        ([[0, nan], [1, 0]], "costs is nan in row 0"),
    ]
    for wrong, text in refused:
        with pytest.raises(DataError, match=text):
            m.cost_losses([0, 1], [0, 1], wrong)
    with pytest.raises(DataError, match="label 3 in row 0 is outside"):
        m.cost_losses([3], [0], costs)
