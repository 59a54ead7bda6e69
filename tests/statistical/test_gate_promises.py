"""An error and a coverage certified together by one gate, over draws of the calibration split.

Errors among the u most confident are known for every u, so every threshold can be judged exactly.
A promise counts as broken only if so many misses are a one-in-a-million event where it holds.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from selectkit.policies.constraints import Constraint
from selectkit.policies.gate_search import certified_together

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
N, DELTA, RUNS = 500, 0.1, 2000
STEPS = np.linspace(0, 1, 20_001)[1:]


def rising(u: Floats) -> Floats:
    return np.asarray(0.2 * u**2)


def noisy(u: Floats) -> Floats:
    return np.asarray(0.01 + 0.17 * u**2)


def error_at(chance: Callable[[Floats], Floats]) -> Callable[[float], float]:
    """Error among the most confident share, by numerical integration."""
    mean = np.cumsum(chance(STEPS)) / np.arange(1, len(STEPS) + 1)
    return lambda coverage: float(np.interp(coverage, STEPS, mean))


def broken(misses: int, runs: int = RUNS) -> bool:
    return bool(binom.sf(misses - 1, runs, DELTA) < 1e-6)


def draws(
    chance: Callable[[Floats], Floats], levels: int | None, runs: int = RUNS
) -> list[tuple[Floats, Bools]]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(runs):
        u = rng.random(N)
        wrong = rng.random(N) < chance(u)
        found.append((1 - u if levels is None else np.floor((1 - u) * levels) / levels, wrong))
    return found


def true_coverage(threshold: float, levels: int | None) -> float:
    if levels is None:
        return float(np.clip(1 - threshold, 0, 1))
    return float(np.mean(np.arange(levels) / levels >= threshold))


def pair(s: Floats, wrong: Bools, alpha: float, deferral: float) -> float:
    truth = np.zeros(N, dtype=np.int64)
    found = certified_together(
        s,
        wrong.astype(np.int64),
        truth,
        (Constraint("error", alpha), Constraint("deferral", deferral)),
        delta=DELTA,
        positive=None,
    )
    return found[0].threshold if isinstance(found, tuple) else np.inf


def naive(s: Floats, wrong: Bools, alpha: float, deferral: float) -> float:
    """The broken twin: the laxest threshold that looks good on the rows themselves."""
    order = np.argsort(-s)
    n = np.arange(1, N + 1)
    fits = np.flatnonzero((np.cumsum(wrong[order]) <= alpha * n) & (n >= (1 - deferral) * N))
    return float(s[order[fits[-1]]]) if fits.size else np.inf


@pytest.mark.parametrize(
    ("chance", "alpha", "deferral", "levels", "floor"),
    [
        (rising, 0.05, 0.5, None, 0.5),
        (noisy, 0.05, 0.6, None, 0.5),
        (rising, 0.05, 0.5, 50, 0.5),
        (rising, 0.036, 0.264, None, 0.0),  # error 3.61 % at coverage 73.6 %: nothing keeps both
    ],
)
def test_both_promises_are_kept_together(
    chance: Callable[[Floats], Floats],
    alpha: float,
    deferral: float,
    levels: int | None,
    floor: float,
) -> None:
    error, misses, naive_misses, certified = error_at(chance), 0, 0, 0

    def breaks(threshold: float) -> bool:
        coverage = true_coverage(threshold, levels)
        return np.isfinite(threshold) and (
            coverage < 1 - deferral - 1e-12 or error(coverage) > alpha + 1e-9
        )

    for s, wrong in draws(chance, levels):
        threshold = pair(s, wrong, alpha, deferral)
        certified += np.isfinite(threshold)
        misses += breaks(threshold)
        naive_misses += breaks(naive(s, wrong, alpha, deferral))
    assert not broken(misses)
    assert broken(naive_misses)
    assert certified >= floor * RUNS


def test_a_deferral_rate_alone_is_kept_and_the_quantile_does_not_keep_it() -> None:
    rng = np.random.default_rng(1)
    misses = plain = 0
    shares = []
    for _ in range(RUNS):
        s = rng.random(N)
        found = certified_together(
            s, np.zeros(N, int), np.zeros(N, int), (Constraint("deferral", 0.3),),
            delta=DELTA, positive=None,
        )  # fmt: skip
        assert isinstance(found, tuple)
        shares.append(1 - found[0].threshold)
        misses += shares[-1] < 0.7
        plain += 1 - np.sort(s)[int(0.3 * N)] < 0.7
    assert not broken(misses)
    assert broken(plain)
    assert np.mean(shares) < 0.74


def test_three_promises_about_different_rows_are_kept_together() -> None:
    """Misses among positives, false alarms among negatives, and the share deferred."""
    rng, misses, certified, runs = np.random.default_rng(2), 0, 0, 600
    fnr, fpr = error_at(rising), error_at(lambda u: 0.5 * rising(u))
    wanted = (Constraint("fnr", 0.055), Constraint("fpr", 0.04), Constraint("deferral", 0.5))
    for _ in range(runs):
        u, y = rng.random(900), (rng.random(900) < 0.5).astype(np.int64)
        wrong = rng.random(900) < np.where(y == 1, rising(u), 0.5 * rising(u))
        found = certified_together(
            1 - u, np.where(wrong, 1 - y, y), y, wanted, delta=DELTA, positive=1
        )
        if isinstance(found, tuple):
            certified += 1
            coverage = 1 - found[0].threshold
            misses += coverage < 0.5 or fnr(coverage) > 0.055 or fpr(coverage) > 0.04
    assert not broken(misses, runs)
    assert certified > 0.7 * runs


def test_coverage_takes_the_small_share_for_a_reason() -> None:
    """The pair is certified more often than by a walk from the strictest threshold on."""
    from selectkit.risk import Certificate, certify_threshold

    ours = walk = 0
    enough = min(n for n in range(N) if binom.sf(n - 1, N, 0.55) <= 0.1 * DELTA)
    for s, wrong in draws(noisy, None, 300):
        ours += np.isfinite(pair(s, wrong, 0.05, 0.45))
        found = certify_threshold(s, wrong, alpha=0.05, delta=0.9 * DELTA)
        walk += isinstance(found, Certificate) and found.n_accepted >= enough
    assert ours > walk + 15


def test_the_known_error_is_that_of_the_chances() -> None:
    error = error_at(rising)
    for a, b in pairwise((0.2, 0.5, 0.9)):
        assert error(a) < error(b)
    assert error(0.6) == pytest.approx(0.2 * 0.36 / 3, abs=1e-4)
