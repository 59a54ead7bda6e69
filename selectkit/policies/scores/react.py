"""The energy of logits from clipped features.

Source: Sun, Guo and Li 2021, "ReAct: Out-of-distribution detection with rectified activations",
https://arxiv.org/abs/2111.12797. The paper clips activations after a ReLU from above. Class tokens
of a vision transformer have both signs and a layer norm, so here both tails are clipped, in
standard deviations from each column's mean, where the features are alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import finite_matrix
from selectkit.artifact import Tensors
from selectkit.errors import ArtifactError, DataError
from selectkit.policies.outputs import Outputs
from selectkit.policies.scores.artifacts import document_of, read
from selectkit.policies.scores.plain import log_sum_exp
from selectkit.policies.scores.score import Float64s, TrainRows, features_of

PERCENTILE = 90.0
"""Of |x - mean| / deviation over all rows and columns: what lies beyond is clipped."""

_ENTRIES = 2**23
_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class React:
    """logsumexp(head(clip(x, low, high))).

    Attributes:
        low: Shape (D,), mean - c deviation.
        high: Shape (D,), mean + c deviation.
        n_train: Training rows, labelled or not.
    """

    kind: ClassVar[str] = "react"
    low: Float64s
    high: Float64s
    n_train: int

    @classmethod
    def fit(cls, train: TrainRows) -> Self:
        """Take c from the training rows, evenly spaced ones where there are many.

        Args:
            train: Its features are used.

        Returns:
            The score.
        """
        n, d = train.features.shape
        sums, squares = np.zeros(d), np.zeros(d)
        origin = train.features[0].astype(np.float64)
        for _, block in train.blocks():
            block -= origin
            sums += block.sum(axis=0)
            squares += np.einsum("nd,nd->d", block, block)
        deviation = np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0))
        mean = origin + sums / n
        rows = train.features[:: ceil(n * d / _ENTRIES)].astype(np.float64)
        away = np.abs(rows - mean) / np.where(deviation > 0, deviation, np.inf)
        c = float(np.percentile(away, PERCENTILE))
        return cls(mean - c * deviation, mean + c * deviation, n)

    def __call__(self, outputs: Outputs) -> Float64s:
        """Return the energy of the head's logits of the clipped features.

        Args:
            outputs: Features and the head are used.

        Returns:
            Shape (N,).

        Raises:
            DataError: If there are no features, none that fit, or no head.
        """
        x = features_of(outputs, len(self.low), self.kind)
        if outputs.head is None:
            raise DataError("the score react asks the head about clipped features; there is none.")
        out = np.empty(len(x))
        for start in range(0, len(x), _ROWS):
            clipped = np.clip(x[start : start + _ROWS].astype(np.float64), self.low, self.high)
            z = finite_matrix(outputs.head(clipped), "logits of clipped features")
            out[start : start + len(z)] = log_sum_exp(z)
        return out

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return the score's own document fields, and its tensors."""
        fields = document_of(self.kind, len(self.low), self.n_train)
        return fields, {"low": self.low, "high": self.high}

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
        arrays, _ = read(document, tensors, cls.kind, {"low": (d,), "high": (d,)})
        if (arrays["low"] > arrays["high"]).any():
            raise ArtifactError("the score react clips to an empty range. Calibrate again.")
        return cls(**arrays, n_train=int(document["n_train"]))
