"""Isotonic calibration and histograms: ties, clipping, a peer, several classes, refusals."""

import warnings

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from selectkit.arrays import log_softmax, softmax
from selectkit.calibrate import Histogram, Isotonic
from selectkit.calibrate.door import log_odds
from selectkit.errors import CalibrationError, DataError
from tests.unit.calibrate.calibrate_samples import Floats, Labels, affine_sample, nll, two


def _sample(n: int, seed: int = 0, digits: int = 6) -> tuple[Floats, Labels]:
    rng = np.random.default_rng(seed)
    u = np.round(rng.normal(size=n) * 2, digits)
    return two(u), (rng.random(n) < 1 / (1 + np.exp(-0.7 * u))).astype(np.int64)


@pytest.mark.parametrize("digits", [1, 6])
def test_isotonic_is_scikit_learns_clipped(digits: int) -> None:
    z, y = _sample(2000, digits=digits)
    u = np.round(z[:, 1] - z[:, 0], 9)
    peer = IsotonicRegression(
        y_min=1 / 2002, y_max=1 - 1 / 2002, out_of_bounds="clip"
    ).fit(u, y)  # fmt: skip
    new = np.linspace(-9, 9, 400)
    fitted = Isotonic.fit(np.stack([np.zeros(2000), u], axis=1), y)
    p = fitted.probabilities(np.stack([np.zeros(400), new], axis=1))[:, 1]
    np.testing.assert_allclose(p, peer.predict(new), atol=1e-9)


def test_equal_logits_are_one_sample_in_whatever_order() -> None:
    u = np.repeat([-2.0, -1.0, 1.0, 2.0], 500)
    hits = np.r_[
        np.arange(500) < 100, np.arange(500) < 90, np.arange(500) < 300, np.arange(500) < 500
    ]
    fitted = Isotonic.fit(two(u), hits.astype(np.int64))
    p = fitted.probabilities(two([-2.0, -1.0, 1.0, 2.0]))[:, 1]
    np.testing.assert_allclose(p, [0.19, 0.19, 0.6, 1 - 1 / 2002])
    order = np.random.default_rng(0).permutation(2000)
    assert Isotonic.fit(two(u[order]), hits[order].astype(np.int64)) == fitted


def test_no_probability_is_zero_or_one() -> None:
    z, y = _sample(1500)
    y = (z[:, 1] > z[:, 0]).astype(np.int64)  # separated: the curve is a step
    for kind in (Isotonic, Histogram):
        p = kind.fit(z, y).probabilities(two([-1e6, 1e6]))
        assert 0 < p.min() < 0.02 < 0.98 < p.max() < 1
    assert Isotonic.fit(z, y).probabilities(two([-1e6]))[0, 1] == pytest.approx(1 / 1502)


def test_several_classes_are_one_against_the_rest() -> None:
    z, y, _, _ = affine_sample(6000, 4)
    for kind in (Isotonic, Histogram):
        fitted = kind.fit(z, y)
        assert len(fitted.curves) == 4
        p = fitted.probabilities(z)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert nll(p, y) < nll(softmax(z), y)
        np.testing.assert_array_equal(fitted.probabilities(z[:7]), p[:7])
        with pytest.raises(DataError, match="fitted on 4 classes, got logits of 2"):
            fitted.probabilities(z[:, :2])
    with pytest.raises(DataError, match="fitted on 2 classes, got logits of 4"):
        Isotonic.fit(*_sample(1000)).probabilities(z)


def test_a_histogram_counts() -> None:
    u = np.repeat(np.arange(30.0), 10)
    y = (np.arange(300) % 10 < u / 3).astype(np.int64)
    fitted = Histogram.fit(two(u), y)
    ((edges, shares),) = fitted.curves
    assert edges == tuple(np.arange(2.0, 30.0, 2.0))
    place = (u // 2).astype(np.int64)
    expected = (np.bincount(place, y) + 1) / 22
    np.testing.assert_allclose(shares, expected)
    np.testing.assert_allclose(
        fitted.probabilities(two([-5.0, 2.0, 99.0]))[:, 1], expected[[0, 1, 14]]
    )


def test_equal_logits_share_a_bin() -> None:
    u = np.r_[np.zeros(200), np.linspace(1, 2, 100)]
    y = (np.arange(300) % 2).astype(np.int64)
    ((edges, shares),) = Histogram.fit(two(u), y).curves
    assert len(shares) == len(edges) + 1 < 15
    assert shares[0] == pytest.approx(101 / 202)
    assert Histogram.fit(two(np.zeros(200)), y[:200]).curves == (((), (0.5,)),)


def test_log_odds_are_exact_where_probabilities_are_not() -> None:
    z, _, _, _ = affine_sample(200, 5)
    p = softmax(z)
    np.testing.assert_allclose(log_odds(z), np.log(p) - np.log1p(-p), atol=1e-9)
    sharp = np.array([[800.0, 0.0, -10.0], [0.0, 0.0, 0.0], [5.0, 5.0, -900.0]])
    odds = log_odds(sharp)
    assert odds[0, 0] == pytest.approx(800 - np.log1p(np.exp(-10)))
    np.testing.assert_allclose(odds[0, 1:], log_softmax(sharp[:1])[0, 1:], rtol=1e-12)
    np.testing.assert_allclose(odds[1], -np.log(2))
    np.testing.assert_allclose(odds[2, :2], 0, atol=1e-12)


def test_too_few_or_useless_rows_are_refused_or_named() -> None:
    z, y = _sample(149)
    with pytest.raises(CalibrationError, match="isotonic calibration needs 100 samples or more"):
        Isotonic.fit(z[:99], y[:99])
    with pytest.raises(CalibrationError, match=r"histogram binning needs 150 .* got 149\. Add"):
        Histogram.fit(z, y)
    with pytest.warns(UserWarning, match="isotonic calibration on 149 samples follows their noise"):
        Isotonic.fit(z, y)
    z, y = _sample(1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Isotonic.fit(z, y)
    with pytest.raises(CalibrationError, match="no better than chance on these 1000 samples"):
        Isotonic.fit(np.zeros((1000, 2)), y)
    for kind in (Isotonic, Histogram):
        with pytest.raises(CalibrationError, match="all 1000 labels are class 1"):
            kind.fit(z, np.ones(1000, dtype=np.int64))
