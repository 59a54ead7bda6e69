"""Samples in the order in which they are accepted, and the staircases made from them."""

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Bools, Ints, shared_confidence_and_loss
from selectkit.errors import DataError
from selectkit.metrics.bins import pieces
from selectkit.metrics.resample import require_weights
from selectkit.metrics.scratch import Scratch
from selectkit.metrics.steps import Steps

Float64s = npt.NDArray[np.float64]
Losses = Float64s | Bools

_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)

_LARGEST_LOSS = 1e100


@dataclass(frozen=True)
class Ranked:
    """Samples in order of falling confidence, ready for many weightings.

    Attributes:
        order: Shape (N,), row of the r-th most confident sample; None when rows are in order.
        starts: Shape (G,), rank at which each step starts; None when no two samples are tied.
        values: Shape (G,), confidence of each step.
        loss: Shape (N,), in the order of ranks; boolean when every loss is 0 or 1.
        scratch: Working memory of staircases.
    """

    order: Ints | None
    starts: Ints | None
    values: Float64s
    loss: Losses
    scratch: Scratch

    @classmethod
    def of(cls, s: Float64s, ell: Losses) -> "Ranked":
        """Sort once. Confidence and loss have shape (N,), are checked and stay as they are."""
        order = None
        if not (s[1:] <= s[:-1]).all():
            order = np.argsort(-s)
            s, ell = s[order], ell[order]
        starts = step_starts(s)
        return cls(order, starts, s if starts is None else s[starts], _as_errors(ell), Scratch())

    @cached_property
    def pair(self) -> Ints | None:
        """Shape (N,), 1 in the lower and a 0/1 loss in the upper half of an int64.

        One cumulative sum then counts samples and errors. None for other losses.
        """
        if self.loss.dtype != np.bool_:
            return None
        pair = self.loss.astype(np.int64)
        pair <<= 32
        pair += 1
        return pair

    @property
    def n_usable(self) -> int:
        """Number of steps at finite confidence."""
        return len(self.values) - int(self.values[-1] == -np.inf)

    def step_of(self, ranks: Ints) -> Ints:
        """Return the step that each of some ranks joins."""
        if self.starts is None:
            return ranks
        return np.asarray(np.searchsorted(self.starts, ranks, side="right") - 1)

    def steps(self, weights: Ints | None = None) -> Steps:
        """Return the staircase of the sample itself, or of weights (B, N) that sum to < 2^31.

        Of weights its arrays lie in memory of this thread, which the next call with weights
        overwrites: nothing computed from it may be a view. The staircase of the sample stays.
        """
        if weights is None:
            return staircase(self.loss, self.starts, self.n_usable)
        return self.steps_of_ranks(self.by_rank(weights))

    def by_rank(self, weights: Ints) -> Ints:
        """Return weights (B, N) in the order of ranks, in memory that the next call overwrites."""
        require_weights(weights, len(self.loss))
        if self.order is None:
            return weights
        out = self.scratch.array("weights", weights.shape, weights.dtype)
        return np.take(weights, self.order, axis=-1, out=out, mode="clip")

    def accepted(self, weights: Ints) -> Float64s:
        """Return how many are accepted up to each step, (B, G), of weights in the order of ranks.

        It lies in memory that the next staircase overwrites.
        """
        n_steps = len(weights[0]) if self.starts is None else len(self.starts)
        out = self.scratch.array("sizes", (len(weights), n_steps), np.float64)
        if self.starts is None:
            return np.cumsum(weights, axis=-1, dtype=np.float64, out=out)
        np.add.reduceat(weights, self.starts, axis=-1, dtype=np.float64, out=out)
        return np.cumsum(out, axis=-1, out=out)

    def steps_of_ranks(self, weights: Ints) -> Steps:
        """Return the staircase of weights (B, N) in the order of ranks; see `steps`."""
        if self.pair is None:
            lost = self._cumulated("losses", weights, self.loss)
            return Steps(self.accepted(weights), lost, self.n_usable, self.scratch)
        halves = self._cumulated("pairs", weights, self.pair).view(np.int32)
        accepted, lost = (
            self.scratch.array(name, halves[..., ::2].shape, np.float64)
            for name in ("accepted", "lost")
        )
        np.copyto(accepted, halves[..., _LOW::2])
        np.copyto(lost, halves[..., _HIGH::2])
        return Steps(accepted, lost, self.n_usable, self.scratch)

    def _cumulated(self, name: str, weights: Ints, each: Any) -> npt.NDArray[Any]:
        """Cumulative sums over steps of weights times something per sample."""
        dtype = np.asarray(each).dtype
        product = self.scratch.array(name, weights.shape, dtype)
        np.multiply(weights, each, out=product)
        if self.starts is not None:
            shape = (*weights.shape[:-1], len(self.starts))
            out = self.scratch.array(name + " of steps", shape, dtype)
            product = np.add.reduceat(product, self.starts, axis=-1, out=out)
        return np.cumsum(product, axis=-1, out=product)


