"""The penalised multinomial likelihood that affine calibrators minimise, and its minimum.

    mean_i -log softmax(V x_i)_{y_i} + sum_ka penalty_ka V_ka^2,    x_i with a last entry of one

is convex in V (K, M + 1), of which only the entries in `free` may move. Newton's method with
backtracking finds its minimum; on many rows the minimum over evenly spaced rows comes first, and
its curvature then serves as the metric for a few passes over all rows. Directions that change no
probability (adding the same number to every class) are left out by the pseudo-inverse.

The minimum exists unless classes can be separated: then each step still moves the logits by about
one when there is nothing left to gain, and the fit is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.errors import CalibrationError

Float64s = npt.NDArray[np.float64]
Ints64 = npt.NDArray[np.int64]

SAMPLED_ROWS = 20_000
"""Rows that are looked at first when there are more than twice as many."""

_BLOCK = 4096
_NEWTON_PARAMETERS = 1_500  # beyond, a Hessian costs more than the steps it saves
_DECREMENT = 1e-12  # nats to gain; the step that would gain them is still taken
_MOVED = 0.3  # logits; a minimum that is reached is nearer than that
_LONGEST = 100.0  # logits that one step may move
_CUT = 1e-14  # of the largest curvature; below lies rounding
_ITERATIONS = 100


@dataclass(frozen=True)
class Multinomial:
    """The objective.

    Attributes:
        x: Features, one column per row of data and a last row of ones, shape (M + 1, N).
        y: Labels, shape (N,), in [0, K).
        free: Which coefficients may move, shape (K, M + 1); the others keep their start.
        penalty: Non-negative, shape (K, M + 1).
    """

    x: Float64s
    y: Ints64
    free: npt.NDArray[np.bool_]
    penalty: Float64s

    def value_and_gradient(self, v: Float64s) -> tuple[float, Float64s]:
        """Return the objective in nats, and its gradient, shape (K, M + 1), zero where fixed."""
        value, gradient = 0.0, np.zeros_like(v)
        n = len(self.y)
        for start in range(0, n, _BLOCK):
            x, y = self.x[:, start : start + _BLOCK], self.y[start : start + _BLOCK]
            rows = np.arange(len(y))
            p = v @ x
            p -= p.max(axis=0)
            value -= float(p[y, rows].sum())
            total = _softmax(p)
            value += float(np.log(total).sum())
            p[y, rows] -= 1
            gradient += p @ x.T
        gradient = gradient / n + 2 * self.penalty * v
        return value / n + float((self.penalty * v**2).sum()), np.where(self.free, gradient, 0)

    def hessian(self, v: Float64s) -> Float64s:
        """Return the second derivatives by the free coefficients, row by row of V."""
        classes, columns = np.nonzero(self.free)
        edges = np.searchsorted(classes, np.arange(len(v) + 1))
        result = np.zeros((len(classes), len(classes)))
        n = len(self.y)
        for start in range(0, n, _BLOCK):
            x = self.x[:, start : start + _BLOCK]
            p = v @ x
            p -= p.max(axis=0)
            _softmax(p)
            px = p[classes] * x[columns]
            result -= px @ px.T
            for low, high in pairwise(edges):
                result[low:high, low:high] += px[low:high] @ x[columns[low:high]].T
        return result / n + np.diag(2 * self.penalty[self.free])

    def thinned(self) -> "Multinomial":
        """Return the objective on about `SAMPLED_ROWS` evenly spaced rows."""
        step = ceil(len(self.y) / SAMPLED_ROWS)
        return self.on(slice(None, None, step))

    def on(self, rows: slice | Ints64) -> "Multinomial":
        """Return the objective on some rows."""
        return replace(self, x=np.ascontiguousarray(self.x[:, rows]), y=self.y[rows])

    def moved(self, change: Float64s) -> float:
        """Return by how much a change of V moves a logit difference, at most."""
        largest = 0.0
        for start in range(0, len(self.y), _BLOCK):
            u = change @ self.x[:, start : start + _BLOCK]
            largest = max(largest, float((u.max(axis=0) - u.min(axis=0)).max()))
        return largest


def minimum(problem: Multinomial, start: Float64s) -> Float64s:
    """Return the minimiser.

    Args:
        problem: The objective.
        start: Shape (K, M + 1); what is not free keeps these values.

    Returns:
        V, shape (K, M + 1); the objective is within about 1e-12 nats of its minimum.

    Raises:
        CalibrationError: If larger and larger coefficients fit better.
    """
    level = np.where(problem.free, 0.0, start)
    few = problem.thinned()
    if few.value_and_gradient(level)[0] < few.value_and_gradient(start)[0]:
        start = level  # a start that is sure and wrong has no curvature to go by
    if int(problem.free.sum()) > _NEWTON_PARAMETERS:
        return _limited_memory(problem, start)
    if len(problem.y) > 2 * SAMPLED_ROWS:
        try:
            start = _descend(few, start, lambda v: _inverse(few.hessian(v)))
            metric = _inverse(few.hessian(start))
            return _descend(problem, start, lambda _: metric, iterations=30)
        except CalibrationError:
            pass  # the sample says less than all rows do
    return _descend(problem, start, lambda v: _inverse(problem.hessian(v)))


def _descend(
    problem: Multinomial,
    v: Float64s,
    metric: Callable[[Float64s], Float64s],
    iterations: int = _ITERATIONS,
) -> Float64s:
    value, gradient = problem.value_and_gradient(v)
    for _ in range(iterations):
        step = np.zeros_like(v)
        step[problem.free] = -metric(v) @ gradient[problem.free]
        decrement = -float((gradient * step).sum())
        if decrement <= _DECREMENT:
            if problem.moved(step) > _MOVED:
                raise _unidentified(len(problem.y))
            return v + step
        length = 1.0 if decrement < 1 else min(1.0, _LONGEST / problem.moved(step))
        while length > 1e-10:
            new, new_gradient = problem.value_and_gradient(v + length * step)
            if new <= value - 1e-4 * length * decrement + 1e-15:
                break
            length /= 2
        v, value, gradient = v + length * step, new, new_gradient
    raise _unidentified(len(problem.y))


def _inverse(hessian: Float64s) -> Float64s:
    curvature, directions = np.linalg.eigh(hessian)
    keep = curvature > _CUT * curvature[-1]
    directions = directions[:, keep]
    return np.asarray((directions / curvature[keep]) @ directions.T)


def _limited_memory(problem: Multinomial, start: Float64s) -> Float64s:
    from scipy.optimize import minimize

    def objective(free: Float64s) -> tuple[float, Float64s]:
        v = start.copy()
        v[problem.free] = free
        value, gradient = problem.value_and_gradient(v)
        return value, gradient[problem.free]

    found = minimize(
        objective,
        start[problem.free],
        args=(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-7},
    )
    v = start.copy()
    v[problem.free] = found.x
    if found.fun < 1e-7:
        raise _unidentified(len(problem.y))
    return v


def _softmax(p: Float64s) -> Float64s:
    """Turn logits whose largest is 0 into probabilities, in place; return what they summed to."""
    np.exp(p, out=p)
    total = np.asarray(p.sum(axis=0))
    p /= total
    return total


def _unidentified(n: int) -> CalibrationError:
    return CalibrationError(
        f"the classes of these {n} samples can be separated: larger and larger parameters fit "
        "better, so the data do not identify them. Add samples, or use the calibrator "
        "'temperature' or 'platt'."
    )
