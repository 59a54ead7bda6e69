"""A prototype head: the nearest class mean, by distance or by angle.

Source: Snell, Swersky and Zemel 2017, "Prototypical Networks", https://arxiv.org/abs/1703.05175, on
fixed features. Means of rare classes are drawn towards the mean of all rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from selectkit.arrays import ArrayLike, Floats
from selectkit.artifact import Tensors
from selectkit.heads.artifacts import document_of, read_tensors, reading
from selectkit.heads.labelled import TrainSelect
from selectkit.heads.logit_scale import best_scale
from selectkit.heads.passes import Standardised
from selectkit.heads.rows import ABSENT_LOGIT, Float64s, by_blocks, feature_rows
from selectkit.heads.training.source import FeatureRows
from selectkit.threads import blas_threads_for

PRIOR_ROWS: tuple[float, ...] = (0.0, 1.0, 10.0, 100.0)
"""Shrinkages that are tried: rows at the mean of all rows that each class mean is averaged with."""

_HEIGHT = 1024


@dataclass(frozen=True, slots=True, eq=False)
class PrototypeHead:
    """Logits scale * (z . c_k - ||c_k||^2 / 2), or scale * cos(z, c_k); z = (x - mean) / deviation.

    The first is -scale / 2 ||z - c_k||^2 up to a term that all classes share.
    N rows, D features, K classes.

    Attributes:
        mean: Shape (D,), column means of the training rows.
        deviation: Shape (D,), their standard deviations; 1 for a constant column.
        prototypes: Shape (K, D), c_k = n_k / (n_k + prior_rows) times the mean of z in class k.
        known: Shape (K,), 1.0 for classes with training rows, 0.0 for the others (logit -50).
        distance: "euclidean" or "cosine".
        scale: > 0; the most likely one on `select`.
        prior_rows: The chosen shrinkage.
        n_train: Labelled training rows.
    """

    kind: ClassVar[str] = "prototype"
    mean: Float64s
    deviation: Float64s
    prototypes: Float64s
    known: Float64s
    distance: Literal["euclidean", "cosine"]
    scale: float
    prior_rows: float
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
        """Average the rows of each class; distance, shrinkage and scale by NLL on `select`.

        Args:
            features: Shape (N, D), finite; arrays, memory-mapped arrays, lazily read rows.
            labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
            select: Features and labels by which distance, shrinkage and scale are chosen.
            n_classes: K; at least 2 of them must occur in `labels`.

        Returns:
            The fitted head.

        Raises:
            DataError: If an array is wrong, no row is labelled, or only one class occurs.
        """
        data = TrainSelect.of(features, labels, select, n_classes)
        d, n_present = data.train.shape[1], len(data.present)
        sums, counts = np.zeros((n_present, d)), np.bincount(data.labels, minlength=n_present)
        with blas_threads_for(_HEIGHT * d * n_present):
            for start, block in data.train.blocks(_HEIGHT):
                own = np.equal.outer(np.arange(n_present), data.labels[start : start + len(block)])
                sums += own.astype(block.dtype) @ block
            best = min(
                (
                    cls._judged(data, sums / (counts + prior)[:, np.newaxis], distance, prior)
                    for distance in ("euclidean", "cosine")
                    for prior in PRIOR_ROWS
                ),
                key=lambda found: found[0],
            )
        _, prototypes, distance, prior, scale = best
        every, known = np.zeros((n_classes, d)), np.zeros(n_classes)
        every[data.present], known[data.present] = prototypes, 1.0
        return cls(data.mean, data.scale, every, known, distance, scale, prior, len(data.labels))

    @staticmethod
    def _judged(
        data: TrainSelect, prototypes: Float64s, distance: Any, prior: float
    ) -> tuple[float, Float64s, Any, float, float]:
        scores = _of_rows(data.select, prototypes, distance)
        scale, nll = best_scale(scores, data.select_labels)
        return nll, prototypes, distance, prior, scale

    def logits(self, features: ArrayLike) -> Float64s:
        """Return the logits of rows; each row's answer is independent of the other rows.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            Shape (N, K), float64, centred over the known classes.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        x = feature_rows(features, "features", len(self.mean))
        known = self.known > 0

        def rows(block: Float64s) -> Float64s:
            z = (block - self.mean) / self.deviation
            scores = self.scale * _scores(z, self.prototypes, self.distance)
            scores -= scores[:, known].mean(axis=1, keepdims=True)
            return np.asarray(np.where(known, scores, ABSENT_LOGIT))

        return by_blocks(x, rows, len(self.known))

    def to_artifact(self) -> tuple[dict[str, Any], dict[str, Float64s]]:
        """Return the document fields that belong to the head, and its tensors."""
        training = {
            "distance": self.distance,
            "scale": self.scale,
            "prior_rows": self.prior_rows,
            "n_train": self.n_train,
        }
        tensors = {
            "mean": self.mean,
            "deviation": self.deviation,
            "prototypes": self.prototypes,
            "known": self.known,
        }
        return document_of(self.kind, len(self.mean), len(self.known), training), tensors

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
            shapes = {"mean": (d,), "deviation": (d,), "prototypes": (k, d), "known": (k,)}
            training = document["training"]
            if training["distance"] not in {"euclidean", "cosine"}:
                raise ValueError(f"distance {training['distance']!r}")
            return cls(
                **read_tensors(tensors, shapes, cls.kind),
                distance=training["distance"],
                scale=float(training["scale"]),
                prior_rows=float(training["prior_rows"]),
                n_train=int(training["n_train"]),
            )


def _scores(z: Floats, prototypes: Float64s, distance: str) -> Float64s:
    products = np.asarray(z @ prototypes.T.astype(z.dtype), dtype=np.float64)
    lengths = np.sqrt(np.einsum("kd,kd->k", prototypes, prototypes))
    if distance == "euclidean":
        return np.asarray(products - lengths**2 / 2)
    norms = np.sqrt(np.einsum("nd,nd->n", z, z, dtype=np.float64))
    products /= np.where(norms > 0, norms, 1.0)[:, np.newaxis]
    return np.asarray(products / np.where(lengths > 0, lengths, 1.0))


def _of_rows(x: Standardised, prototypes: Float64s, distance: str) -> Float64s:
    return np.concatenate([_scores(z, prototypes, distance) for _, z in x.blocks(_HEIGHT)])
