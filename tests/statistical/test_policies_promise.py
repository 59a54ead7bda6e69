"""The promises of the threshold policy, by simulation against the known truth.

Two classes, p = sigmoid(2 z), z normal: the probabilities are honest, so the true risk of any
threshold on the largest probability is an integral. A promise counts as broken only if the number
of misses would be a one-in-a-million event for a rule that keeps it; the rule that takes the
largest threshold with a small enough empirical risk must count as broken, and the certified
threshold must still accept much of what an all-knowing one could.
"""

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from selectkit.arrays import softmax
from selectkit.policies import Outputs, SoftmaxPolicy, Target

Floats: TypeAlias = npt.NDArray[np.float64]

MEAN, SPREAD, N, DELTA, TRIALS = -0.5, 1.3, 800, 0.1, 1500
TARGETS = [("error=0.08", 0.75), ("fnr=0.16", 0.35), ("fpr=0.05", 0.7), ("miss_rate=0.08", 0.75)]
"""Targets, each with the share of the best possible coverage that must be reached on average."""


def _probability(z: Floats) -> Floats:
    return softmax(np.stack([np.zeros_like(z), 2 * z], axis=1))


@lru_cache
def _truth(risk: str) -> tuple[Floats, Floats, Floats]:
    """Falling thresholds on the largest probability, and true risk and coverage at each."""
    z = np.linspace(MEAN - 8 * SPREAD, MEAN + 8 * SPREAD, 200_001)
    weight = np.exp(-0.5 * ((z - MEAN) / SPREAD) ** 2)
    weight /= weight.sum()
    p = _probability(z)
    predicted = p.argmax(axis=1)
    about, wrong = {
        "error": (np.ones_like(z), 1 - p.max(axis=1)),
        "fnr": (p[:, 1], np.where(predicted == 0, p[:, 1], 0)),
        "miss_rate": (p[:, 1], np.where(predicted == 0, p[:, 1], 0)),
        "fpr": (p[:, 0], np.where(predicted == 1, p[:, 0], 0)),
    }[risk]
    order = np.argsort(-p.max(axis=1), kind="stable")
    lost, base = np.cumsum((weight * wrong)[order]), np.cumsum((weight * about)[order])
    loss = lost / (base[-1] if risk == "miss_rate" else base)
    return p.max(axis=1)[order], loss, np.cumsum(weight[order])


def _at(risk: str, threshold: float) -> tuple[float, float]:
    """True risk and coverage of one threshold."""
    thresholds, loss, coverage = _truth(risk)
    place = int(np.searchsorted(-thresholds, -threshold, side="right")) - 1
    return (0.0, 0.0) if place < 0 else (float(loss[place]), float(coverage[place]))


def _draw(rng: np.random.Generator) -> tuple[Outputs, npt.NDArray[np.int64]]:
    z = rng.normal(MEAN, SPREAD, size=N)
    p = _probability(z)
    return Outputs(np.stack([np.zeros(N), 2 * z], axis=1), p), (rng.random(N) < p[:, 1]).astype(
        np.int64
    )


def _naive(outputs: Outputs, y: npt.NDArray[np.int64], target: Target) -> float:
    """The broken twin: the lowest threshold whose empirical risk is small enough."""
    s, predicted = outputs.probabilities.max(axis=1), outputs.prediction
    about = {"error": y >= 0, "fpr": y == 0}.get(target.risk, y == 1)
    order = np.argsort(-s)
    lost = np.cumsum((about & (predicted != y))[order])
    base = np.maximum(np.cumsum(about[order]), 1)
    kept = np.flatnonzero(lost / (base[-1] if target.risk == "miss_rate" else base) <= target.alpha)
    return float(s[order][kept[-1]]) if kept.size else np.inf


def _broken(misses: int) -> bool:
    return bool(binom.sf(misses - 1, TRIALS, DELTA) < 1e-6)


@pytest.mark.parametrize(("text", "floor"), TARGETS)
def test_the_promise_is_kept_and_not_by_deferring_everything(text: str, floor: float) -> None:
    target, rng = Target.parse(text), np.random.default_rng(0)
    misses = naive_misses = uncovered = 0
    coverages = []
    for _ in range(TRIALS):
        outputs, y = _draw(rng)
        naive_misses += _at(target.risk, _naive(outputs, y, target))[0] > target.alpha
        policy = SoftmaxPolicy.fit(outputs, y, target=target, delta=DELTA, positive=1)
        if not isinstance(policy, SoftmaxPolicy) or policy.certificate is None:
            coverages.append(0.0)
            continue
        risk, coverage = _at(target.risk, policy.threshold)
        misses += risk > target.alpha
        uncovered += coverage < policy.certificate.coverage_lower
        coverages.append(coverage)
    _, loss, coverage_at = _truth(target.risk)
    oracle = coverage_at[np.flatnonzero(loss <= target.alpha)[-1]]
    assert not _broken(misses)
    assert not _broken(uncovered)
    assert _broken(naive_misses)
    assert np.mean(coverages) > floor * oracle
