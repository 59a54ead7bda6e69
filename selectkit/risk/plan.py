"""How many labels for which promise, and how likely they are enough: exact binomial arithmetic.

The test behind a certificate is an exact binomial one: n samples certify a rate alpha if they hold
at most k errors, where P(Bin(n, alpha) <= k) <= delta. Before anything is labelled, n is random as
well, because only a share of the images is evidence: those that are positives, say, and land in
val_calib. Both are counted here without approximation.

Source: the power of the exact test as in Chernick and Liu (2002), "The saw-toothed behavior of
power versus sample size and software solutions", The American Statistician 56: it falls between two
sample sizes at which one more error becomes affordable.
"""

from collections.abc import Callable
from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.errors import DataError, RiskError
from selectkit.stats.binomial import binomial_pvalue, check_level

Float64s = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_MOST_TEETH = 2**13
_MOST_IMAGES = 10**15
_TAIL = 9.0  # standard deviations beyond which a binomial count is left out: less than 1e-16


def labels_on_average(alpha: float, bound: float = 1.0) -> int:
    """Return the smallest sample on which conformal risk control can keep a mean loss.

    Source: Angelopoulos, Bates, Fisch, Lei and Schuster (2024), "Conformal risk control",
    https://arxiv.org/abs/2208.02814: (n R + B) / (n + 1) <= alpha needs n >= B / alpha - 1, even
    with no loss at all. The promise is about the average over calibration splits.

    Args:
        alpha: Mean loss to keep, in (0, 1).
        bound: B, the largest possible loss, > 0.

    Returns:
        The number of samples, at least 1.

    Raises:
        RiskError: If alpha is outside (0, 1) or the bound is not positive.

    Examples:
        >>> [labels_on_average(alpha) for alpha in (0.01, 0.02, 0.05, 0.1)]
        [99, 49, 19, 9]
    """
    check_level(alpha, "alpha")
    if not bound > 0:
        raise RiskError(f"the largest loss must be positive, got {bound}.")
    return max(1, ceil(bound / alpha - 1 - 1e-9))


def images_needed(n: int, share: float, sure: float = 0.95) -> int:
    """Return how many images to draw so that enough of them are evidence.

    Args:
        n: Pieces of evidence needed, >= 0.
        share: Probability that an image is one, in (0, 1].
        sure: Probability with which n are to be reached, in (0, 1).

    Returns:
        The smallest N with P(Bin(N, share) >= n) >= sure.

    Raises:
        RiskError: If the share is outside (0, 1] or so small that 10^15 images would not do, or
            `sure` outside (0, 1).
        DataError: If n is negative.

    Examples:
        >>> images_needed(114, 1.0), images_needed(114, 0.1)
        (114, 1312)
    """
    _check_share(share)
    check_level(sure, "sure")
    if n < 0:
        raise DataError(f"n must be at least 0, got {n}.")
    if share == 1 or n == 0:
        return n

    def enough(images: int) -> bool:  # P(at least n), as 1 - P(at most n - 1)
        return bool(_at_least(np.array([n]), images, share)[0] >= sure)

    return _smallest(enough, n)


def power(n: npt.ArrayLike, *, alpha: float, delta: float, true_rate: float) -> Float64s:
    """Return how likely n samples certify a rule that was fixed beforehand.

    Args:
        n: Samples, integers >= 0, of any shape.
        alpha: Rate to certify, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        true_rate: The rule's true error rate, in (0, 1).

    Returns:
        P(Bin(n, true_rate) <= k), k the most errors with P(Bin(n, alpha) <= k) <= delta, float64
        of the shape of n; 0 where not even k = 0 will do.

    Raises:
        RiskError: If a rate or delta is outside (0, 1).
        DataError: If n are no integers, or negative.

    Examples:
        >>> power([113, 114], alpha=0.02, delta=0.1, true_rate=0.005).round(3).tolist()
        [0.0, 0.565]
    """
    check_level(true_rate, "the true rate")
    sizes = np.asarray(n)
    k = most_errors(sizes, alpha, delta)
    passed = np.asarray(binomial_pvalue(np.maximum(k, 0), np.asarray(sizes), true_rate))
    return np.where(k < 0, 0.0, passed)


