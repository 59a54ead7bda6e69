"""A ridge head: least squares on the class indicators, in closed form.

One pass over the rows gives X'X and X'Y; one eigendecomposition then gives the weights for every
strength. Source of the baseline: Bertinetto, Henriques, Torr and Vedaldi 2019, "Meta-learning with
differentiable closed-form solvers", https://arxiv.org/abs/1805.08136.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.artifact import Tensors
from selectkit.heads.artifacts import document_of, read_tensors, reading
from selectkit.heads.labelled import TrainSelect
from selectkit.heads.linear import STRENGTHS
from selectkit.heads.logit_scale import best_scale
from selectkit.heads.rows import Float64s, all_classes, by_blocks, feature_rows
from selectkit.heads.training.source import FeatureRows
from selectkit.threads import blas_threads_for

_HEIGHT = 2048


@dataclass(frozen=True, slots=True, eq=False)
class RidgeHead:
    """Logits ((x - mean) / scale) weights + bias. N rows, D features, K classes.

    Attributes:
        mean: Shape (D,), column means of the training rows.
        scale: Shape (D,), their standard deviations; 1 for a constant column.
        weights: Shape (D, K), float64, the regression times a factor that makes it a logit.
        bias: Shape (K,), float64.
        strength: The chosen penalty strength.
        path: (strength, negative log-likelihood on `select` in nats), strongest first.
        n_train: Labelled training rows.
    """

    kind: ClassVar[str] = "ridge"
    mean: Float64s
    scale: Float64s
    weights: Float64s
    bias: Float64s
    strength: float
    path: tuple[tuple[float, float], ...]
    n_train: int

    @classmethod
    def fit(
        cls,
        features: FeatureRows,
        labels: ArrayLike,
        *,
        select: tuple[FeatureRows, ArrayLike],
        n_classes: int,
    ) -> Self:
        """Minimise mean ||Z W + b - Y||^2 + strength ||W||^2 over W and b, Y the class indicators.

        The ten strengths of `LinearHead` are tried; each is scaled to the most likely logits on
        `select`, and the one with the smallest NLL there is kept, of equal ones the strongest.

        Args:
            features: Shape (N, D), finite; D may exceed N. Needs (D, D) float64 in memory.
            labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
            select: Features and labels by which strength and scale are chosen.
            n_classes: K; at least 2 of them must occur in `labels`.

        Returns:
            The fitted head.

        Raises:
            DataError: If an array is wrong, no row is labelled, or only one class occurs.
        """
        data = TrainSelect.of(features, labels, select, n_classes)
        d = data.train.shape[1]
        with blas_threads_for(_HEIGHT * d * d):
            best: tuple[float, float, Float64s, Float64s] | None = None
            path = []
            for strength, weights, bias in _solutions(data):
                scores = np.concatenate([
                    np.asarray(block @ weights.astype(block.dtype), dtype=np.float64) + bias
                    for _, block in data.select.blocks(_HEIGHT)
                ])
                factor, nll = best_scale(scores, data.select_labels)
                path.append((strength, nll))
                if best is None or nll < best[0]:
                    best = (nll, strength, factor * weights, factor * bias)
        assert best is not None  # there are strengths
        weights, bias = all_classes(best[2], best[3], data.present, n_classes)
        return cls(data.mean, data.scale, weights, bias, best[1], tuple(path), len(data.labels))

    def logits(self, features: ArrayLike) -> Float64s:
        """Return the logits of rows; each row's answer is independent of the other rows.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            Shape (N, K), float64.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        x = feature_rows(features, "features", len(self.mean))
        weights = self.weights / self.scale[:, np.newaxis]
        return by_blocks(x, lambda r: (r - self.mean) @ weights + self.bias, len(self.bias))

    def to_artifact(self) -> tuple[dict[str, Any], dict[str, Float64s]]:
        """Return the document fields that belong to the head, and its tensors."""
        training = {
            "strength": self.strength,
            "path": [list(point) for point in self.path],
            "n_train": self.n_train,
        }
        tensors = {
            "mean": self.mean,
            "scale": self.scale,
            "weights": self.weights,
            "bias": self.bias,
        }
        return document_of(self.kind, len(self.mean), len(self.bias), training), tensors

    @classmethod
    def from_artifact(cls, document: Mapping[str, Any], tensors: Tensors) -> Self:
        """Rebuild a head from what `to_artifact` returned.

        Args:
            document: The JSON fields; others than the head's own are ignored.
            tensors: The arrays by name.

        Returns:
            A head whose logits equal the original's exactly.

        Raises:
            ArtifactError: If a field or a tensor is missing or of the wrong shape.
        """
        with reading(cls.kind):
            d, k = document["n_features"], document["n_classes"]
            shapes = {"mean": (d,), "scale": (d,), "weights": (d, k), "bias": (k,)}
            training = document["training"]
            return cls(
                **read_tensors(tensors, shapes, cls.kind),
                strength=float(training["strength"]),
                path=tuple((float(s), float(nll)) for s, nll in training["path"]),
                n_train=int(training["n_train"]),
            )


def _solutions(data: TrainSelect) -> Iterator[tuple[float, Float64s, Float64s]]:
    """Strength, weights (D, P) and bias (P,) of every ridge regression of the path."""
    (n, d), k = data.train.shape, len(data.present)
    gram, cross, total = np.zeros((d, d)), np.zeros((d, k)), np.zeros(d)
    for start, block in data.train.blocks(_HEIGHT):
        y = np.eye(k, dtype=block.dtype)[data.labels[start : start + len(block)]]
        gram += block.T @ block
        cross += block.T @ y
        total += block.sum(axis=0, dtype=np.float64)
    share, middle = np.bincount(data.labels, minlength=k) / n, total / n
    # Standardised columns sum to nothing but rounding; take even that out.
    gram = gram / n - np.outer(middle, middle)
    cross = cross / n - np.outer(middle, share)
    values, vectors = np.linalg.eigh(gram)
    values, projected = np.maximum(values, 0), vectors.T @ cross
    for strength in STRENGTHS:
        weights = vectors @ (projected / (values + strength)[:, np.newaxis])
        yield strength, weights, share - middle @ weights
