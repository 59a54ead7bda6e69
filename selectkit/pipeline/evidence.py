"""The rows a promise rests on: independent ones, one of each group."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools
from selectkit.cache import Rows
from selectkit.policies import POSITIVE_RISKS, Guide, Outputs, Target

Labels = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_] | npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Rows to certify on, and rows to look at before.

    Attributes:
        outputs: What head and calibrator say about N rows.
        labels: Shape (N,), class codes.
        ids: Shape (N,).
        groups: Shape (N,): rows of one group are no independent evidence.
        guide: Rows of val_select, that may be looked at as often as one likes; None: rules that
            must be settled before the test take some of the N rows for it.
        split: Fingerprint of the N rows.
        strata: Shape (N,), for whom each promise is to hold on its own; or None.
    """

    outputs: Outputs
    labels: Labels
    ids: Names
    groups: Names
    guide: Guide | None = None
    split: str | None = None
    strata: Names | None = None
    _alone: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_alone", self.alone())

    @property
    def everyone(self) -> npt.NDArray[np.int64]:
        """One row of each group (and stratum)."""
        return self._alone

    @property
    def grouped(self) -> bool:
        """Whether rows were left out, so that each row stands for a group."""
        return len(self._alone) < len(self.labels)

    def alone(self, among: Bools | None = None) -> npt.NDArray[np.int64]:
        """Return one row of each group (and stratum), ascending, as `one_per_group`."""
        if self.strata is None:
            return one_of_each(self.ids, self.groups.tolist(), among)
        both = list(zip(self.groups.tolist(), self.strata.tolist(), strict=True))
        return one_of_each(self.ids, both, among)

    def about(self, target: Target, positive: int | None) -> npt.NDArray[np.int64]:
        """Return one row of each group among those the target is about.

        Args:
            target: About everybody, the positives or the negatives.
            positive: Code of the positive class.

        Returns:
            Positions, ascending.
        """
        if target.risk not in POSITIVE_RISKS:
            return self._alone
        is_positive = np.asarray(self.labels == positive)
        negatives = target.risk in {"fpr", "false_alarm"}
        return self.alone(~is_positive if negatives else is_positive)


def one_per_group(rows: Rows, among: Bools | None = None) -> npt.NDArray[np.int64]:
    """Return the position of one row of each group, the one whose id hashes lowest, ascending.

    Args:
        rows: Rows with their groups.
        among: Shape (N,): choose among these; None = all.

    Returns:
        Positions in `rows`.
    """
    return one_of_each(rows.ids, rows.groups.tolist(), among)


def one_of_each(
    ids: Names, keys: Sequence[Hashable], among: Bools | None = None
) -> npt.NDArray[np.int64]:
    """Return the position of one row of each key, the one whose id hashes lowest, ascending.

    Args:
        ids: Shape (N,).
        keys: N keys.
        among: Shape (N,): choose among these; None = all.

    Returns:
        Positions.
    """
    places = np.arange(len(ids)) if among is None else np.flatnonzero(among)
    if len({keys[place] for place in places.tolist()}) == len(places):
        return places.astype(np.int64)
    chosen: dict[Hashable, tuple[bytes, int]] = {}
    for place in places.tolist():
        drawn = hashlib.sha256(str(ids[place]).encode()).digest(), place
        chosen[keys[place]] = min(chosen.get(keys[place], drawn), drawn)
    return np.array(sorted(place for _, place in chosen.values()), dtype=np.int64)