def power_of_images(
    images: npt.ArrayLike, share: float, *, alpha: float, delta: float, true_rate: float
) -> Float64s:
    """Return how likely a number of images certifies a rule, when evidence is a share of them.

    Args:
        images: Images that are drawn, integers >= 0, of any shape.
        share: Probability that an image is evidence, in (0, 1].
        alpha: Rate to certify, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        true_rate: The rule's true error rate, in (0, 1).

    Returns:
        The mean of `power` over the number of pieces of evidence, Bin(images, share), float64 of
        the shape of images.

    Raises:
        RiskError: If a rate, delta or the share makes no sense.
        DataError: If images are no integers, or negative.

    Examples:
        >>> power_of_images(1312, 0.1, alpha=0.02, delta=0.1, true_rate=0.005).round(3).tolist()
        0.49
    """
    _check_share(share)
    drawn = np.asarray(images)
    if share == 1 or not drawn.size:
        return power(drawn, alpha=alpha, delta=delta, true_rate=true_rate)
    if drawn.dtype.kind not in "iu" or drawn.min() < 0:
        raise DataError("images must be integers, at least 0.")
    low, high = _evidence(drawn, share)
    first = int(low.min())
    chance = power(
        np.arange(first, int(high.max()) + 1), alpha=alpha, delta=delta, true_rate=true_rate
    )
    means = np.empty(drawn.shape)
    for i in np.ndindex(drawn.shape):
        weights = _binomial(np.arange(int(low[i]), int(high[i]) + 1), int(drawn[i]), share)
        means[i] = weights @ chance[low[i] - first : high[i] + 1 - first]
    return means


def images_for_power(
    level: float, share: float, *, alpha: float, delta: float, true_rate: float
) -> int | None:
    """Return from how many images on a rule is certified with a given probability.

    Power is no monotone function of the number of samples; the answer holds for every larger
    number, too. Where evidence is a share of the images, it is at most a few images too high.

    Args:
        level: Probability of success to reach, in (0, 1).
        share: Probability that an image is evidence, in (0, 1].
        alpha: Rate to certify, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        true_rate: The rule's true error rate, in (0, 1).

    Returns:
        The number of images; None if the true rate is not below alpha, or so close that more
        than 8,192 errors would have to be affordable.

    Raises:
        RiskError: If a level, rate, delta or the share makes no sense, or 10^15 images would not
            do.

    Examples:
        >>> images_for_power(0.8, 1.0, alpha=0.02, delta=0.1, true_rate=0.01)
        828
    """
    check_level(level, "level")
    check_level(true_rate, "the true rate")
    _check_share(share)
    if true_rate >= alpha:
        return None
    teeth = 32
    while teeth <= _MOST_TEETH:
        starts = _labels_needed_each(teeth + 1, alpha, delta)
        lowest = np.asarray(binomial_pvalue(np.arange(teeth), starts[1:] - 1, true_rate))
        from_here = np.minimum.accumulate(lowest[::-1])[::-1]
        if from_here[-1] >= 1 - (1 - level) / 100:
            return _images_for(level, share, starts[:-1], from_here)
        teeth *= 2
    return None


def most_errors(n: npt.ArrayLike, alpha: float, delta: float) -> Counts:
    """Return the most errors among n samples that still certify alpha.

    Args:
        n: Samples, integers >= 0, of any shape.
        alpha: Rate to certify, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).

    Returns:
        The largest k with P(Bin(n, alpha) <= k) <= delta, int64 of the shape of n; -1 where there
        is none.

    Raises:
        RiskError: If alpha or delta is outside (0, 1).
        DataError: If n are no integers, or negative.

    Examples:
        >>> most_errors([113, 114, 193, 194], 0.02, 0.1).tolist()
        [-1, 0, 0, 1]
    """
    check_level(delta, "delta")
    sizes = np.asarray(n)
    binomial_pvalue(0 * sizes, sizes, alpha)  # refuses what is no count
    largest = _most_errors(np.atleast_1d(sizes.max(initial=0)), alpha, delta)
    if largest[0] > sizes.size:
        return _most_errors(sizes, alpha, delta)
    starts = _labels_needed_each(int(largest[0]) + 2, alpha, delta)
    return np.asarray(np.searchsorted(starts, sizes, side="right") - 1, dtype=np.int64)


