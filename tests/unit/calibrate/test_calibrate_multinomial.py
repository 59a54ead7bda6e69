"""The multinomial objective and its minimum: derivatives, penalties, samples of many rows."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import approx_fprime, minimize

from selectkit.calibrate import multinomial
from selectkit.calibrate.multinomial import Multinomial, minimum
from selectkit.errors import CalibrationError

Floats = npt.NDArray[np.float64]


def _problem(n: int = 300, k: int = 3, m: int = 2, seed: int = 0) -> Multinomial:
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=(m, n)), np.ones((1, n))])
    v = rng.normal(size=(k, m + 1))
    y = (v @ x + rng.gumbel(size=(k, n))).argmax(axis=0)
    free = rng.random((k, m + 1)) < 0.8
    return Multinomial(x, y, free, rng.random((k, m + 1)) * 0.1)


def _at(problem: Multinomial, v: Floats, free: Floats) -> Floats:
    full = v.copy()
    full[problem.free] = free
    return full


def test_the_gradient_is_the_slope_of_the_value() -> None:
    problem = _problem()
    v = np.random.default_rng(1).normal(size=problem.free.shape)

    def value(free: Floats) -> float:
        return problem.value_and_gradient(_at(problem, v, free))[0]

    slope = approx_fprime(v[problem.free], value, 1e-7)
    gradient = problem.value_and_gradient(v)[1]
    np.testing.assert_allclose(gradient[problem.free], slope, atol=1e-6)
    assert not gradient[~problem.free].any()


def test_the_hessian_is_the_slope_of_the_gradient() -> None:
    problem = _problem()
    v = np.random.default_rng(1).normal(size=problem.free.shape)

    def gradient(free: Floats) -> Floats:
        return problem.value_and_gradient(_at(problem, v, free))[1][problem.free]

    slope = approx_fprime(v[problem.free], gradient, 1e-7)
    np.testing.assert_allclose(problem.hessian(v), slope, atol=1e-6)


@pytest.mark.parametrize("limit", [10_000, 0])
def test_the_minimum_is_that_of_an_independent_solver(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multinomial, "_NEWTON_PARAMETERS", limit)
    problem, start = _problem(), np.ones((3, 3))

    def value(free: Floats) -> float:
        return problem.value_and_gradient(_at(problem, start, free))[0]

    peer = minimize(value, start[problem.free], method="BFGS", options={"gtol": 1e-8})
    found = minimum(problem, start)
    assert value(found[problem.free]) <= peer.fun + 1e-9
    np.testing.assert_allclose(found[problem.free], peer.x, atol=2e-3)
    np.testing.assert_array_equal(found[~problem.free], 1.0)


def test_blocks_and_samples_of_rows_do_not_change_the_minimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = _problem(n=5000)
    plain = minimum(problem, np.zeros((3, 3)))
    monkeypatch.setattr(multinomial, "_BLOCK", 77)
    monkeypatch.setattr(multinomial, "SAMPLED_ROWS", 500)
    np.testing.assert_allclose(minimum(problem, np.zeros((3, 3))), plain, atol=1e-5)


def test_a_sample_that_says_nothing_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _problem(n=4000)
    y = problem.y.copy()
    y[:: 4000 // 500] = 0  # the sampled rows are of one class
    monkeypatch.setattr(multinomial, "SAMPLED_ROWS", 500)
    all_rows = Multinomial(problem.x, y, np.ones((3, 3), dtype=np.bool_), np.zeros((3, 3)))
    found = minimum(all_rows, np.zeros((3, 3)))
    assert np.abs(all_rows.value_and_gradient(found)[1]).max() < 1e-7


@pytest.mark.parametrize("overlap", [0.0, -0.5])
def test_classes_that_can_be_separated_are_refused(overlap: float) -> None:
    u = np.r_[np.linspace(-3, overlap, 40), np.linspace(0, 3, 40)]
    x = np.stack([u, np.ones(80)])
    problem = Multinomial(
        x, np.repeat([0, 1], 40), np.array([[False] * 2, [True] * 2]), np.zeros((2, 2))
    )
    with pytest.raises(CalibrationError, match="classes of these 80 samples can be separated"):
        minimum(problem, np.zeros((2, 2)))
    mixed = Multinomial(x, np.tile([0, 1], 40), problem.free, problem.penalty)
    assert np.isfinite(minimum(mixed, np.zeros((2, 2)))).all()
