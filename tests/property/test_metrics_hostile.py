"""Any input gives the right value or a DataError: no other exception, no warning, no infinity."""

from collections.abc import Callable
from functools import partial
from math import isinf, isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit import metrics as m
from selectkit.errors import DataError

Metric = Callable[..., float]

laws = settings(derandomize=True, deadline=None, max_examples=150)

SELECTIVE = ["augrc", "aurc", "aurc_mean", "e_augrc", "e_aurc", "error"]
ODD = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, 1e300, -1e300, 1e-320, 65504.0]
DTYPES = ["float16", "float32", "float64", "longdouble", ">f8", "bool", "int8", "int64", "uint64"]
DTYPES += ["complex128", "object", "str", "datetime64[s]"]
SHAPES = [(0,), (1,), (2,), (5,), (5, 1), (1, 5), (2, 3), (3, 2), (5, 2), (), (0, 3), (2, 2, 2)]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arrays of any dtype and shape, read-only, reversed, strided, as lists; and no arrays."""
    shape = draw(st.sampled_from(SHAPES))
    dtype = draw(st.sampled_from(DTYPES))
    size = int(np.prod(shape))
    if dtype in {"bool", "int8", "int64", "uint64", "datetime64[s]"}:
        values: Any = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    else:
        number = st.one_of(st.sampled_from(ODD), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
        values = draw(st.lists(number, min_size=size, max_size=size))
    with np.errstate(over="ignore"):
        array = np.array(values).astype(dtype).reshape(shape)
    form = draw(st.sampled_from(["plain", "read-only", "reversed", "strided", "list", "odd"]))
    if form == "read-only":
        array.flags.writeable = False
    if form == "reversed" and array.ndim:
        array = array[::-1]
    if form == "strided" and array.ndim == 1:
        array = np.repeat(array, 2)[::2]
    if form == "list":
        return array.tolist()
    if form == "odd":
        return draw(st.sampled_from([None, "text", {}, [[1], [1, 2]], [None, 1], [10**400, 1]]))
    return array


def survives(call: Callable[[], Any]) -> None:
    """It returns numbers that are not infinite, or refuses."""
    try:
        found = call()
    except DataError:
        return
    values = found.values() if isinstance(found, dict) else [found]
    for value in values:
        each = (value.value, value.low, value.high) if isinstance(value, m.Interval) else (value,)
        assert not any(isinf(v) for v in each)


@laws
@given(arrays(), arrays())
def test_selective_metrics(confidence: Any, loss: Any) -> None:
    of_scores: list[Metric] = [m.augrc, m.aurc, m.e_augrc, m.e_aurc, m.auroc_failure]
    for metric in of_scores:
        survives(partial(metric, confidence, loss))
    survives(lambda: m.selective_metrics(SELECTIVE, confidence, loss))
    survives(lambda: m.bootstrap(SELECTIVE, confidence, loss, n_replicates=5, rng=rng()))
    survives(
        lambda: m.bootstrap(["error"], confidence, loss, n_replicates=5, rng=rng(), method="bca")
    )
    survives(lambda: m.delong(["augrc", "error"], confidence, loss))
    survives(lambda: m.delong(["auroc_failure", "e_augrc"], confidence, loss))
    survives(lambda: m.optimal_aurc(loss))
    survives(lambda: m.optimal_augrc(loss))
    survives(lambda: m.auroc(confidence, loss))
    survives(lambda: m.risk_coverage_curve(confidence, loss).risk.sum())
    survives(lambda: m.risk_at_coverage(confidence, loss, 0.5).risk)


@laws
@given(arrays(), arrays(), arrays())
def test_metrics_of_three_arrays(confidence: Any, loss: Any, third: Any) -> None:
    survives(lambda: m.aurc_balanced(confidence, loss, third))
    survives(lambda: m.augrc_balanced(confidence, loss, third))
    survives(
        lambda: m.bootstrap(["augrc"], confidence, loss, groups=third, n_replicates=3, rng=rng())
    )
    survives(
        lambda: m.bootstrap(["augrc"], confidence, loss, strata=third, n_replicates=3, rng=rng())
    )
    survives(lambda: len(m.group_table(["error"], confidence, loss, third, rng=rng())))
    survives(lambda: m.accuracy(confidence, loss, third))
    survives(lambda: m.cost_losses(confidence, loss, third).sum())
    survives(
        lambda: (
            m.compare_paired(
                "error", confidence, loss, third, loss, n_replicates=3, rng=rng()
            ).p_value
        )
    )


RAGGED: Any = [[1], [1, 2]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: m.ece(RAGGED, [0, 1]),
        lambda: m.ece([[0.5, 0.5]] * 2, RAGGED),
        lambda: m.nll(RAGGED, [0, 1]),
        lambda: m.nll_of_logits(RAGGED, [0, 1]),
        lambda: m.accuracy([0, 1], [0, 1], RAGGED),
        lambda: m.bootstrap(["error"], [1, 2], [0, 1], groups=RAGGED, rng=rng()),
        lambda: m.delong(["error"], [1, 2], [0, 1], groups=RAGGED),
        lambda: m.group_table(["error"], [1, 2], [0, 1], RAGGED, rng=rng()),
        lambda: m.compare_paired("error", RAGGED, [0, 1], [1, 2], [0, 1], rng=rng()),
        lambda: m.compare_many("error", {"a": (RAGGED, [0])}, reference="a", rng=rng()),
        lambda: m.cost_losses(RAGGED, [0], [[0, 1], [1, 0]]),
        lambda: m.probability_statistics(["ece"], [[0.5, 0.5]] * 2, [0, 1], accepted=RAGGED),
    ],
)
def test_ragged_lists_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(DataError, match="must be a regular array; its rows differ in length"):
        call()


@laws
@given(arrays(), arrays(), st.sampled_from(["width", "mass"]))
def test_metrics_of_probabilities(probabilities: Any, labels: Any, scheme: Any) -> None:
    binned: list[Metric] = [m.ece, m.mce, m.classwise_ece, m.debiased_squared_ece]
    for metric in binned:
        survives(partial(metric, probabilities, labels, 3, scheme))
    others: list[Metric] = [m.adaptive_ece, m.smooth_ece, m.nll, m.nll_of_logits, m.brier]
    for metric in others:
        survives(partial(metric, probabilities, labels))
    survives(lambda: m.brier_parts(probabilities, labels).brier)
    survives(lambda: m.smooth_reliability(probabilities, labels).ece)
    survives(lambda: m.ece_null_level(probabilities, 3, scheme))
    survives(lambda: m.calibration_null(m.ece, probabilities, labels, n_draws=2, rng=rng()).mean)


@laws
@given(arrays(), arrays())
def test_metrics_of_labels(labels: Any, predictions: Any) -> None:
    rates: list[Metric] = [m.accuracy, m.balanced_accuracy, m.mcc, m.fnr, m.fpr, m.miss_rate]
    for metric in rates:
        survives(partial(metric, labels, predictions))
    survives(
        lambda: m.label_intervals(["error", "mcc"], labels, predictions, n_replicates=3, rng=rng())
    )


PROBABILITIES = st.sampled_from([0.0, 1e-300, 5e-324, 1e-9, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])


@laws
@given(
    st.lists(st.tuples(PROBABILITIES, st.integers(0, 1)), min_size=1, max_size=20),
    st.sampled_from(["float64", "float32", "float16"]),
    st.sampled_from([0.0, 2e-5, -2e-5]),
)
def test_probabilities_at_the_edges(
    rows: list[tuple[float, int]], dtype: str, surplus: float
) -> None:
    """Exact zeros and ones, tiny numbers, half precision, rows that sum to 1.00002."""
    a = np.array([r[0] for r in rows])
    p = np.stack([a, np.maximum(1 - a + np.where(a > 0.5, surplus, 0), 0)], axis=1).astype(dtype)
    y = np.array([r[1] for r in rows])
    q = p.astype(np.float64)
    of_label = q[np.arange(len(y)), y]
    confidence, right = q.max(axis=1), q.argmax(axis=1) == y
    assert m.nll(p, y) == pytest.approx(-np.log(np.maximum(of_label, 1e-12)).mean())
    assert m.brier(p, y) == pytest.approx(((q - np.eye(2)[y]) ** 2).sum(axis=1).mean(), abs=1e-15)
    for n_bins in (1, 15):
        for scheme in ("width", "mass"):
            error = m.ece(p, y, n_bins, scheme)
            assert abs(confidence.mean() - right.mean()) - 1e-12 <= error <= 1 + 1e-6
    assert 0 <= m.smooth_ece(p, y) <= 1
    assert 0 <= m.classwise_ece(p, y) <= 1
    assert 0 <= m.ece_null_level(confidence) <= 0.5 + 1e-12
    assert m.brier_parts(p, y, 5).brier == pytest.approx(m.brier(p, y), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-20, 1e20, 1e99])
def test_real_losses_of_any_size_scale(scale: float) -> None:
    s, ell = rng().random(50), np.linspace(-1, 1, 50) ** 3
    base = m.bootstrap(SELECTIVE, s, ell, rng=rng(), n_replicates=200, method="bca")
    found = m.bootstrap(SELECTIVE, s, ell * scale, rng=rng(), n_replicates=200, method="bca")
    for name in SELECTIVE:
        for part in ("value", "low", "high"):
            expected = getattr(base[name], part) * scale
            assert getattr(found[name], part) == pytest.approx(
                expected, rel=1e-6, abs=1e-14 * scale
            )


def test_losses_too_large_for_sums_are_refused_by_name() -> None:
    calls: list[Callable[[npt.NDArray[np.float64]], object]] = [
        lambda ell: m.augrc([1, 2], ell),
        lambda ell: m.e_aurc([1, 2], ell),
        m.optimal_aurc,
        lambda ell: m.bootstrap(["error"], [1, 2], ell, rng=rng()),
        lambda ell: m.delong(["error"], [1, 2], ell),
        lambda ell: m.aurc_balanced([1, 2], ell, [0, 1]),
    ]
    for call in calls:
        with pytest.raises(DataError, match=r"loss is -1e\+300 in row 1; beyond 1e\+100"):
            call(np.array([0.5, -1e300]))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_class_alone(n_classes: int) -> None:
    p = np.full((4, n_classes), 1 / n_classes)
    y = np.zeros(4, dtype=int)
    assert m.brier_parts(p, y).uncertainty == 0
    assert m.balanced_accuracy(y, y) == 1
    assert m.mcc(y, y) == 0
    assert m.classwise_ece(p, y) == pytest.approx(2 * (n_classes - 1) / n_classes**2)
    assert isnan(m.auroc(p[:, 0], y == 0))
    assert isnan(m.fnr(y, y, positive=1))
    assert m.ece(p, y) == pytest.approx(1 - 1 / n_classes)
