"""What a setting is made of: its line of help, and the ranges of numbers that recur."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

Positive: TypeAlias = Annotated[int, Gt(0)]
Count: TypeAlias = Annotated[int, Ge(0)]
Rate: TypeAlias = Annotated[float, Gt(0), Lt(1)]
Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
BelowOne: TypeAlias = Annotated[float, Ge(0), Lt(1)]
AtLeastZero: TypeAlias = Annotated[float, Ge(0)]
AboveZero: TypeAlias = Annotated[float, Gt(0)]
Score: TypeAlias = Literal[
    "msp", "margin", "neg_entropy", "energy", "max_logit", "gate", "mahalanobis", "knn",
    "vim", "react", "residual",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Help:
    """What a setting means, in one line.

    Attributes:
        text: The meaning.
        panel: Heading under which `--help` shows it.
    """

    text: str
    panel: str | None = None
