"""Roots of many rising functions at once."""

from collections.abc import Callable, Sequence

import numpy as np

from selectkit.stats.binomial import Float64s

_TOLERANCE = 1e-9


def root_above(
    rising: Callable[[Float64s], Float64s],
    size: int,
    low: Float64s | None = None,
    tries: Sequence[Float64s] = (),
) -> Float64s:
    """Return where each of `size` rising functions passes 0, rounded up; 1 if nowhere.

    Looks at the tries first; then the method of false position with Illinois' halving, and a
    bisection every third step.

    Args:
        rising: Maps places, (size,), to values, (size,).
        size: Number of functions.
        low: Where to begin, (size,); 0 when None. The end is 1.
        tries: Places that are looked at first.

    Returns:
        Shape (size,), exact to 1e-9.
    """
    below = np.zeros(size) if low is None else np.array(low, dtype=np.float64)
    above = np.ones(size)
    f_below, f_above = rising(below), rising(above)
    passes, last = f_above > 0, np.zeros(size)
    for step in range(150):
        open_ = passes & (above - below > _TOLERANCE)
        if not open_.any():
            break
        if step < len(tries):
            at = tries[step]
        elif step % 3 == 2:
            at = (below + above) / 2
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                slope = (f_above - f_below) / (above - below)
                at = np.where(np.isfinite(slope), above - f_above / slope, (below + above) / 2)
        at = np.where(open_, np.clip(at, below + _TOLERANCE / 2, above - _TOLERANCE / 2), above)
        value = rising(at)
        up, down = open_ & (value > 0), open_ & ~(value > 0)
        f_below = np.where(down, value, np.where(up & (last > 0), f_below / 2, f_below))
        f_above = np.where(up, value, np.where(down & (last < 0), f_above / 2, f_above))
        below, above = np.where(down, at, below), np.where(up, at, above)
        last = np.where(up, 1, np.where(down, -1, last))
    return above
