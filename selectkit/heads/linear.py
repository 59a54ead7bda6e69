"""A linear head: multinomial logistic regression on standardised features, strength chosen.

The probe of self-supervised features: the weights that minimise the L2-penalised negative
log-likelihood, for the one of ten strengths that does best on held-out rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.artifact import Tensors
from selectkit.errors import DataError
from selectkit.heads.artifacts import document_of, read_tensors, reading
from selectkit.heads.labelled import TrainSelect
from selectkit.heads.logistic import mean_nll, regularisation_path
from selectkit.heads.rows import Float64s, all_classes, by_blocks, feature_rows
from selectkit.heads.training.source import FeatureRows
from selectkit.threads import blas_threads_for

STRENGTHS: tuple[float, ...] = tuple(float(s) for s in np.logspace(1, -5, 10))
"""Penalty strengths that are tried, strongest first; 10 to 1e-5, evenly in the logarithm."""

_PATIENCE = 3


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Logits ((x - mean) / scale) weights + bias. N rows, D features, K classes.

    Attributes:
        mean: Shape (D,), column means of the training rows.
        scale: Shape (D,), their standard deviations; 1 for a constant column.
        weights: Shape (D, K), float64.
        bias: Shape (K,), float64.
        strength: The chosen penalty strength.
        path: (strength, negative log-likelihood on `select` in nats), as visited.
        n_train: Labelled training rows.

    Examples:
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> y = np.array([0, 0, 1, 1])
        >>> head = LinearHead.fit(x, y, select=(x, y), n_classes=2)
        >>> head.logits(x).argmax(axis=1)
        array([0, 0, 1, 1])
    """

    kind: ClassVar[str] = "linear"
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
        strengths: Sequence[float] = STRENGTHS,
    ) -> Self:
        """Minimise mean NLL + strength / 2 ||W||^2 for each strength, keep the best on `select`.

        Strengths go from strong to weak, each fit starting from the one before; the path ends
        early once three strengths in a row did worse than the best. Of equal strengths the
        stronger wins. Products are float64 for float64 features and float32 for all others; sums
        over rows are float64. The result depends on the data only. Rows are standardised once when
        they fit into a gigabyte; larger features, memory-mapped ones for instance, are read anew in
        blocks on every pass (some ten passes per strength), and no copy of them is made.

        A class without training rows keeps a logit of -50, which no other logit of the row can
        be far below: the largest is at least zero. Rows of `select` in such a class are left out.

        Args:
            features: Shape (N, D), finite; D may exceed N, columns may be constant.
            labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
            select: Features and labels by which the strength is chosen.
            n_classes: K; at least 2 of them must occur in `labels`.
            strengths: Positive penalty strengths, strongest first.

        Returns:
            The fitted head.

        Raises:
            DataError: If an array is wrong, no row is labelled, only one class occurs, or
                `strengths` is not a falling sequence of positive numbers.
        """
        _check_strengths(strengths)
        data = TrainSelect.of(features, labels, select, n_classes)
        with blas_threads_for(data.train.shape[0] * data.train.shape[1] * len(data.present)):
            best, path = _best_on_select(data, strengths)
        weights, bias = all_classes(best[1], best[2], data.present, n_classes)
        return cls(data.mean, data.scale, weights, bias, best[0], path, len(data.labels))

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


def _best_on_select(
    data: TrainSelect, strengths: Sequence[float]
) -> tuple[tuple[float, Float64s, Float64s], tuple[tuple[float, float], ...]]:
    path: list[tuple[float, float]] = []
    best, lowest, since = None, np.inf, 0
    for fit in regularisation_path(data.train, data.labels, len(data.present), strengths):
        nll = mean_nll(data.select, data.select_labels, *fit[1:])
        path.append((fit[0], nll))
        since += 1
        if best is None or nll < lowest:
            best, lowest, since = fit, nll, 0
        if since == _PATIENCE:
            break
    assert best is not None  # strengths are not empty
    return best, tuple(path)


def _check_strengths(strengths: Sequence[float]) -> None:
    falling = all(a > b for a, b in zip(strengths, list(strengths)[1:], strict=False))
    if not strengths or not falling or not 0 < strengths[-1] <= strengths[0] < np.inf:
        raise DataError(
            f"strengths must be positive numbers, strongest first, got {list(strengths)}."
        )
