"""Few distinct scores, and starts that hang on their counts.

The laws are made to break a walk over distinct scores: the first thresholds to be tested lie at
risks just above alpha, which of them is tested first depends on a count, and many there are many
errors. Every certificate beyond alpha is a broken promise, and they may come in delta of the draws.
One target and gates start between equal scores, and have a proof; betting has none.
"""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from selectkit.policies.constraints import Constraint
from selectkit.policies.gate_search import certified_together
from selectkit.risk import Certificate, certify_threshold
from selectkit.risk.assumptions import ASSUMPTIONS, DRAWN

Floats = npt.NDArray[np.float64]
ALPHA, DELTA, N, RUNS = 0.05, 0.1, 1000, 600

LAWS = {
    "two starts": ([0.066, 0.1, 0.3], [0.051, 0.0501, 0.0501]),
    "errors where starts are": ([0.066, 0.1, 0.3], [0.07, 0.038, 0.0515]),
    "many values": (
        [0.03, 0.03, 0.02, 0.05, 0.1, 0.2, 0.2],
        [0.04, 0.06, 0.06, 0.051] + [0.0502] * 3,
    ),
    "one value": ([1.0], [0.0501]),
}


def draw(rng: np.random.Generator, law: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Scores, one for each value of the law and 0 for the rest, which are always wrong."""
    mass, error = LAWS[law]
    values = np.append(np.arange(len(mass), 0, -1.0), 0.0)
    place = rng.choice(len(values), N, p=np.append(mass, 1 - sum(mass)))
    return values[place], rng.random(N) < np.append(error, 1.0)[place]


def true_risk(threshold: float, law: str) -> float:
    mass, error = (np.array(part) for part in LAWS[law])
    accepted = np.arange(len(mass), 0, -1.0) >= threshold
    if threshold <= 0:
        return float(mass @ error + 1 - mass.sum())
    return float(mass[accepted] @ error[accepted] / mass[accepted].sum())


@pytest.mark.parametrize("law", LAWS)
def test_ties_do_not_break_the_promise(law: str) -> None:
    rng, misses = np.random.default_rng(0), 0
    for _ in range(RUNS):
        s, wrong = draw(rng, law)
        found = certify_threshold(s, wrong, alpha=ALPHA, delta=DELTA)
        if isinstance(found, Certificate):
            assert found.assumptions == (*ASSUMPTIONS, DRAWN)
            misses += true_risk(found.threshold, law) > ALPHA
    assert binom.sf(misses - 1, RUNS, DELTA) > 1e-6


@pytest.mark.parametrize("law", LAWS)
def test_ties_do_not_break_the_promise_of_betting(law: str) -> None:
    rng, misses, runs = np.random.default_rng(4), 0, 150
    for seed in range(runs):
        s, wrong = draw(rng, law)
        found = certify_threshold(s, 0.999 * wrong, alpha=ALPHA, delta=DELTA, seed=seed)
        if isinstance(found, Certificate):
            assert "rests on simulations" in found.assumptions[-1]
            misses += 0.999 * true_risk(found.threshold, law) > ALPHA
    assert binom.sf(misses - 1, runs, DELTA) > 1e-6


@pytest.mark.parametrize("law", LAWS)
def test_ties_do_not_break_the_promises_of_a_gate(law: str) -> None:
    rng, misses, runs = np.random.default_rng(1), 0, 250
    zeros = np.zeros(N, dtype=np.int64)
    wanted = (Constraint("error", ALPHA), Constraint("deferral", 0.95))
    for _ in range(runs):
        s, wrong = draw(rng, law)
        found = certified_together(
            s, wrong.astype(np.int64), zeros, wanted, delta=DELTA, positive=None
        )
        if isinstance(found, tuple):
            assert found[0].assumptions in (ASSUMPTIONS, (*ASSUMPTIONS, DRAWN))
            assert len(found[1].assumptions) == 2
            misses += true_risk(found[0].threshold, law) > ALPHA
    assert binom.sf(misses - 1, runs, DELTA) > 1e-6


def test_the_laws_break_the_promise_of_a_naive_rule() -> None:
    rng, runs, misses = np.random.default_rng(2), 200, 0
    for _ in range(runs):
        s, wrong = draw(rng, "two starts")
        good = [v for v in np.unique(s) if wrong[s >= v].mean() <= ALPHA]
        misses += bool(good) and true_risk(min(good), "two starts") > ALPHA
    assert binom.sf(misses - 1, runs, DELTA) < 1e-6
