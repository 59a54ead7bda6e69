"""Have the scores moved? A reason to audit, never a statement about errors.

Scores need no labels, so they can be watched all the time; but scores can move while the risk stays
and the risk can rise while the scores stay. A trigger therefore asks for an audit, and only audited
labels (`selectkit.risk.RiskMonitor`) say whether a promise is broken.

Looking again and again triggers by chance some day. A `DriftWatch` says at which rate: it tests
each look at level / planned_looks, so that over that many looks together the probability of any
false request is at most `level`, however the looks depend on each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from selectkit.arrays import ArrayLike
from selectkit.errors import ArtifactError, RiskError
from selectkit.risk.drift_mmd import MmdReference
from selectkit.risk.drift_scores import KsReference, PsiReference
from selectkit.risk.stored import exact_fields
from selectkit.stats.binomial import check_level


@runtime_checkable
class DriftReference(Protocol):
    """A summary of reference values that new values are compared with.

    Attributes:
        kind: Name of the statistic.
        finest: Smallest p-value that a comparison can give.
    """

    kind: ClassVar[str]
    finest: ClassVar[float]

    def compare(self, values: ArrayLike) -> tuple[float, float]:
        """Return the statistic and its p-value under "the same distribution"."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        ...


_KINDS: dict[str, type[PsiReference] | type[KsReference] | type[MmdReference]] = {
    cls.kind: cls for cls in (PsiReference, KsReference, MmdReference)
}


@dataclass(frozen=True, slots=True)
class DriftSignal:
    """The outcome of one look.

    Attributes:
        kind: "psi", "ks" or "mmd".
        statistic: Its value; 0 means that nothing has moved.
        p_value: Probability of such a value, or a larger one, if nothing has moved.
        level: The look triggers if p_value <= level.
        n: Number of values looked at.
        look: Number of this look, from 1.
    """

    kind: str
    statistic: float
    p_value: float
    level: float
    n: int
    look: int

    @property
    def triggered(self) -> bool:
        """Whether to ask for an audit."""
        return self.p_value <= self.level

    def sentence(self) -> str:
        """Return the outcome as English sentences."""
        found = (
            f"{self.kind} {self.statistic:.3g} on {self.n} values, p = {self.p_value:.2g} in look "
            f"{self.look} at level {self.level:.2g}"
        )
        if self.triggered:
            return (
                f"The scores have moved ({found}). This asks for an audit; it says nothing about "
                "errors."
            )
        return f"No sign that the scores have moved ({found}). This promises nothing about errors."


@dataclass(frozen=True, slots=True)
class DriftWatch:
    """A reference, and the looks taken so far; `look` returns the next state and the signal.

    Attributes:
        reference: What new values are compared with.
        level: Probability of any false request in the planned looks, in (0, 1).
        planned_looks: Number of looks that share it, >= 1; 1 states a rate per look. Each further
            look adds level / planned_looks.
        looks: Number of looks so far.
    """

    reference: DriftReference
    level: float = 0.05
    planned_looks: int = 1
    looks: int = 0

    def __post_init__(self) -> None:
        """Refuse levels that cannot be tested.

        Raises:
            RiskError: If the level or a count is out of range, or no p-value can be small enough.
        """
        check_level(self.level, "level")
        for name, count, least in (
            ("planned_looks", self.planned_looks, 1),
            ("looks", self.looks, 0),
        ):
            if type(count) is not int or count < least:
                raise RiskError(f"{name} must be an integer >= {least}, got {count!r}.")
        if self.level / self.planned_looks < self.reference.finest:
            raise RiskError(
                f"{self.planned_looks} looks at level {self.level:g} need p-values down to "
                f"{self.level / self.planned_looks:.2g}; {self.reference.kind} has none below "
                f"{self.reference.finest:.2g}. Plan fewer looks, or use ks or mmd."
            )

    def look(self, values: ArrayLike) -> tuple[Self, DriftSignal]:
        """Compare new values with the reference.

        Args:
            values: Shape (N,), or (N, D) for mmd: independent draws since the last look.

        Returns:
            The watch with this look counted, and the signal.

        Raises:
            DataError: If the values cannot be used.
        """
        statistic, p_value = self.reference.compare(values)
        n = len(values)  # type: ignore[arg-type]  # checked by compare
        level = self.level / self.planned_looks
        signal = DriftSignal(self.reference.kind, statistic, p_value, level, n, self.looks + 1)
        return replace(self, looks=self.looks + 1), signal

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON values, as in the schema monitor.v1."""
        return {
            "monitor": "drift",
            "level": self.level,
            "planned_looks": self.planned_looks,
            "looks": self.looks,
            "reference": self.reference.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the state that `to_dict` wrote.

        Args:
            document: The fields by name; `kind` and `format_version` of a file may be among them.

        Returns:
            The watch.

        Raises:
            ArtifactError: If fields are missing or unknown, or the state is impossible.
        """
        values = {k: v for k, v in document.items() if k not in {"kind", "format_version"}}
        values = exact_fields(values, cls, "a drift watch", monitor="drift")
        reference = values["reference"]
        known = _KINDS.get(str(reference.get("kind"))) if isinstance(reference, Mapping) else None
        if known is None:
            raise ArtifactError(f"the reference of a drift watch must be one of {sorted(_KINDS)}.")
        try:
            return cls(**{**values, "reference": known.from_dict(reference)})
        except (RiskError, TypeError, OverflowError) as error:
            raise ArtifactError(f"the drift watch cannot be used: {error}") from None
