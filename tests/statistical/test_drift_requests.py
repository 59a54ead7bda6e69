"""Drift triggers ask for an audit at the stated rate when nothing has moved, and when it has.

A rate is judged by its exact binomial tail: a check fails only if as many misses as seen have
probability below 1e-6 when the promise holds. Each check is also run on a rule known to be wrong.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.risk.drift_mmd import MmdReference
from selectkit.risk.drift_scores import KsReference, PsiReference

Floats = npt.NDArray[np.float64]


def promise_kept(misses: int, trials: int, delta: float) -> bool:
    """False if so many misses are incredible at the promised rate."""
    return bool(scipy_stats.binom.sf(misses - 1, trials, delta) >= 1e-6)


def psi(old: Floats, new: Floats, seed: int) -> tuple[float, float]:
    return PsiReference.fit(old).compare(new)


def ks(old: Floats, new: Floats, seed: int) -> tuple[float, float]:
    return KsReference.fit(old, rng=np.random.default_rng(seed)).compare(new)


def mmd(old: Floats, new: Floats, seed: int) -> tuple[float, float]:
    reference = MmdReference.fit(old, rng=np.random.default_rng(seed), n_frequencies=32)
    return reference.compare(new)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("trigger", "runs"), [(psi, 60), (ks, 400), (mmd, 200)])
def test_false_requests_come_at_the_stated_rate(
    trigger: Callable[[Floats, Floats, int], tuple[float, float]], runs: int, tied: bool
) -> None:
    rng = np.random.default_rng(17)
    pairs = rng.normal(size=(runs, 600))
    pairs = np.round(3 * pairs) if tied else pairs
    p = np.array([trigger(row[:400], row[400:], i)[1] for i, row in enumerate(pairs)])
    assert promise_kept(int((p <= 0.05).sum()), runs, 0.05)
    assert promise_kept(int((p <= 0.01).sum()), runs, 0.01)
    step = 3 if tied else 1
    moved = [trigger(row[:400], row[400:] + step, i)[1] for i, row in enumerate(pairs[:20])]
    assert (np.array(moved) <= 0.01).all()


def test_folklore_limit_of_the_stability_index_has_no_error_rate() -> None:
    rng = np.random.default_rng(18)
    found = [psi(rng.random(1000), rng.random(100), 0)[0] for _ in range(60)]
    assert not promise_kept(int((np.array(found) > 0.1).sum()), 60, 0.05)
