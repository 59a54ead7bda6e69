"""Two ways to see that scores have moved: the stability index of bins, and the largest gap.

Sources: Yurdakul and Naranjo (2020), "Statistical properties of the population stability index",
Journal of Risk Model Validation 14 (the folklore limits 0.1 and 0.25 have no error rate: the index
of N unmoved scores in B bins is about (B - 1)(1/N + 1/M)); Kolmogorov (1933) and Smirnov (1939).
Ranks are all that counts, so any increasing map of the scores gives the same answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, regular_array
from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.risk.stored import exact_fields
from selectkit.stats.binomial import Float64s

_LARGEST = float(np.finfo(np.float64).max) / 2  # the number below it must be finite, too
_DRAWS = 9_999


@dataclass(frozen=True, slots=True)
class PsiReference:
    """Bins of about equal reference counts. PSI = sum (a - e) ln(a / e) over B bins.

    The shares e of the reference and a of the new scores have half a count added in each bin. The
    p-value comes from 9,999 simulated looks: shares of the bins given the reference are Dirichlet
    distributed, counts of the new scores multinomial. With continuous scores that is the law of
    the index, up to one count in the reference.

    Attributes:
        edges: Upper ends of all bins but the last, rising; a bin holds its upper end.
        counts: Reference scores per bin, one more than edges.
    """

    kind: ClassVar[str] = "psi"
    finest: ClassVar[float] = 1 / (_DRAWS + 1)
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def fit(cls, scores: ArrayLike, *, bins: int = 10) -> Self:
        """Summarise reference scores by quantiles.

        Args:
            scores: Shape (M,), M >= bins; infinities count as the largest numbers. A value that
                takes more than half a bin has a bin of its own.
            bins: Number of bins, >= 2; fewer or more come out where scores are tied.

        Returns:
            The reference.

        Raises:
            DataError: If the scores cannot be used.
            RiskError: If bins < 2.

        Examples:
            >>> reference = PsiReference.fit(np.arange(1000))
            >>> statistic, p_value = reference.compare(np.arange(200) * 5)
            >>> round(statistic, 4), p_value > 0.99
            (0.0, True)
        """
        if bins < 2:
            raise RiskError(f"bins must be at least 2, got {bins}.")
        s = np.sort(_ordered(scores, least=bins))
        ends = np.unique(s[np.arange(1, bins) * len(s) // bins - 1])
        ties = np.searchsorted(s, ends, side="right") - np.searchsorted(s, ends)
        heavy = ends[2 * bins * ties > len(s)]
        edges = np.unique(np.concatenate((ends, np.nextafter(heavy, -np.inf))))
        return cls(tuple(edges.tolist()), tuple(_counts(edges, s).tolist()))

    def compare(self, values: ArrayLike) -> tuple[float, float]:
        """Return the stability index of new scores and its p-value.

        Args:
            values: Shape (N,), N >= 1.

        Returns:
            The index, >= 0, and the simulated p-value in (0, 1].

        Raises:
            DataError: If the scores cannot be used.
        """
        new = _ordered(values, least=1)
        found = float(_index(np.array(self.counts), _counts(np.array(self.edges), new)))
        above = int((_simulated(self.counts, len(new)) >= found * (1 - 1e-12)).sum())
        return found, (1 + above) / (_DRAWS + 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"kind": self.kind, "edges": list(self.edges), "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the reference that `to_dict` wrote.

        Args:
            document: The fields by name.

        Returns:
            The reference.

        Raises:
            ArtifactError: If fields are missing, unknown or impossible.
        """
        values = exact_fields(document, cls, "a psi reference", kind=cls.kind)
        edges, counts = _rising(values["edges"], strictly=True), values["counts"]
        if (
            len(edges) < 1
            or not isinstance(counts, list | tuple)
            or len(counts) != len(edges) + 1
            or not all(type(count) is int and count >= 0 for count in counts)
            or not 1 <= sum(counts) < 2**53
        ):
            raise ArtifactError("a psi reference needs one count >= 0 more than edges.")
        return cls(edges, tuple(counts))


