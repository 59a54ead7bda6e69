"""A nearest-neighbour head: the classes of the training rows at the smallest angles.

The weighted vote that is customary for self-supervised features (Wu, Xiong, Yu and Lin 2018,
"Unsupervised feature learning via non-parametric instance discrimination",
https://arxiv.org/abs/1805.01978, section 3.4), with a prior so that no class is impossible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Floats, Ints
from selectkit.artifact import Tensors
from selectkit.errors import ArtifactError
from selectkit.heads.artifacts import document_of, read_tensors, reading
from selectkit.heads.labelled import TrainSelect
from selectkit.heads.rows import ABSENT_LOGIT, Float64s, feature_rows
from selectkit.heads.training.source import FeatureRows
from selectkit.neighbours import nearest
from selectkit.threads import blas_threads_for

NEIGHBOURS: tuple[int, ...] = (5, 10, 20, 50, 100, 200)
"""Numbers of neighbours that are tried."""

TEMPERATURES: tuple[float, ...] = (0.03, 0.07, 0.2)
"""Temperatures of the vote that are tried: a neighbour at cosine c weighs exp((c - 1) / T)."""

MOST_ROWS = 100_000
"""Training rows that are kept at most: evenly spaced ones of a larger training set."""

_HEIGHT = 1024


@dataclass(frozen=True, slots=True, eq=False)
class KnnHead:
    """Logits log((votes_k + prior_k) / (all votes + 1)) of the nearest training rows.

    A vote is exp((cosine - largest cosine) / temperature), so the nearest neighbour casts one vote;
    the prior is one vote shared by class frequency. N rows, D features, R kept rows, K classes.

    Attributes:
        mean: Shape (D,), column means of the training rows.
        scale: Shape (D,), their standard deviations; 1 for a constant column.
        rows: Shape (R, D), float16: standardised training rows of length one.
        codes: Shape (R,), their classes.
        prior: Shape (K,), class frequencies in train, sum one.
        neighbours: How many vote.
        temperature: > 0.
        n_train: Labelled training rows, kept or not.
    """

    kind: ClassVar[str] = "knn"
    mean: Float64s
    scale: Float64s
    rows: npt.NDArray[np.float16]
    codes: npt.NDArray[np.int64]
    prior: Float64s
    neighbours: int
    temperature: float
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
        """Keep the training rows; number of neighbours and temperature by NLL on `select`.

        At most 100,000 rows are kept, evenly spaced ones of more, of every class at least its
        first: memory and time of a prediction are bounded.

        Args:
            features: Shape (N, D), finite; arrays, memory-mapped arrays, lazily read rows.
            labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
            select: Features and labels by which neighbours and temperature are chosen.
            n_classes: K; at least 2 of them must occur in `labels`.

        Returns:
            The fitted head.

        Raises:
            DataError: If an array is wrong, no row is labelled, or only one class occurs.
        """
        data = TrainSelect.of(features, labels, select, n_classes)
        kept = _kept(data.labels)
        rows = _gathered(data, kept)
        codes = data.present[data.labels[kept]]
        counts = np.bincount(data.labels, minlength=len(data.present))
        prior = np.zeros(n_classes)
        prior[data.present] = counts / counts.sum()
        most = min(max(NEIGHBOURS), len(rows))
        with blas_threads_for(256.0 * 4096 * rows.shape[1]):
            held_out = np.concatenate([_unit(z) for _, z in data.select.blocks(_HEIGHT)])
            found = nearest(held_out, rows, most)
        y = data.present[data.select_labels]
        settings = [
            (k, t) for k in sorted({min(k, most) for k in NEIGHBOURS}) for t in TEMPERATURES
        ]
        losses = [
            -_votes(found[0][:, :k], codes[found[1][:, :k]], prior, t)[np.arange(len(y)), y].mean()
            for k, t in settings
        ]
        k, t = settings[int(np.argmin(losses))]
        return cls(data.mean, data.scale, rows, codes, prior, k, t, len(data.labels))

    def logits(self, features: ArrayLike) -> Float64s:
        """Return the logits of rows; each row's answer is independent of the other rows.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            Shape (N, K), float64: log-probabilities, -50 for classes without training rows.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        x = feature_rows(features, "features", len(self.mean))
        out = np.empty((len(x), len(self.prior)))
        with blas_threads_for(256.0 * 4096 * x.shape[1]):
            for start in range(0, len(x), 8 * _HEIGHT):
                z = _unit((x[start : start + 8 * _HEIGHT] - self.mean) / self.scale)
                similarity, at = nearest(z, self.rows, self.neighbours)
                votes = _votes(similarity, self.codes[at], self.prior, self.temperature)
                out[start : start + len(z)] = votes
        return out

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return the document fields that belong to the head, and its tensors."""
        training = {
            "neighbours": self.neighbours,
            "temperature": self.temperature,
            "n_kept": len(self.rows),
            "n_train": self.n_train,
        }
        tensors: dict[str, npt.NDArray[Any]] = {
            "mean": self.mean,
            "scale": self.scale,
            "rows": self.rows,
            "codes": self.codes,
            "prior": self.prior,
        }
        return document_of(self.kind, len(self.mean), len(self.prior), training), tensors

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
            training = document["training"]
            r, neighbours = int(training["n_kept"]), int(training["neighbours"])
            shapes = {"mean": (d,), "scale": (d,), "rows": (r, d), "codes": (r,), "prior": (k,)}
            arrays = read_tensors(tensors, shapes, cls.kind)
            codes = arrays["codes"].astype(np.int64)
            if not 1 <= neighbours <= r or codes.min() < 0 or codes.max() >= k:
                raise ArtifactError(
                    "the knn head's neighbours or codes make no sense. Fit it again."
                )
            return cls(
                mean=arrays["mean"],
                scale=arrays["scale"],
                rows=arrays["rows"].astype(np.float16),
                codes=codes,
                prior=arrays["prior"],
                neighbours=neighbours,
                temperature=float(training["temperature"]),
                n_train=int(training["n_train"]),
            )


def _kept(labels: Ints) -> npt.NDArray[np.int64]:
    if len(labels) <= MOST_ROWS:
        return np.arange(len(labels))
    firsts = np.unique(labels, return_index=True)[1]
    step = ceil(len(labels) / (MOST_ROWS - len(firsts)))
    return np.union1d(np.arange(0, len(labels), step), firsts)


def _gathered(data: TrainSelect, kept: Ints) -> npt.NDArray[np.float16]:
    rows = np.empty((len(kept), data.train.shape[1]), dtype=np.float16)
    for start, block in data.train.blocks(_HEIGHT):
        low, high = np.searchsorted(kept, (start, start + len(block)))
        rows[low:high] = _unit(block[kept[low:high] - start])
    return rows


def _unit(z: Floats) -> npt.NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("nd,nd->n", z, z, dtype=np.float64))
    return np.asarray(z / np.where(lengths > 0, lengths, 1.0)[:, np.newaxis], dtype=np.float32)


def _votes(similarity: Floats, codes: Ints, prior: Float64s, temperature: float) -> Float64s:
    weights = np.exp((similarity - similarity[:, :1]).astype(np.float64) / temperature)
    n, k = len(codes), len(prior)
    at = (np.arange(n)[:, np.newaxis] * k + codes).ravel()
    votes = np.bincount(at, weights=weights.ravel(), minlength=n * k).reshape(n, k)
    shares = (votes + prior) / (weights.sum(axis=1, keepdims=True) + 1)
    with np.errstate(divide="ignore"):
        return np.where(prior > 0, np.log(shares), ABSENT_LOGIT)
