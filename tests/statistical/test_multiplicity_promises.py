"""Rules for several p-values keep the probability of any false certificate at delta.

A rate is judged by its exact binomial tail: a check fails only if as many misses as seen have
probability below 1e-6 when the promise holds. Each check is also run on a rule known to be wrong.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.stats import bonferroni, fixed_sequence, multi_start, split

Floats = npt.NDArray[np.float64]
Rule = Callable[[Floats], npt.NDArray[np.bool_]]
RUNS, M = 4000, 12
STARTS = [0, 3, 6, 9]


def uncorrected(p: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(p <= 0.1)


def starts_with_all_of_delta(p: Floats) -> npt.NDArray[np.bool_]:
    return np.concatenate([fixed_sequence(p[s : s + 3], 0.1) for s in STARTS])


RULES: dict[str, tuple[Rule, bool]] = {
    "bonferroni": (lambda p: bonferroni(p, 0.1), True),
    "split": (lambda p: split(p, 0.1, np.arange(M) / 66), True),
    "fixed_sequence": (lambda p: fixed_sequence(p, 0.1), True),
    "multi_start": (lambda p: multi_start(p, 0.1, STARTS), True),
    "uncorrected": (uncorrected, False),
    "starts_with_all_of_delta": (starts_with_all_of_delta, False),
}


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_false_certificates_are_rare(name: str, dependent: bool) -> None:
    """All are false but the first and the seventh, which are certified always."""
    rule, holds = RULES[name]
    rng = np.random.default_rng(0)
    z = rng.normal(size=(RUNS, M))
    if dependent:
        z = 0.8 * z + 0.6 * rng.normal(size=(RUNS, 1))
    p = scipy_stats.norm.sf(z)
    p[:, [0, 6]] = 0
    false = np.ones(M, dtype=np.bool_)
    false[[0, 6]] = False
    misses = sum(bool((rule(row) & false).any()) for row in p)
    assert (scipy_stats.binom.sf(misses - 1, RUNS, 0.1) >= 1e-6) == holds
    if holds and name != "split":
        assert misses > 0.02 * RUNS  # the level is used
