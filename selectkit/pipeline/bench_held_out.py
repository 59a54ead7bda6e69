"""Rows of a store that policies are compared on: val_calib and val_test, one image of each group.

Neither head nor calibrator has seen them; val_select guides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit.cache import Rows
from selectkit.pipeline.bench_rows import Labels
from selectkit.pipeline.evidence import one_per_group
from selectkit.policies import Guide, Outputs

HELD_OUT = ("val_calib", "val_test")
REUSED = (
    "the re-splits are made of val_calib and val_test: choosing a policy by this table and "
    "certifying it on the same val_calib makes its certificate too good. Choose on val_select, as "
    "`selectkit calibrate --policy auto` does, or divide delta by the number of policies"
)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """One image of each group of each of these splits.

    Attributes:
        parts: All labelled rows of each split.
        alone: Positions in each of them: one image of each group.
    """

    parts: tuple[Rows, ...]
    alone: tuple[Labels, ...]

    @classmethod
    def of(cls, parts: Sequence[Rows]) -> Self:
        """Take one image of each group.

        Args:
            parts: All labelled rows of each split.

        Returns:
            The rows.
        """
        return cls(tuple(parts), tuple(one_per_group(rows) for rows in parts))

    @property
    def labels(self) -> Labels:
        """Shape (N,): class codes."""
        pairs = zip(self.parts, self.alone, strict=True)
        return np.concatenate([rows.y[i] for rows, i in pairs])

    def joined(self, said: Sequence[Outputs]) -> Outputs:
        """Put together what a head says about them.

        Args:
            said: What it says about all rows of each split.

        Returns:
            N rows.
        """
        taken = [outputs.take(i) for outputs, i in zip(said, self.alone, strict=True)]
        return Outputs(
            np.concatenate([o.logits for o in taken]),
            np.concatenate([o.probabilities for o in taken]),
            _stacked([o.features for o in taken]),
            _stacked([o.gate for o in taken]),
            taken[0].head,
        )

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know: rows that were left out, and what they stand for."""
        n, used = sum(len(rows.y) for rows in self.parts), sum(len(i) for i in self.alone)
        return (*(() if n == used else (about_groups(n, used),)), REUSED)


def about_groups(images: int, groups: int) -> str:
    """Return what to say where only one image of each group is used."""
    return (
        f"{images:,} images of {groups:,} groups: one image of each group is used, so that rows "
        "are independent"
    )


def guide_of(select: Rows, outputs: Outputs) -> Guide:
    """Return the rows of val_select as they guide policies."""
    return Guide(outputs, select.y, select.groups.astype(np.str_))


def _stacked(arrays: Sequence[Any]) -> npt.NDArray[Any] | None:
    return None if arrays[0] is None else np.concatenate(arrays)
