"""Rows that policies are compared on as several runs see them: the stages of a cascade."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from selectkit.errors import DataError
from selectkit.policies import Outputs, StageCosts
from selectkit.policies.cascade.rows import Plain, score_of


@dataclass(frozen=True, slots=True)
class Stages:
    """What is known of the stages.

    Attributes:
        names: What people call them.
        costs: What they cost.
        priced: Whether somebody said so; else costs are compared, and not reported.
        last_decides: Whether the last stage decides every row that reaches it.
    """

    names: tuple[str, ...]
    costs: StageCosts
    priced: bool = True
    last_decides: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "names": list(self.names),
            "costs": list(self.costs.stages) if self.priced else None,
            "human": self.costs.human,
            "unit": self.costs.unit,
            "last_decides": self.last_decides,
        }

    def line(self) -> str:
        """Return what the cost of a row is made of, for people."""
        paid = ", ".join(
            f"{name} {cost:.4g}" for name, cost in zip(self.names, self.costs.stages, strict=True)
        )
        human = self.costs.human
        person = "deferring costs nothing here"
        if human is not None:
            person = f"a person {human:.4g} for each that is deferred"
        first, last = self.names[0], self.names[-1]
        return (
            f"cost in {self.costs.unit}: {paid} for each row that reaches it, {person}; the "
            f"cascade pays for the stages that a row reaches, {alone(last)} for {last}, all others "
            f"for {first}"
        )


def alone(name: str) -> str:
    """Return what the last stage is called where it decides without the others."""
    return f"{name} alone"


@dataclass(frozen=True, slots=True, eq=False)
class StagedRows:
    """N rows as S stages see them.

    Attributes:
        about: What is known of the stages.
        outputs: Per stage N rows; what each of them is accepted by stands in the place of the gate.
        guides: Per stage the rows of the population's guide, in the same form; None: a cascade
            takes a third of its calibration rows for it.
    """

    about: Stages
    outputs: tuple[Outputs, ...]
    guides: tuple[Outputs, ...] | None = None

    @classmethod
    def of(
        cls,
        about: Stages,
        outputs: Sequence[Outputs],
        *,
        guides: Sequence[Outputs] | None = None,
        scores: Sequence[Plain] | None = None,
    ) -> Self:
        """Rank the rows of every stage.

        Args:
            about: What is known of the stages.
            outputs: What each of S stages says about the same N rows.
            guides: What each says about the rows of the population's guide, or None.
            scores: What each ranks rows by; None: msp.

        Returns:
            The rows.

        Raises:
            ConfigError: If a score cannot rank the rows of a stage.
        """
        by = scores or ["msp"] * len(outputs)
        ranked = [
            tuple(_ranked(said, score) for said, score in zip(several, by, strict=True))
            for several in (outputs, guides or ())
            if several
        ]
        return cls(about, ranked[0], ranked[1] if guides else None)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse stages that are about other rows or classes.

        Args:
            shape: (N, K).

        Raises:
            DataError: If one is.
        """
        for name, said in zip(self.about.names, self.outputs, strict=True):
            if said.logits.shape != shape:
                raise DataError(
                    f"the stage {name} has logits of shape {said.logits.shape}, the rows {shape}."
                )


def _ranked(outputs: Outputs, score: Plain) -> Outputs:
    return replace(outputs, features=None, head=None, gate=score_of(score)(outputs))
