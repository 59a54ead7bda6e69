"""Bootstrap resamples as counts: how often each sample is drawn, nothing copied, nothing sorted.

The counts of N draws with replacement are Multinomial(N; 1/N, ..., 1/N). Independent Poisson(rate)
counts with sum T are Multinomial(T; ...) given T, so: draw them with a rate a little below one,
draw the missing N - T one by one, and start again in the rare case T > N. That is exact, and costs
one random byte per sample instead of a random integer and a histogram.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints, regular_array
from selectkit.errors import DataError

Counts = npt.NDArray[np.uint8]

CHUNK = 1 << 16  # counts held at a time: chunks that stay in the cache are several times faster

_BLOCK = 1 << 16  # random bytes held at a time

_WORDS_OF_64 = (np.random.SFC64, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox)


def multinomial_counts(n: int, n_rows: int, rng: np.random.Generator) -> Counts:
    """Return how often each of n units is drawn in n draws with replacement.

    Args:
        n: Units, >= 1.
        n_rows: Independent resamples.
        rng: Source of randomness.

    Returns:
        Shape (n_rows, n), rows sum to n. No unit is drawn 256 times: 1e-500 is the chance of that.
    """
    rate = 1 - 3 / sqrt(n)
    if rate <= 0:
        counts, missing = np.zeros((n_rows, n), dtype=np.uint8), np.full(n_rows, n)
    else:
        counts = _poisson(rate, (n_rows, n), rng)
        missing = n - counts.sum(axis=1, dtype=np.int64)
        while (over := np.flatnonzero(missing < 0)).size:
            counts[over] = _poisson(rate, (len(over), n), rng)
            missing[over] = n - counts[over].sum(axis=1, dtype=np.int64)
    first = np.repeat(np.arange(n_rows) * n, missing)
    np.add.at(counts.reshape(-1), first + rng.integers(0, n, len(first)), np.uint8(1))
    return counts


def _poisson(rate: float, shape: tuple[int, int], rng: np.random.Generator) -> Counts:
    """Draw Poisson(rate) counts, rate <= 1, by comparing bytes with its distribution in 256ths.

    The bytes that belong to no count entirely, about three in 256, are settled by a draw from
    what is left of the distribution.
    """
    chance = rate ** np.arange(25) * exp(-rate) / np.cumprod([1, *range(1, 25)], dtype=np.float64)
    whole = np.floor(256 * chance)
    *bounds, settled = np.cumsum(whole[whole > 0]).astype(int).tolist()
    left = np.cumsum(256 * chance - whole)
    counts = np.zeros(shape, dtype=np.uint8)
    flat = counts.reshape(-1)
    for first in range(0, len(flat), _BLOCK):
        part = flat[first : first + _BLOCK]
        data = _random_bytes(len(part), rng)
        for bound in bounds:
            part += (data >= bound).view(np.uint8)
        if settled < 256:
            unsettled = np.flatnonzero(data >= settled)
            draws = rng.random(len(unsettled)) * left[-1]
            part[unsettled] = np.searchsorted(left, draws, side="right")
    return counts


def _random_bytes(n: int, rng: np.random.Generator) -> Counts:
    """The raw words of most generators are 64 random bits; those of MT19937 are 32."""
    if isinstance(rng.bit_generator, _WORDS_OF_64):
        return rng.bit_generator.random_raw(-(-n // 8)).view(np.uint8)[:n]
    return np.frombuffer(rng.bytes(n), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Units:
    """What is resampled: samples, or groups of them, within strata or not.

    Attributes:
        n: N, the number of samples.
        sizes: Units in each stratum; one stratum when there are none.
        member: Shape (N,), unit of each sample, units numbered stratum by stratum; None when each
            sample is its own unit, in order.
    """

    n: int
    sizes: tuple[int, ...]
    member: Ints | None

    @classmethod
    def of(
        cls, n: int, groups: ArrayLike | None = None, strata: ArrayLike | None = None
    ) -> "Units":
        """Number the units.

        Args:
            n: N, the number of samples.
            groups: Shape (N,), any dtype that sorts; samples of one group enter or leave together.
                None: every sample is a unit.
            strata: Shape (N,); as many units as there are of each stratum are drawn from it.

        Returns:
            The units.

        Raises:
            DataError: If an array has another shape, or a group lies in two strata.
        """
        if groups is None and strata is None:
            return cls(n, (n,), None)
        unit = np.arange(n) if groups is None else name_codes(groups, n, "groups")[1]
        if strata is None:
            return cls(n, (int(unit.max()) + 1,), unit)
        stratum = name_codes(strata, n, "strata")[1]
        pairs, rows, member = np.unique(
            np.stack([stratum, unit]), axis=1, return_index=True, return_inverse=True
        )
        twice = np.flatnonzero(np.bincount(pairs[1]) > 1)
        if twice.size:
            row = rows[pairs[1] == twice[0]][0]
            raise DataError(f"the group of row {row} lies in two strata; put it into one.")
        return cls(n, tuple(int(k) for k in np.bincount(pairs[0])), member.reshape(-1))

    @property
    def count(self) -> int:
        """Number of units."""
        return sum(self.sizes)

    def draw(self, n_rows: int, rng: np.random.Generator) -> Counts:
        """Return resampling counts per sample, shape (n_rows, N)."""
        drawn = [multinomial_counts(size, n_rows, rng) for size in self.sizes]
        return self.spread(drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=1))

    def spread(self, counts: Counts) -> Counts:
        """Return counts per sample, (n_rows, N), of counts per unit, (n_rows, units)."""
        return counts if self.member is None else np.take(counts, self.member, axis=1)

    def left_out(self, most: int, rng: np.random.Generator) -> Iterator[Counts]:
        """Yield weights that leave out one block of units at a time, for the jackknife.

        Args:
            most: Largest number of blocks; there are as many as units when these are fewer.
            rng: Deals the units into blocks.

        Yields:
            Zeros and ones of shape (b, N), in small chunks; nothing when there is one unit, without
            which no sample is left.
        """
        if self.count < 2:
            return
        blocks = min(most, self.count)
        block = rng.permutation(self.count) % blocks
        rows = max(1, CHUNK // self.n)
        for start in range(0, blocks, rows):
            these = np.arange(start, min(blocks, start + rows))
            yield self.spread((block != these[:, None]).astype(np.uint8))


def bootstrap_weights(
    n: int,
    n_replicates: int,
    groups: ArrayLike | None,
    rng: np.random.Generator,
    *,
    strata: ArrayLike | None = None,
) -> Iterator[Ints]:
    """Yield resampling counts in small chunks.

    Args:
        n: N, the number of samples.
        n_replicates: Rows in all.
        groups: Shape (N,), any dtype that sorts; samples of one group enter or leave together.
            None resamples single samples.
        rng: Source of randomness.
        strata: Shape (N,), resampled each for itself, or None.

    Yields:
        int64 arrays of shape (b, N). Rows sum to N, or about N when groups differ in size.

    Raises:
        DataError: If groups or strata do not have shape (N,), or a group lies in two strata.
    """
    units = Units.of(n, groups, strata)
    rows = max(1, CHUNK // n)
    for start in range(0, n_replicates, rows):
        yield units.draw(min(rows, n_replicates - start), rng).astype(np.int64)


def require_weights(weights: Ints, n: int) -> None:
    """Refuse weights that are not counts of these samples.

    Args:
        weights: What a statistic was called with.
        n: N, its number of samples.

    Raises:
        DataError: If they are not integers of shape (B, N).
    """
    if weights.ndim != 2 or weights.shape[1] != n or weights.dtype.kind not in "iu":
        raise DataError(
            f"weights must be integers of shape (B, {n}), one count per sample, got "
            f"{weights.dtype} of {weights.shape}."
        )


def name_codes(names: ArrayLike, n: int, what: str) -> tuple[npt.NDArray[Any], Ints]:
    """Number the names of groups, strata or classes.

    Args:
        names: Shape (N,), any dtype that sorts.
        n: N.
        what: What the caller calls them; used in messages.

    Returns:
        The distinct names, sorted, of shape (M,), and for each sample the number of its name.

    Raises:
        DataError: If the shape is wrong, a name is NaN, or names do not sort.
    """
    array = regular_array(names, what)
    if array.shape != (n,):
        raise DataError(f"{what} must have shape ({n},), got {array.shape}.")
    if array.dtype.kind in "fc" and np.isnan(array).any():
        raise DataError(f"{what} is NaN in row {int(np.argmax(np.isnan(array)))}.")
    try:
        values = np.unique(array)
        return values, codes_of(array, values)
    except TypeError as error:
        raise DataError(f"{what} must be of one sortable kind: {error}.") from None


def codes_of(names: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number names by their place among the distinct ones.

    Args:
        names: Shape (N,).
        values: Shape (M,), sorted, every name among them.

    Returns:
        Shape (N,), in [0, M).
    """
    if values.dtype.kind in "iu" and int(values[-1]) - int(values[0]) == len(values) - 1:
        return np.asarray(np.subtract(names, values[0], dtype=np.int64, casting="unsafe"))
    return np.asarray(np.searchsorted(values, names))
