"""The distance to the k-th nearest training row.

Source: Sun, Ming, Zhu and Li 2022, "Out-of-distribution detection with deep nearest neighbors",
https://arxiv.org/abs/2204.06507: features of length one, Euclidean distance. The paper finds that a
part of the training rows does nearly as well as all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats
from selectkit.artifact import Tensors
from selectkit.errors import ArtifactError
from selectkit.neighbours import nearest
from selectkit.policies.outputs import Outputs
from selectkit.policies.scores.artifacts import document_of, read
from selectkit.policies.scores.score import Float64s, TrainRows, features_of
from selectkit.threads import blas_threads_for

NEIGHBOUR = 50
"""k: the smallest that the paper recommends; fewer when train has fewer rows."""

MOST_ROWS = 50_000
"""Training rows that are kept at most: evenly spaced ones of more."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """-||x / ||x|| - r||, r the k-th nearest training row of length one.

    Attributes:
        rows: Shape (R, D), float16, of length one.
        neighbour: k in [1, R].
        n_train: Training rows, kept or not, labelled or not.
    """

    kind: ClassVar[str] = "knn"
    rows: npt.NDArray[np.float16]
    neighbour: int
    n_train: int

    @classmethod
    def fit(cls, train: TrainRows) -> Self:
        """Keep evenly spaced training rows, at most 50,000.

        Args:
            train: Its features are used.

        Returns:
            The score.
        """
        kept = train.features[:: ceil(len(train.features) / MOST_ROWS)]
        rows = np.empty(kept.shape, dtype=np.float16)
        for start in range(0, len(kept), 2048):
            rows[start : start + 2048] = _unit(kept[start : start + 2048])
        return cls(rows, min(NEIGHBOUR, len(rows)), len(train.features))

    def __call__(self, outputs: Outputs) -> Float64s:
        """Return minus the distance, in [-2, 0].

        Args:
            outputs: Features are used.

        Returns:
            Shape (N,).

        Raises:
            DataError: If there are no features, or none that fit.
        """
        x = features_of(outputs, self.rows.shape[1], self.kind)
        out = np.empty(len(x))
        with blas_threads_for(256.0 * 4096 * x.shape[1]):
            for start in range(0, len(x), 8192):
                unit = _unit(x[start : start + 8192])
                cosine = nearest(unit, self.rows, self.neighbour)[0][:, -1].astype(np.float64)
                out[start : start + len(unit)] = -np.sqrt(np.maximum(2 - 2 * cosine, 0))
        return out

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return the score's own document fields, and its tensors."""
        fields = document_of(
            self.kind, self.rows.shape[1], self.n_train, neighbour=float(self.neighbour)
        )
        return fields, {"rows": self.rows}

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
        shapes = {"rows": (None, document["n_features"])}
        arrays, (k,) = read(document, tensors, cls.kind, shapes, "neighbour")
        if not 1 <= k <= len(arrays["rows"]):
            raise ArtifactError(f"the score knn has no neighbour {k:g}. Calibrate again.")
        return cls(arrays["rows"].astype(np.float16), int(k), int(document["n_train"]))


def _unit(x: Floats) -> npt.NDArray[np.float32]:
    wide = x.astype(np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    return np.asarray(wide / np.where(lengths > 0, lengths, 1.0)[:, np.newaxis], dtype=np.float32)
