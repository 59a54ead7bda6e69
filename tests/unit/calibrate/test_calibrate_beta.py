"""Beta calibration: known parameters, an independent solver, signs, and refusals."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize

from selectkit.arrays import softmax
from selectkit.calibrate import Beta
from selectkit.errors import CalibrationError, DataError
from tests.unit.calibrate.calibrate_samples import Floats, Labels, two


def _sample(a: float, b: float, c: float, n: int, seed: int = 0) -> tuple[Floats, Labels]:
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n) * 2
    p = softmax(two(u))
    v = a * np.log(p[:, 1]) - b * np.log(p[:, 0]) + c
    return two(u), (rng.random(n) < 1 / (1 + np.exp(-v))).astype(np.int64)


def test_known_parameters_are_recovered() -> None:
    fitted = Beta.fit(*_sample(0.5, 1.5, 0.4, 60_000))
    np.testing.assert_allclose((fitted.a, fitted.b, fitted.c), (0.5, 1.5, 0.4), atol=0.1)


def test_ones_and_zero_change_nothing() -> None:
    z = two(np.linspace(-30, 30, 50))
    np.testing.assert_allclose(Beta(1.0, 1.0, 0.0).probabilities(z), softmax(z), atol=1e-12)


@pytest.mark.parametrize(
    "parameters", [(0.8, 0.8, 0.0), (0.5, 1.5, 0.4), (-0.6, 1.5, 0.0), (1.5, -0.6, 0.0)]
)
def test_it_is_the_constrained_minimum(parameters: tuple[float, float, float]) -> None:
    z, y = _sample(*parameters, n=1500, seed=1)
    p = softmax(z)
    features = np.stack([np.log(p[:, 1]), -np.log(p[:, 0]), np.ones(len(y))])

    def loss(theta: npt.NDArray[np.float64]) -> float:
        v = theta @ features
        return float((np.logaddexp(0, v) - y * v).mean())

    peer = minimize(
        loss, [1.0, 1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (0, None), (None, None)],
        options={"ftol": 1e-15},
    )  # fmt: skip
    fitted = Beta.fit(z, y)
    found = np.array([fitted.a, fitted.b, fitted.c])
    assert loss(found) <= peer.fun + 1e-9
    np.testing.assert_allclose(found, peer.x, atol=2e-3)
    assert min(found[:2]) >= 0
    if min(parameters) < 0:
        assert min(found[:2]) == 0


def test_the_order_of_the_positive_class_is_kept() -> None:
    fitted = Beta.fit(*_sample(-0.6, 1.5, 0.0, 1500))
    p = fitted.probabilities(two(np.linspace(-80, 80, 500)))[:, 1]
    assert (np.diff(p) >= 0).all()


def test_classes_apart_only_for_curves_that_are_no_calibrators_are_fitted() -> None:
    u = np.r_[np.linspace(-4, -3, 30), np.linspace(-1, 1, 30), np.linspace(3, 4, 30)]
    y = np.repeat([0, 1, 0], 30)  # a hump separates them; no increasing curve does
    y[[85, 86, 87]] = 1
    y[30:45] = 0
    fitted = Beta.fit(two(u), y)
    assert max(fitted.a, fitted.b) > 0


def test_what_cannot_be_fitted_is_refused() -> None:
    u, y = np.linspace(-1, 1, 10), np.repeat([0, 1], 5)
    with pytest.raises(DataError, match="for two classes, got 3; use 'dirichlet'"):
        Beta.fit(np.zeros((10, 3)), y)
    with pytest.raises(DataError, match="for two classes, got 3; use 'dirichlet'"):
        Beta(1.0, 1.0, 0.0).probabilities(np.zeros((10, 3)))
    with pytest.raises(CalibrationError, match="right every time on these 10 samples, up to a"):
        Beta.fit(two(u), y)
    with pytest.raises(CalibrationError, match="no better than chance on these 10 samples"):
        Beta.fit(two(-u), y)
    with pytest.raises(CalibrationError, match="all 10 labels are class 0"):
        Beta.fit(two(u), np.zeros(10, dtype=np.int64))
