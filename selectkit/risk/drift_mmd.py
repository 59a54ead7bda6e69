"""Have the features moved? The maximum mean discrepancy under a Gaussian kernel.

Source: Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), "A kernel two-sample test", JMLR 13:
MMD is the distance of the mean embeddings, with the median heuristic for the bandwidth. Rahimi and
Recht (2007), "Random features for large-scale kernel machines", NIPS 20: K random frequencies w
give the embedding (cos w x, sin w x) / sqrt(K). Then a reference is one mean vector, a look costs
one pass over the rows, and no pair of rows is ever formed.

If nothing has moved, the squared distance of the means of M and N rows is, for many rows,
(1/M + 1/N) sum_i v_i z_i^2 with independent standard normal z_i and the eigenvalues v_i of the
covariance of the embedding. Its tail is the chi-square law with the same first three moments (Hall
1983; Buckley and Eagleson 1988).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite, sqrt
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, finite_matrix, regular_array
from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.risk.stored import exact_fields
from selectkit.stats.binomial import Float64s

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class MmdReference:
    """Mean and spread of reference features under random Fourier features.

    Attributes:
        bandwidth: Of the kernel exp(-|x - y|^2 / (2 h^2)), in the units of the features, > 0.
        seed: Of the K frequencies, drawn by numpy's frozen legacy generator so that a stored
            reference means the same under every version.
        dim: D, number of features.
        n: M >= 2, number of reference rows.
        mean: Mean embedding, length 2 K.
        spread: Eigenvalues of the covariance of the embedding, falling, length 2 K.
    """

    kind: ClassVar[str] = "mmd"
    finest: ClassVar[float] = 0.0
    bandwidth: float
    seed: int
    dim: int
    n: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def fit(
        cls, features: ArrayLike, *, rng: np.random.Generator, n_frequencies: int = 128
    ) -> Self:
        """Summarise reference features in one pass.

        Args:
            features: Shape (M, D), or (M,) for scores, M >= 2, finite.
            rng: Draws the frequencies, and the 500 rows whose median distance is the bandwidth.
            n_frequencies: K >= 1.

        Returns:
            The reference: 4 K + 4 numbers, whatever M and D.

        Raises:
            DataError: If the features cannot be used.
            RiskError: If n_frequencies < 1.
        """
        if n_frequencies < 1:
            raise RiskError(f"n_frequencies must be at least 1, got {n_frequencies}.")
        x = _matrix(features)
        some = np.sort(rng.permutation(len(x))[:500])
        bandwidth = _median_distance(finite_matrix(x[some], "features"))
        seed = int(rng.integers(2**31))
        frequencies = _frequencies(seed, x.shape[1], n_frequencies, bandwidth)
        mean = _mean_embedding(x, frequencies)
        scatter = np.zeros((2 * n_frequencies, 2 * n_frequencies))
        for block in _embeddings(x, frequencies):
            scatter += (block - mean).T @ (block - mean)
        spread = np.maximum(np.linalg.eigvalsh(scatter / (len(x) - 1))[::-1], 0.0)
        return cls(
            bandwidth, seed, x.shape[1], len(x), tuple(mean.tolist()), tuple(spread.tolist())
        )

    def compare(self, values: ArrayLike) -> tuple[float, float]:
        """Return the discrepancy of new features and its p-value.

        Args:
            values: Shape (N, D), or (N,) if D = 1, N >= 2, finite.

        Returns:
            The MMD, >= 0, and the large-sample p-value: good for N >= 50 or so.

        Raises:
            DataError: If the features cannot be used.
        """
        x = _matrix(values)
        if x.shape[1] != self.dim:
            raise DataError(f"features have {x.shape[1]} columns; the reference has {self.dim}.")
        frequencies = _frequencies(self.seed, self.dim, len(self.mean) // 2, self.bandwidth)
        distance = _mean_embedding(x, frequencies) - np.array(self.mean)
        squared = float(distance @ distance)
        scale = 1 / len(x) + 1 / self.n
        return sqrt(squared), _tail(squared, scale * np.array(self.spread))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        document = asdict(self)
        return {
            "kind": self.kind,
            **document,
            "mean": list(self.mean),
            "spread": list(self.spread),
        }

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
        values = exact_fields(document, cls, "a mmd reference", kind=cls.kind)
        mean, spread = values["mean"], values["spread"]
        counts = [values[name] for name in ("seed", "dim", "n")]
        if (
            not all(isinstance(v, list | tuple) for v in (mean, spread))
            or not 0 < len(mean) == len(spread)
            or len(mean) % 2
            or not all(_number(v) for v in (*mean, *spread, values["bandwidth"]))
            or values["bandwidth"] <= 0
            or min(spread) < 0
            or not all(type(v) is int for v in counts)
            or not (0 <= counts[0] < 2**31 and counts[1] >= 1 and counts[2] >= 2)
        ):
            raise ArtifactError("a mmd reference cannot be used: its numbers are impossible.")
        return cls(**{**values, "mean": tuple(mean), "spread": tuple(spread)})


def _matrix(features: ArrayLike) -> Any:
    """Features as they are, (N, D): they are converted and checked block by block."""
    x = regular_array(features, "features")
    x = x[:, None] if x.ndim == 1 else x
    if x.dtype.kind not in "fiub":
        raise DataError(f"features must be real numbers, got dtype {x.dtype}.")
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise DataError(f"features must have shape (N, D) with N >= 2, got {x.shape}.")
    return x


def _median_distance(x: Float64s) -> float:
    """Median distance of distinct pairs; 1 where all rows are equal."""
    from scipy.spatial.distance import pdist

    distances = pdist(x)
    apart = distances[distances > 0]
    return float(np.median(apart)) if apart.size else 1.0


def _frequencies(seed: int, dim: int, count: int, bandwidth: float) -> Float64s:
    draws = np.random.RandomState(seed).standard_normal((dim, count))
    return np.asarray(draws / bandwidth)


def _embeddings(x: Any, frequencies: Float64s) -> Iterator[Float64s]:
    """Random Fourier features of blocks of rows, (<= 4096, 2 K)."""
    for first in range(0, len(x), _BLOCK):
        block = x[first : first + _BLOCK].astype(np.float64)
        if not np.isfinite(block).all():
            row = first + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise DataError(f"features are not finite in row {row}.")
        angles = block @ frequencies
        waves = np.concatenate((np.cos(angles), np.sin(angles)), axis=1)
        yield waves / sqrt(frequencies.shape[1])


def _mean_embedding(x: Any, frequencies: Float64s) -> Float64s:
    total = np.zeros(2 * frequencies.shape[1])
    for block in _embeddings(x, frequencies):
        total += block.sum(axis=0)
    return np.asarray(total / len(x))


def _tail(value: float, weights: Float64s) -> float:
    """P(sum_i w_i z_i^2 >= value) by a chi-square law with the same three moments."""
    from scipy.special import gammaincc

    first, second, third = weights.sum(), 2 * (weights**2).sum(), 8 * (weights**3).sum()
    if first < 1e-12:  # the reference is constant
        return 1.0 if value < 1e-12 else 0.0
    freedom = 8 * second**3 / third**2
    shifted = freedom + (value - first) * sqrt(2 * freedom / second)
    return float(gammaincc(freedom / 2, max(0.0, shifted) / 2))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)
