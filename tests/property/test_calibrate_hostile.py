"""Whatever comes in: probabilities, or one clear error."""

import warnings
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selectkit.calibrate import CALIBRATORS, choose
from selectkit.errors import CalibrationError, DataError

Logits = npt.NDArray[np.floating]

METHODS = sorted(CALIBRATORS)
hard = settings(derandomize=True, deadline=None, max_examples=60)
shapes = st.tuples(st.integers(1, 30), st.integers(2, 4))
any_float = st.floats(allow_nan=True, allow_infinity=True)
awkward = st.sampled_from([
    0.0,
    -0.0,
    1.0,
    1e-300,
    5e-324,
    -1e-300,
    1e300,
    -1e300,
    1e99,
    -1e99,
    745.0,
    -745.0,
    1e4,
    1.00002,
])
matrices = st.one_of(
    arrays(np.float64, shapes, elements=any_float),
    arrays(np.float64, shapes, elements=awkward),
    arrays(np.float16, shapes, elements=st.floats(-100, 100, width=16)),
    arrays(np.float64, shapes, elements=st.integers(-2, 2)),
    shapes.map(
        lambda shape: np.log(np.maximum(np.eye(shape[1])[np.arange(shape[0]) % shape[1]], 1e-300))
    ),
)


def _labels(logits: Logits, random: Random, classes: int) -> npt.NDArray[np.int64]:
    return np.array([random.randrange(min(classes, logits.shape[1])) for _ in logits])


def _is_answer(p: npt.NDArray[np.float64], shape: tuple[int, ...]) -> None:
    assert p.shape == shape
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@hard
@given(matrices, st.randoms(use_true_random=False), st.integers(1, 4), st.sampled_from([1, 8]))
def test_a_fit_is_an_answer_or_a_refusal(
    method: str, logits: Logits, random: Random, classes: int, copies: int
) -> None:
    z = np.tile(logits, (copies, 1))
    y = _labels(z, random, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)
        try:
            calibrator = CALIBRATORS[method].fit(z, y)
        except (DataError, CalibrationError):
            return
        _is_answer(calibrator.probabilities(z), z.shape)
        _is_answer(calibrator.probabilities(-z), z.shape)
    again = type(calibrator).from_parameters(calibrator.to_dict()["parameters"])
    assert again == calibrator


@hard
@given(matrices, st.randoms(use_true_random=False), st.integers(1, 4))
def test_a_choice_is_an_answer_or_a_refusal(logits: Logits, random: Random, classes: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            calibrator = choose(logits, _labels(logits, random, classes)).calibrator
        except (DataError, CalibrationError):
            return
        _is_answer(calibrator.probabilities(logits), logits.shape)
