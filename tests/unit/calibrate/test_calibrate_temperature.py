"""Temperature scaling: published and recovered values, and when the data do not identify it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize_scalar

from selectkit.arrays import log_softmax, softmax
from selectkit.calibrate import Identity, Temperature
from selectkit.errors import CalibrationError, DataError

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def _sample(
    n: int, k: int, scale: float, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Labels drawn from softmax(z), logits scale * z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * 1.5
    return scale * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1).astype(np.int64)


def test_the_temperature_of_a_published_network() -> None:
    path = DATA / "resnet50_c10_ce" / "resnet50_c10_ce.npz"
    if not path.is_file():
        pytest.skip("the logits are not here")
    with np.load(path) as arrays:
        logits, labels = arrays["val_logits"], arrays["val_labels"]
    assert Temperature.fit(logits, labels).temperature == pytest.approx(2.497520, abs=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 7.0])
@pytest.mark.parametrize("k", [2, 10])
def test_the_scale_of_the_logits_is_recovered(scale: float, k: int) -> None:
    fitted = Temperature.fit(*_sample(5000, k, scale))
    assert fitted.temperature == pytest.approx(scale, rel=0.05)


@pytest.mark.parametrize("n", [30, 700, 50_000])
def test_it_minimises_the_likelihood_as_an_independent_solver_does(n: int) -> None:
    z, y = _sample(n, 4, 3.0, seed=n)
    rows = np.arange(n)
    peer = minimize_scalar(
        lambda b: -log_softmax(b * z)[rows, y].mean(), bounds=(0.05, 20), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    assert Temperature.fit(z, y).temperature == pytest.approx(1 / peer.x, rel=1e-5)


def test_the_slope_vanishes_at_the_fit_to_rounding() -> None:
    z, y = _sample(60_000, 5, 0.3)
    b = 1 / Temperature.fit(z, y).temperature
    expected = (softmax(b * z) * z).sum(axis=1)
    assert abs((expected - z[np.arange(len(z)), y]).mean()) < 1e-10


def test_single_precision_logits_give_the_same() -> None:
    z, y = _sample(2000, 3, 2.0)
    single = z.astype(np.float32)
    assert (
        Temperature.fit(single, y).temperature
        == Temperature.fit(single.astype(np.float64), y).temperature
    )


def test_logits_that_are_always_right_are_refused() -> None:
    z, y = _sample(50, 3, 1.0)
    with pytest.raises(CalibrationError, match="right every time on these 50 samples"):
        Temperature.fit(z, z.argmax(axis=1))
    y = z.argmax(axis=1)
    y[0] = z[0].argmin()
    assert Temperature.fit(z, y).temperature < 1  # one error is enough


@pytest.mark.parametrize("reverse", [True, False])
def test_logits_no_better_than_chance_are_refused(reverse: bool) -> None:
    z, _ = _sample(50, 3, 1.0)
    y = z.argmin(axis=1) if reverse else np.zeros(50, dtype=np.int64)
    logits = z if reverse else np.tile([0.0, 1.0, 1.0], (50, 1))
    with pytest.raises(CalibrationError, match=r"logits are no better than chance\. Check that"):
        Temperature.fit(logits, y)


def test_equal_logits_are_refused() -> None:
    with pytest.raises(CalibrationError, match="these 4 samples: the logits are no better than"):
        Temperature.fit(np.ones((4, 2)), np.array([0, 1, 0, 1]))


@pytest.mark.parametrize(("scale", "bound"), [(1e-3, 0.05), (1e3, 20.0)])
def test_a_temperature_beyond_the_range_is_bounded_with_a_warning(
    scale: float, bound: float
) -> None:
    with pytest.warns(UserWarning, match=f"lies beyond {bound:g}, which is used instead"):
        assert Temperature.fit(*_sample(500, 3, scale)).temperature == bound


def test_rare_errors_that_a_thinned_sample_misses_are_found() -> None:
    z = np.tile([30.0, 0.0], (100_000, 1))
    y = np.zeros(100_000, dtype=np.int64)
    y[1::2000] = 1  # 50 errors; every fifth row starts at row 0 and meets none of them
    assert not y[::5].any()
    expected = 30 / np.log(99_950 / 50)
    assert Temperature.fit(z, y).temperature == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 1)), [0, 0], "logits must have at least 2 columns"),
        (np.array([[0.0, np.nan]]), [0], "logits is nan in row 0, column 1"),
        (np.zeros((2, 2)), [0, 2], r"label 2 in row 1 is outside \[0, 2\)"),
        (np.zeros((2, 2)), [0], r"labels must have shape \(2,\)"),
    ],
)
def test_unusable_arrays_are_refused(
    logits: npt.NDArray[np.float64], labels: list[int], message: str
) -> None:
    for fit in (Temperature.fit, Identity.fit):
        with pytest.raises(DataError, match=message):
            fit(logits, labels)


def test_probabilities_are_the_softmax_of_the_divided_logits() -> None:
    z, _ = _sample(100, 4, 1.0)
    np.testing.assert_allclose(Temperature(2.5).probabilities(z), softmax(z / 2.5))
    np.testing.assert_array_equal(Identity().probabilities(z), softmax(z))
    np.testing.assert_array_equal(Temperature(2.5).probabilities([[1e4, -1e4]]), [[1.0, 0.0]])
