"""What a guide's rows lead one to expect of the stages of a cascade."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from selectkit.arrays import Ints
from selectkit.policies.cascade.rows import Float64s
from selectkit.policies.families import Rows
from selectkit.policies.outputs import Outputs


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedRows:
    """N rows of a guide: errors are expected by labels and probabilities, not counted.

    A few hundred rows hold a handful of errors, and among thousands of tuples there are always some
    that happen to accept none of these. They look safest to a count, and are not.

    Attributes:
        stages: Per stage, as `Rows.expected` judges them.
    """

    stages: tuple[Rows, ...]

    @classmethod
    def of(
        cls,
        scores: Sequence[Float64s],
        stages: Sequence[Outputs],
        labels: Ints,
        positive: int | None,
    ) -> Self:
        """Judge the rows stage by stage.

        Args:
            scores: What each of S stages ranks rows by, shape (N,).
            stages: What each says about the same N rows.
            labels: Shape (N,), codes in [0, K).
            positive: Code of the positive class; None when only the risk "error" is asked for.

        Returns:
            The rows.
        """
        both = zip(scores, stages, strict=True)
        return cls(tuple(Rows.expected(s, said, labels, positive) for s, said in both))

    @property
    def scores(self) -> tuple[Float64s, ...]:
        """Per stage, shape (N,)."""
        return tuple(stage.score for stage in self.stages)

    def __len__(self) -> int:
        """N."""
        return len(self.stages[0])

    def judged(self, risk: str, positive: int | None) -> list[tuple[Float64s, Float64s]]:
        """Return per stage how probably a risk is about each row, and an error if it decides.

        Args:
            risk: Any but "deferral".
            positive: The class that the rows were judged for; they know it already.

        Returns:
            Two arrays of probabilities, shape (N,), for each stage.
        """
        return [_judged(stage, risk) for stage in self.stages]


def _judged(rows: Rows, risk: str) -> tuple[Float64s, Float64s]:
    match risk:
        case "error":
            return np.ones(len(rows)), rows.wrong
        case "fpr" | "false_alarm":
            return 1 - rows.positive, (1 - rows.positive) * rows.says_positive
        case _:
            return rows.positive, rows.positive * ~rows.says_positive