def unranked_steps(s: Float64s, ell: Losses) -> Steps:
    """Return the staircase of one sample without its confidences.

    Args:
        s: Confidence, shape (N,), checked.
        ell: Loss, shape (N,), checked.

    Returns:
        The staircase.
    """
    errors = _as_errors(ell)
    found = None
    if errors.dtype == np.bool_ and s.min() > -np.inf:
        found = _sorted_with_errors(s, errors.view(np.uint8))
    return Ranked.of(s, errors).steps() if found is None else staircase(*found)


def _sorted_with_errors(
    s: Float64s, errors: npt.NDArray[np.uint8]
) -> tuple[Ints, Ints | None] | None:
    """Errors in the order of ranks, and the first ranks of steps; None where this cannot be told.

    Errors travel in the last bit of the confidences while these are sorted: sorting values is
    nearly twice as fast as sorting indices, and nothing has to be gathered. It cannot be told when
    the last bit matters, because two confidences differ in it alone.
    """
    keys = 0.0 - s
    bits = keys.view(np.uint64)
    bits &= ~np.uint64(1)
    bits |= errors
    keys.sort()
    zeros = slice(*(int(np.searchsorted(keys, 0.0, side)) for side in ("left", "right")))
    if np.signbit(keys[zeros]).any():  # the least positive number lost its only bit
        return None
    opens = np.ones(len(bits), dtype=np.bool_)
    for rows in pieces(len(bits) - 1):  # what is in between stays in the cache
        np.greater(bits[1:][rows] ^ bits[:-1][rows], 1, out=opens[1:][rows])
    starts = None
    if not opens.all():
        if (np.ascontiguousarray(s).view(np.uint64) & np.uint64(1)).any():
            return None
        starts = np.flatnonzero(opens)
    bits &= np.uint64(1)
    return bits.view(np.int64), starts


def step_starts(s: Float64s) -> Ints | None:
    """Return the rank at which each step starts, None when no two are tied.

    Args:
        s: Shape (N,), sorted.

    Returns:
        Shape (G,), or None.
    """
    opens = np.append(True, s[1:] != s[:-1])
    return None if opens.all() else np.flatnonzero(opens)


def staircase(loss: npt.NDArray[Any], starts: Ints | None, n_usable: int | None = None) -> Steps:
    """Return the staircase of a sample in the order of ranks.

    Args:
        loss: Shape (N,).
        starts: Shape (G,), rank at which each step starts; None when no two samples are tied.
        n_usable: Steps at finite confidence; None for all.

    Returns:
        The staircase.
    """
    n = len(loss)
    whole = loss.dtype.kind != "f"  # and added up faster as such
    lost = np.cumsum(loss, dtype=np.int64 if whole else np.float64).astype(np.float64, copy=False)
    if starts is None:
        accepted = np.arange(1.0, n + 1)
    else:
        last = np.append(starts[1:], n)
        last -= 1
        lost = lost[last]
        accepted = last + 1.0
    return Steps(accepted, lost, len(accepted) if n_usable is None else n_usable)


def checked(confidence: ArrayLike, loss: ArrayLike) -> tuple[Float64s, Losses]:
    """Return confidence and loss, checked, not copied; the loss boolean when it is 0 or 1.

    Args:
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).

    Returns:
        Both, of shape (N,); not to be changed.

    Raises:
        DataError: If an array is malformed, a confidence is NaN or +inf, or a loss is so large that
            sums of squares overflow.
    """
    s, raw = shared_confidence_and_loss(confidence, loss)
    ell = _as_errors(raw)
    if ell.dtype != np.bool_ and max(ell.max(), -ell.min()) > _LARGEST_LOSS:
        row = int(np.argmax(np.abs(ell)))
        raise DataError(
            f"loss is {ell[row]:.6g} in row {row}; beyond {_LARGEST_LOSS:g} sums of squares "
            "overflow. Divide all losses by a constant."
        )
    return s, ell


def require_errors(loss: Losses, metric: str) -> None:
    """Refuse losses other than 0 and 1.

    Args:
        loss: The losses, as `checked` returns them.
        metric: Name of the metric that needs errors.

    Raises:
        DataError: If a loss is neither 0 nor 1.
    """
    if loss.dtype != np.bool_:
        raise DataError(f"{metric} compares errors with correct predictions: loss must be 0 or 1.")


def _as_errors(ell: Losses) -> Losses:
    if ell.dtype == np.bool_:
        return ell
    wrong = np.asarray(ell == 1)
    return wrong if (wrong | (ell == 0)).all() else ell
