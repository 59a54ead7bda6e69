"""Vector scaling, matrix scaling and Dirichlet: known parameters, peers, penalties, refusals."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize

from selectkit.arrays import log_softmax, softmax
from selectkit.calibrate import Beta, Dirichlet, MatrixScaling, Platt, Temperature, VectorScaling
from selectkit.errors import CalibrationError, ConfigError, DataError
from tests.unit.calibrate.calibrate_samples import Floats, Labels, affine_sample, nll, two

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def _objective(v: Floats, x: Floats, y: Labels, penalties: tuple[float, float]) -> float:
    """Written out from the definition: W, then b."""
    k = x.shape[1]
    w, b = v[: k * k].reshape(k, k), v[k * k :]
    off = w - np.diag(np.diag(w))
    fit = -log_softmax(x @ w.T + b)[np.arange(len(y)), y].mean()
    return float(fit + penalties[0] * (off**2).sum() + penalties[1] * (b**2).sum())


def _flat(calibrator: Dirichlet | MatrixScaling) -> Floats:
    return np.asarray(np.r_[np.ravel(calibrator.weights), calibrator.bias])


def test_vector_scaling_recovers_slopes_and_intercepts() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(40_000, 4)) * 3
    w, b = np.array([0.3, 0.5, 0.7, 0.9]), np.array([0.5, -0.5, 1.0, -1.0])
    y = (z * w + b + rng.gumbel(size=z.shape)).argmax(axis=1)
    fitted = VectorScaling.fit(z, y)
    np.testing.assert_allclose(fitted.weights, w, atol=0.03)
    np.testing.assert_allclose(fitted.bias, b, atol=0.08)
    np.testing.assert_allclose(
        fitted.probabilities(z[:5]), softmax(z[:5] * fitted.weights + fitted.bias)
    )


def test_at_the_minimum_of_vector_scaling_mean_probabilities_are_class_shares() -> None:
    z, y, _, _ = affine_sample(900, 5)
    p = VectorScaling.fit(z, y).probabilities(z)
    np.testing.assert_allclose(p.mean(axis=0), np.bincount(y) / 900, atol=1e-6)
    hits = np.eye(5)[y]
    np.testing.assert_allclose((p * z).mean(axis=0), (hits * z).mean(axis=0), atol=1e-6)


def test_matrix_scaling_recovers_the_map() -> None:
    z, y, w, b = affine_sample(60_000, 3)
    fitted = MatrixScaling.fit(z, y, penalties=(0.0, 0.0))

    def centred(m: Floats) -> Floats:
        return np.asarray(m - m.mean(axis=0))

    np.testing.assert_allclose(centred(np.array(fitted.weights)), centred(w), atol=0.03)
    np.testing.assert_allclose(centred(np.array(fitted.bias)), centred(b), atol=0.05)
    expected = softmax(z[:100] @ w.T + b)
    np.testing.assert_allclose(fitted.probabilities(z[:100]), expected, atol=0.04)


@pytest.mark.parametrize("kind", [MatrixScaling, Dirichlet])
@pytest.mark.parametrize("penalties", [(1e-3, 1e-2), (0.1, 1e-4)])
def test_the_penalised_objective_is_no_higher_than_a_peers(
    kind: type[MatrixScaling | Dirichlet], penalties: tuple[float, float]
) -> None:
    z, y, _, _ = affine_sample(800, 4)
    x = log_softmax(z) if kind is Dirichlet else z
    peer = minimize(
        _objective, np.r_[np.eye(4).ravel(), np.zeros(4)], (x, y, penalties), method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 200_000, "ftol": 1e-14},
    )  # fmt: skip
    fitted = kind.fit(z, y, penalties=penalties)
    assert fitted.penalties == penalties
    assert _objective(_flat(fitted), x, y, penalties) <= peer.fun + 1e-10
    np.testing.assert_allclose(_flat(fitted), peer.x, atol=5e-3)


@pytest.mark.parametrize("kind", [MatrixScaling, Dirichlet])
def test_the_penalty_is_symmetric_in_the_classes(kind: type[MatrixScaling | Dirichlet]) -> None:
    z, y, _, _ = affine_sample(500, 4)
    order = np.array([2, 0, 3, 1])
    fitted = kind.fit(z, y, penalties=(0.01, 0.01))
    permuted = kind.fit(z[:, order], np.argsort(order)[y], penalties=(0.01, 0.01))
    np.testing.assert_allclose(
        permuted.probabilities(z[:, order]), fitted.probabilities(z)[:, order], atol=1e-6
    )


def test_penalties_are_chosen_by_what_is_held_out() -> None:
    z, y, _, _ = affine_sample(400, 4)
    diagonal = (z * 0.5 + np.random.default_rng(5).gumbel(size=z.shape)).argmax(axis=1)
    strong = MatrixScaling.fit(z, diagonal)
    assert strong.penalties[0] >= 0.1  # nothing off the diagonal
    rng = np.random.default_rng(6)
    mixed = (z @ rng.normal(size=(4, 4)) + rng.gumbel(size=z.shape)).argmax(axis=1)
    assert MatrixScaling.fit(z, mixed).penalties[0] <= 1e-2
    again = MatrixScaling.fit(z, diagonal, folds=np.arange(400) % 3)
    assert again.penalties[0] >= 0.1
    with pytest.raises(DataError, match="folds must name at least two folds"):
        MatrixScaling.fit(z, y, folds=np.zeros(400, dtype=np.int64))
    with pytest.raises(DataError, match=r"folds must be integers of shape \(400,\)"):
        Dirichlet.fit(z, y, folds=np.zeros(3))


def test_for_two_classes_dirichlet_without_penalties_is_beta() -> None:
    rng = np.random.default_rng(2)
    u = rng.normal(size=3000) * 3
    p = softmax(two(u))
    v = 0.7 * np.log(p[:, 1]) - 1.2 * np.log(p[:, 0]) + 0.3
    y = (rng.random(3000) < 1 / (1 + np.exp(-v))).astype(np.int64)
    beta = Beta.fit(two(u), y)
    assert min(beta.a, beta.b) > 0.3
    dirichlet = Dirichlet.fit(two(u), y, penalties=(0.0, 0.0))
    np.testing.assert_allclose(
        dirichlet.probabilities(two(u)), beta.probabilities(two(u)), atol=1e-5
    )


def test_for_two_classes_vector_scaling_is_a_logistic_curve() -> None:
    rng = np.random.default_rng(2)
    u = rng.normal(size=5000) * 2
    y = (rng.random(5000) < 1 / (1 + np.exp(-(0.6 * u - 1)))).astype(np.int64)
    z = np.stack([-u / 2, u / 2], axis=1)
    np.testing.assert_allclose(
        VectorScaling.fit(z, y).probabilities(z), Platt.fit(z, y).probabilities(z), atol=2e-3
    )


def test_float32_probabilities_of_zero_do_not_poison_dirichlet() -> None:
    z, y, _, _ = affine_sample(600, 3)
    z[:50] *= 100
    fitted = Dirichlet.fit(z.astype(np.float32), y, penalties=(1e-3, 1e-3))
    p = fitted.probabilities(z)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)


def test_a_real_network_is_calibrated_better_by_more_parameters() -> None:
    path = DATA / "resnet50_c10_ce" / "resnet50_c10_ce.npz"
    if not path.is_file():
        pytest.skip("the logits are not here")
    with np.load(path) as arrays:
        z, y = arrays["val_logits"], arrays["val_labels"]
        test = arrays["test_logits"], arrays["test_labels"]
    temperature = nll(Temperature.fit(z, y).probabilities(z), y)
    assert nll(VectorScaling.fit(z, y).probabilities(z), y) < temperature
    dirichlet = Dirichlet.fit(z, y, penalties=(1e-2, 1e-3))
    uncalibrated = nll(np.maximum(softmax(test[0]), 1e-30), test[1])
    assert nll(dirichlet.probabilities(test[0]), test[1]) < uncalibrated


@pytest.mark.parametrize("kind", [VectorScaling, MatrixScaling, Dirichlet])
def test_what_cannot_be_fitted_is_refused(
    kind: type[VectorScaling | MatrixScaling | Dirichlet],
) -> None:
    z, y, _, _ = affine_sample(60, 3)
    with pytest.raises(CalibrationError, match=r"(samples|the classes) can be separated"):
        kind.fit(z, z.argmax(axis=1))
    with pytest.raises(CalibrationError, match="class 2 has no sample among these 60"):
        kind.fit(z, np.tile([0, 1], 30))
    with pytest.raises(CalibrationError, match="all 60 labels are class 1"):
        kind.fit(z, np.ones(60, dtype=np.int64))
    with pytest.raises(DataError, match=r"logits reach 1e\+200; beyond 1e\+100"):
        kind.fit(np.where(z > 4, 1e200, z), y)
    fitted = kind.fit(*affine_sample(2000, 3)[:2])
    with pytest.raises(DataError, match="fitted on 3 classes, got logits of 4"):
        fitted.probabilities(np.zeros((1, 4)))


def test_penalties_must_be_numbers_from_zero_up() -> None:
    z, y, _, _ = affine_sample(60, 3)
    for wrong in [(-1.0, 0.0), (0.0, np.inf), (np.nan, 0.0)]:
        with pytest.raises(ConfigError, match="penalties must be finite and at least 0"):
            Dirichlet.fit(z, y, penalties=wrong)


def test_rows_keep_their_order() -> None:
    z, y, _, _ = affine_sample(500, 3)
    order: npt.NDArray[np.int64] = np.random.default_rng(0).permutation(500)
    for kind in (VectorScaling, MatrixScaling, Dirichlet):
        fitted = kind.fit(z, y)
        np.testing.assert_allclose(
            fitted.probabilities(z[order]), fitted.probabilities(z)[order], atol=1e-12
        )
