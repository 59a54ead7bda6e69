"""Promises to every class, and to every group, at once: simulation against the known truth."""

import numpy as np
from scipy.stats import binom

from selectkit.policies import (
    ClasswisePolicy,
    Guide,
    SoftmaxPolicy,
    Target,
    Targets,
    fit_threshold,
)
from selectkit.policies.outputs import Outputs

N, DELTA, TRIALS = 2500, 0.1, 2000


def broken(misses: int) -> bool:
    """Whether so many misses are incredible at the promised rate."""
    return bool(binom.sf(misses - 1, TRIALS, DELTA) < 1e-6)


def test_every_class_keeps_its_promise_at_once() -> None:
    """Four predicted classes of unequal size, each with its own law of errors; one too small."""
    share, alpha = np.array([0.59, 0.25, 0.15, 0.01]), 0.1
    steep = np.array([0.05, 0.3, 0.35, 0.1])  # error at confidence u of class c: steep (1 - u)
    rng, misses, accepted = np.random.default_rng(4), 0, np.zeros(4)
    for _ in range(TRIALS):
        c, u = rng.choice(4, N, p=share), rng.random(N)
        wrong = rng.random(N) < steep[c] * (1 - u)
        p = np.full((N, 4), 0.0)
        p[np.arange(N), c] = 0.4 + 0.6 * u
        p += (0.6 - 0.6 * u)[:, None] / 3 * (p == 0)
        found = ClasswisePolicy.fit(
            Outputs(np.log(np.maximum(p, 1e-12)), p), np.where(wrong, (c + 1) % 4, c),
            target=Target("error", alpha),
        )  # fmt: skip
        if not isinstance(found, ClasswisePolicy):
            continue
        low = np.clip((np.clip(found.thresholds, 0, 1) - 0.4) / 0.6, 0, 1)
        risk = np.where(low < 1, steep * (1 - low) / 2, 0)
        misses += bool((risk > alpha + 1e-12).any())
        accepted += 1 - low
    assert not broken(misses)
    assert accepted[0] / TRIALS > 0.99
    assert (accepted[1:3] / TRIALS > [0.3, 0.1]).all()
    assert accepted[3] < 0.02 * TRIALS  # hardly ever 36 rows


def test_one_threshold_for_every_group_keeps_each_promise() -> None:
    """Confidence u; group b errs more. Both groups keep 5 % in the same draws."""
    targets, rng, misses, covered = Targets.parse("error=0.05"), np.random.default_rng(5), 0, 0.0
    steep = {"a": 0.08, "b": 0.15}

    def rows(n: int) -> Guide:
        names = np.where(rng.random(n) < 0.6, "a", "b")
        u = rng.integers(0, 50, n) / 50
        p = np.stack([0.5 + u / 2, 0.5 - u / 2], axis=1)
        wrong = rng.random(n) < np.where(names == "a", 0.08, 0.15) * (1 - u)
        return Guide(Outputs(p, p), wrong.astype(np.int64), names)

    guide = rows(N)
    for _ in range(TRIALS):
        calib = rows(N)
        found, _ = fit_threshold(
            calib.outputs, calib.labels, targets=targets, guide=guide, groups=calib.groups
        )
        if isinstance(found, SoftmaxPolicy):
            kept = np.arange(50) / 50
            kept = kept[0.5 + kept / 2 >= found.threshold]
            misses += any(rate * (1 - kept).mean() > 0.05 for rate in steep.values())
            covered += len(kept) / 50
    assert not broken(misses)
    assert covered / TRIALS > 0.3  # 0.67 with known error rates
