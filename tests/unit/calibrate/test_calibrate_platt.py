"""Platt scaling: published targets, an independent solver on real data, and refusals."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression

from selectkit.calibrate import Platt
from selectkit.calibrate.platt import targets
from selectkit.errors import CalibrationError, DataError

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def _two(u: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Two columns of logits with difference u."""
    u = np.asarray(u, dtype=np.float64)
    return np.stack([-0.25 * u, 0.75 * u], axis=1)


def _peer(u: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Unregularised logistic regression: every row once per label, weighed by its target."""
    t = targets(y)
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    model.fit(
        np.concatenate([u, u])[:, np.newaxis],
        np.repeat([1, 0], len(u)),
        sample_weight=np.concatenate([t, 1 - t]),
    )
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def test_platts_targets() -> None:
    t = targets(np.repeat([1, 0], [10, 90]))
    np.testing.assert_allclose(t[[0, -1]], [0.916667, 0.010870], atol=5e-7)


def test_real_probabilities_are_recalibrated_as_by_scikit_learn() -> None:
    path = DATA / "two_class_example" / "two_class_example.csv"
    if not path.is_file():
        pytest.skip("the predictions are not here")
    table = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    y = (np.char.strip(table["truth"], '"') == "Class1").astype(np.int64)
    assert 0 < y.sum() < len(y) == 500
    p = np.clip(np.stack([table["Class2"], table["Class1"]], axis=1), 1e-12, 1)
    logits = np.log(p)
    fitted = Platt.fit(logits, y)
    expected = _peer(logits[:, 1] - logits[:, 0], y)
    np.testing.assert_allclose((fitted.slope, fitted.intercept), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_any_scale_and_shift_of_the_logits_is_undone(scale: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=2000) * 2
    y = (rng.random(2000) < 1 / (1 + np.exp(-(0.7 * u - 1)))).astype(np.int64)
    plain, moved = Platt.fit(_two(u), y), Platt.fit(_two(scale * (u + shift)), y)
    assert plain.slope == pytest.approx(0.7, rel=0.15)
    assert plain.intercept == pytest.approx(-1, abs=0.2)
    assert moved.slope * scale == pytest.approx(plain.slope, rel=1e-6)
    assert moved.intercept + moved.slope * scale * shift == pytest.approx(
        plain.intercept, abs=1e-3 if shift else 1e-8
    )


def test_separable_classes_stay_finite() -> None:
    u = np.r_[np.linspace(-5, -1, 20), np.linspace(1, 5, 20)]
    fitted = Platt.fit(_two(u), np.repeat([0, 1], 20))
    p = fitted.probabilities(_two(u))[:, 1]
    assert 0 < p.min() < 0.1
    assert 0.9 < p.max() < 1


def test_a_wild_start_still_converges() -> None:
    u = np.r_[np.zeros(500), 1000.0, np.linspace(-1, 1, 50)]
    y = np.r_[np.zeros(250), np.ones(250), 1, np.repeat([0, 1], 25)].astype(np.int64)
    fitted = Platt.fit(_two(u), y)
    t = targets(y)
    residual = fitted.probabilities(_two(u))[:, 1] - t
    assert abs(residual.sum()) < 1e-6
    assert abs((residual * u).sum()) < 1e-4


def test_the_intercept_can_move_the_predicted_class() -> None:
    assert Platt(1.0, -2.0).probabilities(_two([1.0])).argmax() == 0
    np.testing.assert_allclose(Platt(1.0, 0.0).probabilities(_two([-800, 800])), np.eye(2))


def test_what_cannot_be_fitted_is_refused() -> None:
    u, y = np.linspace(-1, 1, 10), np.repeat([0, 1], 5)
    with pytest.raises(DataError, match="for two classes, got 3; use temperature scaling"):
        Platt.fit(np.zeros((10, 3)), y)
    with pytest.raises(DataError, match="for two classes, got 3; use temperature scaling"):
        Platt(1.0, 0.0).probabilities(np.zeros((10, 3)))
    with pytest.raises(CalibrationError, match="all 10 labels are class 1: Platt scaling needs"):
        Platt.fit(_two(u), np.ones(10, dtype=np.int64))
    with pytest.raises(CalibrationError, match="all 10 logit differences are 2: there is nothing"):
        Platt.fit(_two(np.full(10, 2.0)), y)
    with pytest.raises(
        CalibrationError, match=r"the logits are no better than chance\. Check that"
    ):
        Platt.fit(_two(-u), y)
