"""The rows of a fit, checked once: train and select, their labels, what standardises them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike
from selectkit.heads.labelled import select_rows
from selectkit.heads.rows import present_classes
from selectkit.heads.training.batches import Scaling
from selectkit.heads.training.source import FeatureRows, Source, checked_moments, labelled


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Checked rows of train and select.

    Attributes:
        train: Labelled training rows, N of them.
        labels: Their codes in [0, K), (N,).
        select: Labelled rows of classes that occur in train.
        select_labels: Their codes.
        present: Codes that occur in train, ascending.
        n_classes: K.
        scaling: Standardises as the training rows are.
        fingerprint: Hash of labels and of the moments of all features.
    """

    train: Source
    labels: npt.NDArray[np.int64]
    select: Source
    select_labels: npt.NDArray[np.int64]
    present: npt.NDArray[np.int64]
    n_classes: int
    scaling: Scaling
    fingerprint: str

    @classmethod
    def of(
        cls,
        features: FeatureRows,
        labels: ArrayLike,
        select: tuple[FeatureRows, ArrayLike],
        n_classes: int,
    ) -> Self:
        """Check everything, in one pass over the features.

        Args:
            features: Shape (N, D), finite.
            labels: Shape (N,), codes in [0, K), or -1.
            select: Features and labels for early stopping.
            n_classes: K.

        Returns:
            The rows.

        Raises:
            DataError: If an array is wrong, no row is labelled, or only one class occurs.
        """
        x, y = labelled(features, labels, n_classes, "train")
        present = present_classes(y)
        x_select, y_select = select_rows(select, present, x.n_features, n_classes)
        mean, scale = checked_moments(x)
        seen_moments = checked_moments(x_select)
        print_of = arrays_hash([mean, scale, y, *seen_moments, y_select])
        return cls(x, y, x_select, y_select, present, n_classes, Scaling(mean, scale), print_of)


def arrays_hash(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """Return a hash of shapes, dtypes and entries, in hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
