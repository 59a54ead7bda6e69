"""What a score is, and what one may be fitted on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats, finite_matrix
from selectkit.artifact import Tensors
from selectkit.errors import DataError
from selectkit.policies.outputs import Outputs

Float64s = npt.NDArray[np.float64]

_BLOCK_ROWS = 2048


class Score(Protocol):
    """Maps outputs of N rows to confidences (N,)."""

    def __call__(self, outputs: Outputs, /) -> Float64s:
        """Return the confidences, float64, finite, row by row; higher = accept first."""
        ...


class FittedScore(Score, Protocol):
    """A score with numbers of its own, fitted on rows of train."""

    kind: ClassVar[str]

    @classmethod
    def fit(cls, train: "TrainRows") -> Self:
        """Fit the score."""
        ...

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return document fields and tensors that `from_artifact` reads back."""
        ...

    @classmethod
    def from_artifact(cls, document: Mapping[str, Any], tensors: Tensors) -> Self:
        """Rebuild the score."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TrainRows:
    """Rows that the head was trained on, and what it says about them; checked when it is made.

    N rows, D features, K classes.

    Attributes:
        features: Shape (N, D), any real dtype, finite; may be memory-mapped.
        labels: Shape (N,), codes in [0, K); -1 for rows without a label.
        logits: Shape (N, K), float64.
        classifier: Weights (D, K) and bias (K,) for which logits = features weights + bias, or None
            when the head is not linear in the features.
    """

    features: Floats
    labels: npt.NDArray[np.int64]
    logits: Float64s
    classifier: tuple[Float64s, Float64s] | None = None

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            DataError: If a shape is wrong or an entry is not finite.
        """
        x, y, z = np.asanyarray(self.features), np.asarray(self.labels), self.logits
        if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "fiub":
            raise DataError(f"features must be real, of shape (N, D), got {x.dtype} {x.shape}.")
        z = finite_matrix(z, "logits")
        if not len(x) == len(y) == len(z) or y.ndim != 1 or y.dtype.kind != "i":
            raise DataError(
                f"features, labels and logits must have equal lengths and labels be integers, got "
                f"{x.shape}, {y.dtype} {y.shape} and {z.shape}."
            )
        if len(y) and not -1 <= y.min() <= y.max() < z.shape[1]:
            raise DataError(f"labels must lie in [-1, {z.shape[1]}), got {y.min()} to {y.max()}.")
        if self.classifier is not None:
            shapes = self.classifier[0].shape, self.classifier[1].shape
            if shapes != ((x.shape[1], z.shape[1]), (z.shape[1],)):
                raise DataError(f"the classifier must map (D,) to (K,), got {shapes}.")
        object.__setattr__(self, "features", x)
        object.__setattr__(self, "labels", y.astype(np.int64))
        object.__setattr__(self, "logits", z)
        for start, block in self.blocks():
            wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if wrong.size:
                raise DataError(
                    f"features are not finite in row {start + int(wrong[0])}; every entry must be."
                )

    def blocks(self) -> Iterator[tuple[int, Float64s]]:
        """Yield (first row, features of a block of rows as float64)."""
        for start in range(0, len(self.features), _BLOCK_ROWS):
            yield start, self.features[start : start + _BLOCK_ROWS].astype(np.float64)

    def moments(self, about: Float64s | None = None) -> tuple[Float64s, Float64s]:
        """Return the mean (D,) and the mean outer product (D, D) of the features less `about`.

        Args:
            about: Shape (D,); the mean when None.

        Returns:
            The mean of the features themselves, and the second moments.
        """
        n, d = self.features.shape
        mean = np.zeros(d)
        for _, block in self.blocks():
            mean += block.sum(axis=0) / n
        second = np.zeros((d, d))
        for _, block in self.blocks():
            block -= mean
            second += block.T @ block
        second /= n
        if about is not None:
            second += np.outer(mean - about, mean - about)
        return mean, second


def features_of(outputs: Outputs, n_features: int, kind: str) -> Floats:
    """Return the features that a score needs.

    Args:
        outputs: N rows.
        n_features: D it was fitted on.
        kind: The score, for messages.

    Returns:
        Shape (N, D), finite.

    Raises:
        DataError: If there are none, of another width, or with entries that are not finite.
    """
    x = outputs.features
    if x is None:
        raise DataError(f"the score {kind} needs features; the outputs have none.")
    if x.ndim != 2 or x.shape[1] != n_features:
        raise DataError(
            f"the score {kind} was fitted on {n_features} features, got shape {x.shape}. "
            "Use the view and the feature that it was fitted on."
        )
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise DataError(
            f"the features in row {row} are not finite; the score {kind} needs numbers."
        )
    return x
