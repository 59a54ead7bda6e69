"""What every fit of a head starts from: checked rows of train and select, and column moments."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints
from selectkit.errors import DataError
from selectkit.heads.passes import Standardised
from selectkit.heads.rows import Float64s, present_classes
from selectkit.heads.training.source import FeatureRows, Source, checked_moments, labelled

WORKING_SET = 2**30
"""Bytes of standardised features that a fit keeps in memory; larger ones are read on every pass."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainSelect:
    """Labelled rows of train and select, standardised by the moments of train.

    N rows of train, M of select, D features, P classes that occur in train.

    Attributes:
        train: N rows.
        labels: Shape (N,), indices into `present`.
        select: M rows; those of a class that train lacks are left out.
        select_labels: Shape (M,), indices into `present`.
        present: Codes of the classes in train, shape (P,), P >= 2.
    """

    train: Standardised
    labels: npt.NDArray[np.int64]
    select: Standardised
    select_labels: npt.NDArray[np.int64]
    present: npt.NDArray[np.int64]

    @property
    def mean(self) -> Float64s:
        """Column means of train, shape (D,)."""
        return self.train.mean

    @property
    def scale(self) -> Float64s:
        """Population standard deviations of train, shape (D,); 1 for a constant column."""
        return self.train.scale

    @classmethod
    def of(
        cls,
        features: FeatureRows,
        labels: ArrayLike,
        select: tuple[FeatureRows, ArrayLike],
        n_classes: int,
    ) -> Self:
        """Check everything at the door.

        Args:
            features: Shape (N, D), finite.
            labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
            select: Features and labels of the rows by which a fit is chosen.
            n_classes: K; at least 2 of them must occur in `labels`.

        Returns:
            The rows, ready to be passed over.

        Raises:
            DataError: If an array is wrong, no row is labelled, only one class occurs, or select
                has other columns or none of the classes.
        """
        source, y = labelled(features, labels, n_classes, "train")
        mean, scale = checked_moments(source)
        present = present_classes(y)
        held_out, w = select_rows(select, present, source.n_features, n_classes)
        checked_moments(held_out)
        return cls(
            Standardised.of(source, mean, scale, WORKING_SET),
            np.searchsorted(present, y),
            Standardised.of(held_out, mean, scale, WORKING_SET // 4),
            np.searchsorted(present, w),
            present,
        )


def select_rows(
    select: tuple[FeatureRows, ArrayLike], present: Ints, n_features: int, n_classes: int
) -> tuple[Source, npt.NDArray[np.int64]]:
    """Return the rows of select, and their labels, that are of a class in train.

    Args:
        select: Features and labels.
        present: Codes of the classes in train.
        n_features: D of train.
        n_classes: K.

    Raises:
        DataError: If an array is wrong, or select has other columns or none of these classes.
    """
    source, y = labelled(*select, n_classes, "select")
    if source.n_features != n_features:
        raise DataError(
            f"select features have {source.n_features} columns but train has {n_features}."
        )
    seen = np.isin(y, present)
    if not seen.any():
        raise DataError(
            f"select holds none of the classes in train ({', '.join(map(str, present))}); "
            "split again, or add labels."
        )
    return (source, y) if seen.all() else (source.chosen(np.flatnonzero(seen)), y[seen])
