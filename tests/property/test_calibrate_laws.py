"""Laws that every calibrator keeps, for any finite logits."""

from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selectkit.calibrate import AnyCalibrator, Identity, Platt, Temperature
from selectkit.errors import CalibrationError

Logits = npt.NDArray[np.float64]

finite = st.floats(-1e4, 1e4, width=32)
two_classes = arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=finite)
any_classes = arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(2, 7)), elements=finite)
moderate = arrays(
    np.float64, st.tuples(st.integers(5, 40), st.integers(2, 7)), elements=st.floats(-5, 5)
)
temperatures = st.floats(0.05, 20).map(Temperature)
platts = st.builds(Platt, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
law = settings(derandomize=True, deadline=None, max_examples=100)


@law
@given(two_classes, st.one_of(temperatures, platts, st.just(Identity())))
def test_rows_are_distributions(logits: Logits, calibrator: AnyCalibrator) -> None:
    p = calibrator.probabilities(logits)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)


@law
@given(two_classes, st.one_of(temperatures, platts, st.just(Identity())))
def test_each_row_is_answered_the_same_alone(logits: Logits, calibrator: AnyCalibrator) -> None:
    p = calibrator.probabilities(logits)
    alone = [calibrator.probabilities(row[np.newaxis])[0] for row in logits]
    np.testing.assert_array_equal(p, alone)


@law
@given(any_classes, temperatures)
def test_a_temperature_keeps_the_top_class(logits: Logits, calibrator: Temperature) -> None:
    p, rows = calibrator.probabilities(logits), np.arange(len(logits))
    assert (p[rows, logits.argmax(axis=1)] == p.max(axis=1)).all()


@law
@given(any_classes, temperatures, finite)
def test_a_shift_of_a_row_changes_nothing(
    logits: Logits, calibrator: Temperature, shift: float
) -> None:
    moved = calibrator.probabilities(logits + shift)
    np.testing.assert_allclose(moved, calibrator.probabilities(logits), atol=1e-8)


@law
@given(two_classes, platts)
def test_platt_keeps_the_order_of_the_positive_class(logits: Logits, calibrator: Platt) -> None:
    u = logits[:, 1] - logits[:, 0]
    p = calibrator.probabilities(logits)[:, 1]
    assert (np.diff(p[np.argsort(u, kind="stable")]) >= 0).all()


@law
@given(moderate, st.randoms(use_true_random=False), st.floats(0.5, 2.0))
def test_temperature_scales_with_the_logits_and_ignores_the_order_of_rows(
    logits: Logits, random: Random, factor: float
) -> None:
    y = np.array([random.randrange(logits.shape[1]) for _ in logits])
    try:
        plain = Temperature.fit(logits, y).temperature
        scaled = Temperature.fit(factor * logits, y).temperature
    except (CalibrationError, UserWarning):
        return
    assert scaled == pytest.approx(factor * plain, rel=1e-6)
    assert Temperature.fit(logits[::-1], y[::-1]).temperature == pytest.approx(plain, rel=1e-6)
