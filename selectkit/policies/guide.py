"""Rows that say where to look, so that the certificate's rows are asked few questions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints, class_labels, regular_array
from selectkit.errors import DataError
from selectkit.policies.outputs import Outputs

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """Labelled rows that are independent of the calibration split, such as val_select.

    They decide which rules are tested, and in which order. The certificate holds whatever they
    are; the better they resemble the calibration split, the more is certified.

    Attributes:
        outputs: What head and calibrator say about M rows; the calibrator may be fitted on them.
        labels: Shape (M,), codes in [0, K).
        groups: Shape (M,), the group of each row, or None.
    """

    outputs: Outputs
    labels: Labels
    groups: npt.NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        """Check the labels and groups.

        Raises:
            DataError: If they do not fit the outputs.
        """
        labels = class_labels(self.labels, *self.outputs.probabilities.shape)
        object.__setattr__(self, "labels", labels)
        if self.groups is not None:
            object.__setattr__(self, "groups", group_names(self.groups, len(labels)))

    def take(self, rows: Ints) -> "Guide":
        """Return some of the rows, by number."""
        groups = None if self.groups is None else self.groups[rows]
        return Guide(self.outputs.take(rows), self.labels[rows], groups)


def group_names(groups: ArrayLike, n: int) -> npt.NDArray[np.str_]:
    """Return the groups as strings.

    Args:
        groups: Shape (N,).
        n: N.

    Returns:
        The names.

    Raises:
        DataError: If the shape is wrong.
    """
    names = regular_array(groups, "groups")
    if names.shape != (n,):
        raise DataError(f"groups must have shape ({n},) to match the rows, got {names.shape}.")
    return names.astype(np.str_)


def split_off(rows: Guide) -> tuple[Guide, Guide]:
    """Split rows at random into a guide, one third, and the rows that are left to certify on.

    The split looks at nothing but the number of rows (seed 0). Other orders of the rows give other
    splits; a guide of one's own avoids that, and leaves all rows to the certificate.

    Args:
        rows: N >= 2 rows.

    Returns:
        The guide and the rest.

    Raises:
        DataError: If there is one row only.
    """
    n = len(rows.labels)
    if n < 2:
        raise DataError("one row cannot be split into a guide and rows to certify on: pass guide.")
    shuffled = np.random.default_rng(0).permutation(n)
    first = max(1, n // 3)
    return rows.take(np.sort(shuffled[:first])), rows.take(np.sort(shuffled[first:]))
