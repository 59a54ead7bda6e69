"""What a plan predicts is what `certify_threshold` does."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from selectkit.risk import Certificate, certify_threshold
from selectkit.risk.plan import images_for_power, images_needed, power, power_of_images
from selectkit.risk.plan_forecast import Sources, forecast

ALPHA, DELTA = 0.05, 0.1
RUNS = 1000


def credible(successes: int, trials: int, rate: float) -> bool:
    """False if a count has probability below 1e-6 at the predicted rate, on either side."""
    tails = (
        scipy_stats.binom.cdf(successes, trials, rate),
        scipy_stats.binom.sf(successes - 1, trials, rate),
    )
    return bool(min(tails) >= 1e-6)


def certified(loss: np.ndarray[tuple[int], np.dtype[np.bool_]], denominator: str) -> bool:
    """Certify the rule that accepts everything: one candidate, fixed beforehand."""
    found = certify_threshold(
        np.zeros(len(loss)), loss, alpha=ALPHA, delta=DELTA, candidates=[-1.0],
        denominator=denominator,  # type: ignore[arg-type]
    )  # fmt: skip
    return isinstance(found, Certificate)


@pytest.mark.parametrize("denominator", ["accepted", "all"])
@pytest.mark.parametrize(("n", "rate"), [(45, 0.01), (200, 0.02), (184, 0.03), (900, 0.03)])
def test_predicted_power_is_the_rate_of_success(n: int, rate: float, denominator: str) -> None:
    rng = np.random.default_rng(n)
    successes = sum(certified(rng.random(n) < rate, denominator) for _ in range(RUNS))
    predicted = float(power(n, alpha=ALPHA, delta=DELTA, true_rate=rate))
    assert 0.05 < predicted < 0.99
    assert abs(successes / RUNS - predicted) <= 3 * np.sqrt(predicted * (1 - predicted) / RUNS)
    assert not credible(successes, RUNS, predicted - 0.12)  # a rate that is off would be seen


def test_predicted_power_of_images_is_the_rate_of_success() -> None:
    rng = np.random.default_rng(5)
    images, share, rate = 1200, 0.15, 0.02
    successes = 0
    for _ in range(RUNS):
        evidence = rng.random(images) < share
        successes += certified(rng.random(int(evidence.sum())) < rate, "accepted")
    predicted = float(power_of_images(images, share, alpha=ALPHA, delta=DELTA, true_rate=rate))
    assert abs(successes / RUNS - predicted) <= 3 * np.sqrt(predicted * (1 - predicted) / RUNS)


def test_images_are_enough_as_often_as_they_are_said_to_be() -> None:
    rng = np.random.default_rng(6)
    images = images_needed(114, 0.1, 0.95)
    enough = int((rng.binomial(images, 0.1, size=20_000) >= 114).sum())
    assert credible(enough, 20_000, float(scipy_stats.binom.sf(113, images, 0.1)))
    assert enough / 20_000 == pytest.approx(0.95, abs=0.01)
    n = images_for_power(0.8, 1.0, alpha=ALPHA, delta=DELTA, true_rate=0.02)
    assert n is not None
    successes = sum(certified(rng.random(n) < 0.02, "accepted") for _ in range(RUNS))
    assert credible(successes, RUNS, float(power(n, alpha=ALPHA, delta=DELTA, true_rate=0.02)))


def world(n: int, rng: np.random.Generator) -> Sources:
    """Scores 1 - u, u uniform; errors among the less confident."""
    u = rng.random(n)
    return Sources(1 - u, np.ones(n, dtype=bool), 1 - u, rng.random(n) < 0.4 * u**4)


def real(
    n: int, runs: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """True coverages of certifications on n fresh rows; 0 where infeasible."""
    reached = np.zeros(runs)
    for i in range(runs):
        rows = world(n, rng)
        found = certify_threshold(rows.confidence, rows.evidence_loss, alpha=0.03, delta=DELTA)
        if isinstance(found, Certificate):
            reached[i] = 1 - found.threshold
    return reached


@pytest.mark.parametrize("n", [150, 1000])
def test_a_forecast_from_many_rows_is_what_happens(n: int) -> None:
    rng = np.random.default_rng(n)
    expected = forecast(world(50_000, rng), n, alpha=0.03, draws=150, rng=rng)
    happened = real(n, 400, rng)
    spread = 3 * happened.std() * np.sqrt(1 / 150 + 1 / 400) + 0.01
    assert abs(expected.expected - happened.mean()) <= spread
    fails = (happened == 0).mean()
    assert abs(expected.infeasible - fails) <= 3 * np.sqrt(0.25 * (1 / 150 + 1 / 400))


def test_the_range_holds_what_happens_although_the_rows_at_hand_are_few() -> None:
    """Nine of ten draws; drawing without a second lot would hold about a third of them."""
    rng = np.random.default_rng(3)
    happened = real(1000, 60, rng)
    inside = []
    for coverage in happened:
        found = forecast(world(200, rng), 1000, alpha=0.03, draws=60, rng=rng)
        assert found.low is not None
        assert found.high is not None
        inside.append(found.low <= coverage <= found.high)
    assert np.mean(inside) >= 0.65