@dataclass(frozen=True, slots=True)
class KsReference:
    """A sorted reference sample. KS = largest gap of the two empirical distribution functions.

    Gaps are taken between distinct values, so ties across the samples make none. The p-value is
    Kolmogorov's limit, which is on the safe side for small samples and for tied scores.

    Attributes:
        values: Reference scores, rising, length M.
    """

    kind: ClassVar[str] = "ks"
    finest: ClassVar[float] = 0.0
    values: tuple[float, ...]

    @classmethod
    def fit(cls, scores: ArrayLike, *, rng: np.random.Generator, size: int = 10_000) -> Self:
        """Keep a sorted sample of reference scores.

        Args:
            scores: Shape (M,), M >= 1; infinities count as the largest numbers.
            rng: Draws the sample when there are more than `size` scores.
            size: Largest number to keep, >= 1.

        Returns:
            The reference.

        Raises:
            DataError: If the scores cannot be used.
            RiskError: If size < 1.
        """
        if size < 1:
            raise RiskError(f"size must be at least 1, got {size}.")
        s = _ordered(scores, least=1)
        if len(s) > size:
            s = rng.choice(s, size=size, replace=False, shuffle=False)
        return cls(tuple(np.sort(s).tolist()))

    def compare(self, values: ArrayLike) -> tuple[float, float]:
        """Return the largest gap between new and reference scores, and its p-value.

        Args:
            values: Shape (N,), N >= 1.

        Returns:
            The gap in [0, 1], and the p-value.

        Raises:
            DataError: If the scores cannot be used.
        """
        from scipy.special import kolmogorov

        new, old = np.sort(_ordered(values, least=1)), np.array(self.values)
        gap = max(_gap(new, old, new), _gap(new, old, old))
        effective = len(new) * len(old) / (len(new) + len(old))
        return gap, float(kolmogorov(np.sqrt(effective) * gap))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"kind": self.kind, "values": list(self.values)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the reference that `to_dict` wrote.

        Args:
            document: The fields by name.

        Returns:
            The reference.

        Raises:
            ArtifactError: If fields are missing, unknown or impossible.
        """
        stored = exact_fields(document, cls, "a ks reference", kind=cls.kind)
        values = _rising(stored["values"], strictly=False)
        if not values:
            raise ArtifactError("a ks reference needs at least one value.")
        return cls(values)


@lru_cache(maxsize=8)
def _simulated(counts: tuple[int, ...], n: int) -> Float64s:
    """The index of n unmoved scores, the same looks every time: equal inputs, equal answers."""
    rng, reference = np.random.default_rng(0), np.array(counts)
    masses = rng.dirichlet(reference + 1 / len(reference), size=_DRAWS)
    return _index(reference, rng.multinomial(n, masses))


def _gap(a: Float64s, b: Float64s, at: Float64s) -> float:
    """Largest difference of the two distribution functions at the given points."""
    below_a = np.searchsorted(a, at, side="right") / len(a)
    below_b = np.searchsorted(b, at, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def _counts(edges: Float64s, scores: Float64s) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.bincount(np.searchsorted(edges, scores), minlength=len(edges) + 1)


def _index(reference: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> Float64s:
    bins = reference.shape[-1]
    e = (reference + 0.5) / (reference.sum() + bins / 2)
    a = (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + bins / 2)
    return np.asarray(((a - e) * np.log(a / e)).sum(axis=-1))


def _ordered(scores: ArrayLike, least: int) -> Float64s:
    array = regular_array(scores, "scores")
    if array.dtype.kind not in "fiub":
        raise DataError(f"scores must be real numbers, got dtype {array.dtype}.")
    if array.ndim != 1 or array.size < least:
        raise DataError(f"scores must have shape (N,) with N >= {least}, got {array.shape}.")
    s = array.astype(np.float64)
    if np.isnan(s).any():
        raise DataError(f"scores is nan in row {int(np.flatnonzero(np.isnan(s))[0])}.")
    return np.asarray(np.clip(s, -_LARGEST, _LARGEST))


def _rising(values: Any, *, strictly: bool) -> tuple[float, ...]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array([np.nan])
    steps = np.diff(array) if array.ndim == 1 else np.array([-1.0])
    if not np.isfinite(array).all() or (steps < 0).any() or (strictly and (steps == 0).any()):
        raise ArtifactError("a drift reference needs finite numbers in rising order.")
    return tuple(array.tolist())
