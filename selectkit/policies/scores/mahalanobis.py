"""The distance to the nearest class mean, in units of the spread that classes share.

Source: Lee, Lee, Lee and Shin 2018, "A simple unified framework for detecting out-of-distribution
samples", https://arxiv.org/abs/1807.03888, equation 2, on the features of the cache. The covariance
is shrunk towards a multiple of the identity (Ledoit and Wolf 2004, section 3.2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.artifact import Tensors
from selectkit.blocks import by_blocks
from selectkit.errors import DataError
from selectkit.policies.outputs import Outputs
from selectkit.policies.scores.artifacts import document_of, read
from selectkit.policies.scores.score import Float64s, TrainRows, features_of
from selectkit.threads import blas_threads_for


@dataclass(frozen=True, slots=True, eq=False)
class Mahalanobis:
    """-min_k (x - mu_k)' S^-1 (x - mu_k) over the classes with training rows.

    Attributes:
        mean: Shape (D,), mean of the labelled rows.
        whitener: Shape (D, D), A with A A' = S^-1, so that a distance is ||(x - mu_k) A||^2.
        centres: Shape (P, D), (mu_k - mean) A of the P classes with training rows.
        shrinkage: Share of the identity in S, where features are measured in standard deviations.
        n_train: Labelled training rows.
    """

    kind: ClassVar[str] = "mahalanobis"
    mean: Float64s
    whitener: Float64s
    centres: Float64s
    shrinkage: float
    n_train: int

    @classmethod
    def fit(cls, train: TrainRows) -> Self:
        """Estimate class means and the covariance within classes.

        Args:
            train: Its labelled rows are used.

        Returns:
            The score.

        Raises:
            DataError: If no row is labelled.
        """
        known = np.flatnonzero(train.labels >= 0)
        if not len(known):
            raise DataError(
                "the score mahalanobis needs labelled rows of train, and there are none."
            )
        rows = TrainRows(train.features[known], train.labels[known], train.logits[known])
        classes, codes = np.unique(rows.labels, return_inverse=True)
        n, d = rows.features.shape
        with blas_threads_for(2048.0 * d * d):
            mean, total = rows.moments()
            deviation = np.sqrt(np.diag(total))
            scale = np.where(deviation > 1e-12 * np.abs(mean).clip(1e-300), deviation, 1.0)
            centres = np.zeros((len(classes), d))
            for start, block in rows.blocks():
                own = np.equal.outer(np.arange(len(classes)), codes[start : start + len(block)])
                centres += own.astype(np.float64) @ ((block - mean) / scale)
            counts = np.bincount(codes)
            centres /= counts[:, np.newaxis]
            within = total / np.outer(scale, scale) - (centres.T * (counts / n)) @ centres
            shrunk, share = _shrunk(within, _fourth_moment(rows, mean, scale, centres, codes), n)
            whitener = np.linalg.inv(np.linalg.cholesky(shrunk)).T
        return cls(mean, whitener / scale[:, np.newaxis], centres @ whitener, share, n)

    def __call__(self, outputs: Outputs) -> Float64s:
        """Return minus the squared distance to the nearest class, at most zero.

        Args:
            outputs: Features are used.

        Returns:
            Shape (N,).

        Raises:
            DataError: If there are no features, or none that fit.
        """
        x = features_of(outputs, len(self.mean), self.kind)
        lengths = np.einsum("kd,kd->k", self.centres, self.centres)

        def rows(block: Float64s) -> Float64s:
            u = (block - self.mean) @ self.whitener
            own = np.einsum("nd,nd->n", u, u)[:, np.newaxis]
            distances = own - 2 * u @ self.centres.T + lengths
            return np.asarray(np.minimum(-distances.min(axis=1, keepdims=True), 0.0))

        with blas_threads_for(64.0 * x.shape[1] ** 2):
            return by_blocks(x, rows, 1)[:, 0]

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return the score's own document fields, and its tensors."""
        tensors = {"mean": self.mean, "whitener": self.whitener, "centres": self.centres}
        fields = document_of(self.kind, len(self.mean), self.n_train, shrinkage=self.shrinkage)
        return fields, tensors

    @classmethod
    def from_artifact(cls, document: Mapping[str, Any], tensors: Tensors) -> Self:
        """Rebuild a score from what `to_artifact` returned.

        Args:
            document: The JSON fields; others than the score's own are ignored.
            tensors: The arrays by name.

        Returns:
            A score whose values equal the original's exactly.

        Raises:
            ArtifactError: If a field or a tensor is missing or of the wrong shape.
        """
        d = document["n_features"]
        shapes = {"mean": (d,), "whitener": (d, d), "centres": (None, d)}
        arrays, (shrinkage,) = read(document, tensors, cls.kind, shapes, "shrinkage")
        return cls(**arrays, shrinkage=shrinkage, n_train=int(document["n_train"]))


def _fourth_moment(
    rows: TrainRows, mean: Float64s, scale: Float64s, centres: Float64s, codes: Any
) -> float:
    """Mean of ||z - centre||^4."""
    total = 0.0
    for start, block in rows.blocks():
        away = (block - mean) / scale - centres[codes[start : start + len(block)]]
        total += float((np.einsum("nd,nd->n", away, away) ** 2).sum())
    return total / len(rows.features)


def _shrunk(within: Float64s, fourth: float, n: int) -> tuple[Float64s, float]:
    """(1 - rho) S + rho m I with m the mean eigenvalue; the identity where nothing varies."""
    d = len(within)
    middle = float(np.trace(within)) / d
    if middle <= 1e-12:
        return np.eye(d), 1.0
    square = float((within**2).sum())
    away, noise = square - d * middle**2, max(fourth - square, 0.0) / n
    share = min(1.0, max(1e-6, noise / max(away, 1e-300)))
    return (1 - share) * within + share * middle * np.eye(d), share
