"""Calibration errors by their definitions; Murphy's identity; nulls; smooth curves; subsets."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit import metrics as m
from selectkit.errors import DataError
from tests.unit.metrics import naive_metrics as naive

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Scheme = Literal["width", "mass"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sample(n: int, k: int, digits: int, seed: int = 0) -> tuple[Floats, Ints]:
    """Probabilities with ties at few digits, and labels that they describe badly."""
    r = rng(seed)
    p = r.dirichlet(np.ones(k), n)
    if digits < 9:
        p = r.multinomial(10**digits, p) / 10**digits
    return p, r.integers(0, k, n)


@pytest.mark.parametrize("digits", [1, 2, 9])
@pytest.mark.parametrize("n_bins", [1, 3, 10, 15, 200])
def test_errors_of_bins_by_definition(digits: int, n_bins: int) -> None:
    p, y = sample(120, 3, digits, seed=n_bins)
    confidence, right = p.max(axis=1), (p.argmax(axis=1) == y).astype(float)
    assert m.ece(p, y, n_bins) == pytest.approx(naive.ece(confidence, right, n_bins), abs=1e-12)
    mass = naive.mass_bins(confidence, n_bins)
    gaps = [abs((confidence[b] - right[b]).mean()) for b in mass]
    expected = naive.ece_mass(confidence, right, n_bins)
    assert m.ece(p, y, n_bins, "mass") == pytest.approx(expected, abs=1e-12)
    assert m.mce(p, y, n_bins, "mass") == pytest.approx(max(gaps), abs=1e-12)
    squared = sum(
        b.sum() * (gap**2 - right[b].var() / (b.sum() - 1))
        for b, gap in zip(mass, gaps, strict=True)
        if b.sum() > 1
    )
    if any(b.sum() > 1 for b in mass):
        found = m.debiased_squared_ece(p, y, n_bins)
        assert found == pytest.approx(squared / 120, abs=1e-12)
    columns = [(p[:, k], (y == k).astype(float)) for k in range(3)]
    by_class = [naive.ece(c, right, n_bins) for c, right in columns]
    assert m.classwise_ece(p, y, n_bins) == pytest.approx(np.mean(by_class), abs=1e-12)
    by_class = [naive.ece_mass(c, right, n_bins) for c, right in columns]
    assert m.classwise_ece(p, y, n_bins, "mass") == pytest.approx(np.mean(by_class), abs=1e-12)
    adaptive = [
        np.mean([abs((c[b] - o[b]).mean()) for b in naive.mass_bins(c, n_bins)]) for c, o in columns
    ]
    assert m.adaptive_ece(p, y, n_bins) == pytest.approx(np.mean(adaptive), abs=1e-12)


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_nothing_depends_on_the_order_of_rows(scheme: Scheme) -> None:
    p, y = sample(300, 4, 1, seed=1)
    i = rng(2).permutation(300)
    for metric in (m.ece, m.mce, m.classwise_ece, m.debiased_squared_ece):
        assert metric(p[i], y[i], 7, scheme) == pytest.approx(metric(p, y, 7, scheme), abs=1e-12)
    assert m.adaptive_ece(p[i], y[i], 7) == pytest.approx(m.adaptive_ece(p, y, 7), abs=1e-12)
    assert m.smooth_ece(p[i], y[i]) == pytest.approx(m.smooth_ece(p, y), abs=2e-6)


def test_two_classes_err_alike() -> None:
    """p_0 = 1 - p_1: bins mirror each other, but for their edges."""
    p, y = sample(500, 2, 9, seed=3)
    alone = naive.ece(p[:, 1], (y == 1).astype(float), 15)
    assert m.classwise_ece(p, y) == pytest.approx(alone, abs=1e-12)


def test_one_sample_per_bin_has_no_debiased_error() -> None:
    p = np.stack([np.linspace(0.51, 0.99, 10), np.linspace(0.49, 0.01, 10)], axis=1)
    assert np.isnan(m.debiased_squared_ece(p, np.zeros(10, dtype=int), n_bins=10))


@pytest.mark.parametrize("digits", [1, 2, 9])
@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize(
    ("n_bins", "scheme"), [(None, "mass"), (1, "width"), (10, "width"), (10, "mass"), (400, "mass")]
)
def test_murphys_parts_sum_to_the_score(
    digits: int, k: int, n_bins: int | None, scheme: Scheme
) -> None:
    p, y = sample(200, k, digits, seed=4)
    parts = m.brier_parts(p, y, n_bins, scheme)
    one_hot = np.eye(k)[y]
    direct = ((p - one_hot) ** 2).sum(axis=1).mean()
    assert m.brier(p, y) == pytest.approx(direct, abs=1e-13)
    assert parts.brier == pytest.approx(direct, abs=1e-12)
    base = one_hot.mean(axis=0)
    assert parts.uncertainty == pytest.approx((base * (1 - base)).sum(), abs=1e-12)
    assert parts.reliability >= 0
    assert parts.resolution >= 0
    if n_bins is None:
        assert parts.within == pytest.approx(0, abs=1e-15)
        values = [(p[:, c] == v, c, v) for c in range(k) for v in np.unique(p[:, c])]
        reliability = sum(b.mean() * (one_hot[b, c].mean() - v) ** 2 for b, c, v in values)
        resolution = sum(b.mean() * (one_hot[b, c].mean() - base[c]) ** 2 for b, c, v in values)
        assert parts.reliability == pytest.approx(reliability, abs=1e-12)
        assert parts.resolution == pytest.approx(resolution, abs=1e-12)


def test_the_brier_score_is_never_negative() -> None:
    tiny = 10.0 ** -np.arange(1, 20)
    p = np.stack([1 - tiny, tiny], axis=1)
    scores = np.array([m.brier(row[None], [0]) for row in p])
    assert (scores >= 0).all()
    assert scores == pytest.approx(2 * (1 - p[:, 0]) ** 2, abs=1e-16)


def test_null_levels_of_unequal_coins() -> None:
    """Against the exact distribution of the sum, by convolution; rare events, many, both."""
    r = rng(5)
    for c in (
        r.random(25),
        r.random(400) * 0.05,
        1 - r.random(3000) * 0.004,
        np.append(r.random(30), np.full(5000, 0.0019)),
        r.random(300),
    ):
        mass = np.ones(1)
        for q in c:
            mass = np.convolve(mass, [1 - q, q])
        expected = (abs(np.arange(len(mass)) - c.sum()) * mass).sum() / len(c)
        assert m.ece_null_level(c, n_bins=1) == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_the_formula_and_resampling_agree_on_the_null(scheme: Scheme) -> None:
    p, y = sample(400, 3, 2, seed=6)
    null = m.calibration_null(lambda q, t: m.ece(q, t, 10, scheme), p, y, n_draws=1500, rng=rng(7))
    assert null.mean == pytest.approx(m.ece_null_level(p.max(axis=1), 10, scheme), rel=0.03)
    assert null.high > null.mean
    assert null.p_value == 1 / 1501


def test_labels_are_drawn_from_the_probabilities() -> None:
    """A metric that counts labels sees their multinomial means, and none of probability 0."""
    p = np.tile([0.0, 0.2, 0.0, 0.5, 0.3, 0.0], (20_000, 1))
    counted: list[Any] = []

    def count(_: Any, labels: Any) -> float:
        counted.append(np.bincount(labels, minlength=6) / len(labels))
        return 0.0

    found = m.calibration_null(count, p, np.full(20_000, 3), n_draws=5, rng=rng(8))
    assert found.p_value == 1
    assert np.mean(counted[:5], axis=0) == pytest.approx(p[0], abs=0.01)
    assert (np.array(counted)[:5, [0, 2, 5]] == 0).all()


def relplot_ece(confidence: Floats, right: Floats, sigma: float) -> float:
    """smECE of one bandwidth: integral of |smoothed residual|, by images, on a fine mesh."""
    t = (np.arange(4000) + 0.5) / 4000
    total = np.zeros_like(t)
    for shift in range(-4, 5, 2):
        for image in (confidence + shift, shift - confidence):
            kernel = scipy_stats.norm.pdf((t[:, None] - image) / sigma) / sigma
            total += kernel @ (confidence - right)
    return float(np.abs(total).mean() / len(confidence))


@pytest.mark.parametrize("kind", ["uniform", "certain", "one value", "two ends"])
def test_the_smooth_error_is_the_fixed_point_of_its_definition(kind: str) -> None:
    r = rng(9)
    c = {
        "uniform": r.uniform(0.5, 1, 80),
        "certain": np.ones(40),
        "one value": np.full(60, 0.7),
        "two ends": np.repeat([0.5, 1.0], 40),
    }[kind]
    y = (r.random(len(c)) > c - 0.15).astype(int)
    p = np.stack([c, 1 - c], axis=1)
    found = m.smooth_ece(p, y)
    right = (y == 0).astype(float)
    assert relplot_ece(c, right, found - 1e-3) >= found - 1e-3
    assert relplot_ece(c, right, found + 1e-3) <= found + 1e-3


def test_the_smooth_curve_is_a_kernel_regression() -> None:
    r = rng(10)
    c = r.uniform(0.5, 1, 400)
    y = (r.random(400) > c**2).astype(int)
    curve = m.smooth_reliability(np.stack([c, 1 - c], axis=1), y, n_points=23)
    sigma = max(curve.ece, 1 / 256)
    images = np.concatenate([c, -c, 2 - c])
    right = np.tile(y == 0, 3)
    kernel = scipy_stats.norm.pdf((curve.confidence[:, None] - images) / sigma) / sigma
    accuracy = kernel @ right / kernel.sum(axis=1)
    deviation = np.sqrt((kernel**2).sum(axis=1) * accuracy * (1 - accuracy)) / kernel.sum(axis=1)
    assert curve.accuracy == pytest.approx(accuracy, abs=2e-3)
    assert curve.density == pytest.approx(kernel.sum(axis=1) / 400, rel=5e-3)
    assert curve.deviation[3:-3] == pytest.approx(deviation[3:-3], rel=0.02)
    assert curve.ece == m.smooth_ece(np.stack([c, 1 - c], axis=1), y)


def test_gaps_of_the_smooth_curve_are_gaps() -> None:
    c = np.repeat([0.5, 1.0], 200)
    y = np.concatenate([np.tile([0, 1], 100), np.zeros(200, dtype=int)])
    curve = m.smooth_reliability(np.stack([c, 1 - c], axis=1), y)
    seen = curve.density > 0
    assert np.isnan(curve.accuracy[~seen]).all()
    assert (~seen).sum() > 100
    low = seen & (curve.confidence < 0.75)
    assert curve.accuracy[low] == pytest.approx(0.5, abs=0.02)
    assert curve.accuracy[seen & ~low] == pytest.approx(1, abs=0.02)
    assert (curve.density >= 0).all()


@pytest.mark.parametrize("n_points", [1, 2, 7])
def test_points_of_the_smooth_curve(n_points: int) -> None:
    p, y = sample(50, 3, 9)
    curve = m.smooth_reliability(p, y, n_points)
    assert len(curve.confidence) == len(curve.deviation) == n_points
    with pytest.raises(DataError, match="n_points must be at least 1, got 0"):
        m.smooth_reliability(p, y, 0)


def test_calibration_of_the_accepted_is_that_of_their_rows() -> None:
    p, y = sample(200, 3, 2, seed=11)
    accepted = p.max(axis=1) > 0.6
    names = ["nll", "brier", "ece", "ece_mass", "confidence"]
    within = m.probability_statistics(names, p, y, 10, accepted)(np.ones((1, 200), dtype=int))
    alone = m.probability_statistics(names, p[accepted], y[accepted], 10)
    for name, value in alone(np.ones((1, int(accepted.sum())), dtype=int)).items():
        assert within[name][0] == pytest.approx(value[0], abs=1e-15), name
    for wrong in (accepted.astype(int), accepted[:5]):
        with pytest.raises(DataError, match=r"accepted must be booleans of shape \(200,\)"):
            m.probability_statistics(names, p, y, 10, wrong)


def test_scores_of_logits() -> None:
    z = rng(12).normal(size=(50, 4)) * 5
    y = rng(13).integers(0, 4, 50)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert m.nll_of_logits(z, y) == pytest.approx(m.nll(p, y), abs=1e-12)
    assert m.nll_of_logits([[2000.0, 0.0]], [1]) == pytest.approx(2000)
    assert m.nll_of_logits(z + 1e6, y) == pytest.approx(m.nll_of_logits(z, y), abs=1e-8)


@pytest.mark.parametrize("k", [2, 10, 40])
def test_float32_probabilities_give_what_their_values_give_in_float64(k: int) -> None:
    r = rng(k)
    p = r.dirichlet(np.full(k, 0.4), 5000).astype(np.float32)
    p[::7] = np.float32(1 / k)  # ties of the top label
    y = r.integers(0, k, len(p))
    for metric in (m.ece, m.mce, m.classwise_ece, m.nll, m.brier):
        assert metric(p, y) == pytest.approx(metric(p.astype(np.float64), y), rel=1e-12), metric
    assert m.ece(p, y, scheme="mass") == m.ece(p.astype(np.float64), y, scheme="mass")