def _most_errors(sizes: Counts, alpha: float, delta: float) -> Counts:
    """`most_errors` by bisection."""
    low = np.full(sizes.shape, -1, dtype=np.int64)
    high = np.asarray(sizes, dtype=np.int64)  # will not do: P(Bin(n, alpha) <= n) = 1
    while (high - low > 1).any():
        middle = np.maximum((low + high) // 2, 0)
        passes = (binomial_pvalue(middle, sizes, alpha) <= delta) & (middle < high)
        low, high = np.where(passes, middle, low), np.where(passes, high, middle)
    return low


def _evidence(images: Counts, share: float) -> tuple[Counts, Counts]:
    """Range in which the number of pieces of evidence lies, but for 1e-16."""
    spread = _TAIL * (np.sqrt(images * share * (1 - share)) + 1)
    low = np.maximum(0, np.floor(images * share - spread))
    high = np.minimum(images, np.ceil(images * share + spread))
    return low.astype(np.int64), high.astype(np.int64)


def _binomial(n: Counts, images: int, share: float) -> Float64s:
    """Probabilities of n under Bin(images, share), made to sum to 1."""
    from scipy.special import gammaln

    ways = gammaln(images + 1) - gammaln(n + 1) - gammaln(images - n + 1)
    log_p = ways + n * np.log(share) + (images - n) * np.log1p(-share)
    p = np.exp(log_p - log_p.max())
    return np.asarray(p / p.sum())


def _images_for(level: float, share: float, starts: Counts, at_least: Float64s) -> int:
    """Smallest N whose power is at least the level when power is a staircase of evidence."""
    if share == 1:
        return int(starts[np.argmax(at_least >= level)])
    rises = np.diff(at_least, prepend=0.0)

    def enough(images: int) -> bool:
        return bool(rises @ _at_least(starts, images, share) >= level)

    return _smallest(enough, int(starts[0]))


def _at_least(n: Counts, images: int, share: float) -> Float64s:
    """P(Bin(images, share) >= n)."""
    from scipy.special import betainc

    if share == 1:
        return np.asarray(n <= images, dtype=np.float64)
    inside = (n > 0) & (n <= images)
    a, b = np.where(inside, n, 1), np.where(inside, images - n + 1, 1)
    return np.where(inside, betainc(a, b, share), np.asarray(n <= 0, dtype=np.float64))


def _labels_needed_each(count: int, alpha: float, delta: float) -> Counts:
    """`labels_needed` for 0 ... count - 1 errors, at once."""
    from scipy.special import betaincc

    k = np.arange(count)
    low, high = k.copy(), k + 1  # P(Bin(k, alpha) <= k) = 1 > delta
    while (short := betaincc(k + 1, high - k, alpha) > delta).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    while (high - low > 1).any():
        middle = np.maximum((low + high) // 2, k + 1)
        passes = betaincc(k + 1, middle - k, alpha) <= delta
        low, high = np.where(passes, low, middle), np.where(passes, middle, high)
    return high


def _smallest(enough: Callable[[int], bool], at_least: int) -> int:
    """Smallest integer >= at_least with a property that, once it holds, holds for all larger."""
    if enough(at_least):
        return at_least
    low, high = at_least, 2 * at_least + 1
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_IMAGES:
            raise RiskError(
                "more than 10^15 images would be needed: so few of them are evidence that no "
                "practical number will do."
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise RiskError(f"the share must lie in (0, 1], got {share}.")
