"""Prediction sets that grow with lambda in [0, 1]: nested, with the most probable class always in.

A class k of a row enters at a number e_k, and the set at lambda is {k: e_k <= lambda}. Sets are
therefore nested whatever the rule, the most probable class enters at 0, and at lambda = 1 every
class is in. With e_y of the true class alone, "the true class is not in the set" is
1{lambda < e_y}: no matrix of losses over lambdas is needed.

* `threshold`: {k: p_k >= 1 - lambda}; e_k = 1 - p_k.
* `cumulative`: classes from the most probable on, until their mass exceeds lambda; e_k = mass of
  the classes before k. The deterministic form of Romano, Sesia and Candès (2020), "Classification
  with valid and adaptive coverage", https://arxiv.org/abs/2006.02544.
* `ordinal`: an interval of neighbouring classes, grown around the most probable one towards the
  more probable neighbour until its mass exceeds lambda; e_k = mass of the interval before k. After
  Lu, Angelopoulos and Pomerantz (2022), "Improving trustworthiness of AI disease severity rating in
  medical imaging with ordinal conformal prediction sets", https://arxiv.org/abs/2207.02238.

With two classes the sets are {0}, {1} and {0, 1}, and all rules agree up to rounding: the second
class enters at the probability of the first.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools
from selectkit.errors import ConfigError

Float64s = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

_BLOCK = 2**20  # probabilities that are worked on at a time


def threshold_entering(p: Float64s) -> Float64s:
    """Return the lambdas at which classes enter sets {k: p_k >= 1 - lambda}.

    Args:
        p: Probabilities, shape (N, K).

    Returns:
        Shape (N, K), in [0, 1].
    """
    return _opened(1 - p, p.argmax(axis=1))


def cumulative_entering(p: Float64s) -> Float64s:
    """Return the lambdas at which classes enter cumulative sets; equal ones by their code.

    Args:
        p: Probabilities, shape (N, K).

    Returns:
        Shape (N, K), in [0, 1].
    """
    order = np.argsort(-p, axis=1, kind="stable")
    mass = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1)
    before = np.concatenate([np.zeros((len(p), 1)), mass[:, :-1]], axis=1)
    entering = np.empty_like(p)
    np.put_along_axis(entering, order, before, axis=1)
    return _opened(entering, order[:, 0])


def ordinal_entering(p: Float64s) -> Float64s:
    """Return the lambdas at which classes enter an interval of ordered classes.

    Of two equally probable neighbours the one below enters first.

    Args:
        p: Probabilities, shape (N, K), of classes in their order.

    Returns:
        Shape (N, K), in [0, 1].
    """
    n, k = p.shape
    padded = np.full((n, k + 2), -1.0)  # neighbours beyond the ends are never taken
    padded[:, 1:-1] = p
    rows, top = np.arange(n), p.argmax(axis=1)
    low, high = top.copy(), top + 2  # columns of the neighbours, in padded counting
    mass, entering = p[rows, top].copy(), np.zeros_like(p)
    for _ in range(k - 1):
        below = padded[rows, low] >= padded[rows, high]
        taken = np.where(below, low, high)
        entering[rows, taken - 1] = mass
        mass += padded[rows, taken]
        low -= below
        high += ~below
    return _opened(entering, top)


SETS: dict[str, Callable[[Float64s], Float64s]] = {
    "threshold": threshold_entering,
    "cumulative": cumulative_entering,
    "ordinal": ordinal_entering,
}
"""Rules by name: probabilities (N, K) to the lambdas (N, K) at which classes enter."""


def entering(sets: str, probabilities: Float64s) -> Float64s:
    """Return the lambda at which each class enters its row's set.

    Args:
        sets: A key of `SETS`.
        probabilities: Shape (N, K), float64.

    Returns:
        Shape (N, K), in [0, 1]; 0 for the most probable class (of equal ones the first).

    Raises:
        ConfigError: If the rule is unknown.
    """
    return _rule(sets)(probabilities)


def entering_of(sets: str, probabilities: Float64s, labels: Labels) -> Float64s:
    """Return the lambda at which the labelled class of each row enters, without an (N, K) array.

    Args:
        sets: A key of `SETS`.
        probabilities: Shape (N, K), float64.
        labels: Shape (N,), codes in [0, K).

    Returns:
        Shape (N,); what `entering` says in the column of the label.

    Raises:
        ConfigError: If the rule is unknown.
    """
    rule = _rule(sets)
    if rule is threshold_entering:
        e = 1 - probabilities[np.arange(len(labels)), labels]
        e[probabilities.argmax(axis=1) == labels] = 0.0
        return np.asarray(np.clip(e, 0.0, 1.0))
    return _by_blocks(probabilities, lambda p, y: rule(p)[np.arange(len(y)), y], labels)


def second_entering(sets: str, probabilities: Float64s) -> Float64s:
    """Return the lambda at which each row's second class enters: below it the set is one class.

    Args:
        sets: A key of `SETS`.
        probabilities: Shape (N, K), float64.

    Returns:
        Shape (N,), in [0, 1].

    Raises:
        ConfigError: If the rule is unknown.
    """
    rule = _rule(sets)
    if rule is threshold_entering:
        second = np.partition(probabilities, -2, axis=1)[:, -2]
        return np.asarray(np.clip(1 - second, 0.0, 1.0))
    return np.asarray(np.clip(probabilities.max(axis=1), 0.0, 1.0))


def members(sets: str, probabilities: Float64s, lambda2: float) -> Bools:
    """Return the prediction sets at one lambda.

    Args:
        sets: A key of `SETS`.
        probabilities: Shape (N, K), float64.
        lambda2: In [0, 1].

    Returns:
        Shape (N, K), True for classes in the set.

    Raises:
        ConfigError: If the rule is unknown.
    """
    return np.asarray(entering(sets, probabilities) <= lambda2)


def _rule(sets: str) -> Callable[[Float64s], Float64s]:
    if sets not in SETS:
        raise ConfigError(f"sets {sets!r} are unknown; known: {', '.join(SETS)}.")
    return SETS[sets]


def _opened(entering: Float64s, top: npt.NDArray[np.intp]) -> Float64s:
    """Entering lambdas in [0, 1], with the most probable class in from the start."""
    np.clip(entering, 0.0, 1.0, out=entering)
    entering[np.arange(len(entering)), top] = 0.0
    return entering


def _by_blocks(
    p: Float64s, entering: Callable[[Float64s, Labels], Float64s], labels: Labels
) -> Float64s:
    step = max(1, _BLOCK // p.shape[1])
    found = np.empty(len(p))
    for start in range(0, len(p), step):
        rows = slice(start, start + step)
        found[rows] = entering(p[rows], labels[rows])
    return found
