"""One stage of a cascade: how it decides, what it costs, and what it did on val_calib."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Self

import numpy as np

from selectkit.errors import ArtifactError
from selectkit.fields import Fields
from selectkit.policies.cascade.rows import CascadeRows, Plain, StageCosts
from selectkit.policies.scores import SCORES, Gate


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, and counts over the N calibration rows.

    Attributes:
        name: What people call it.
        score: A plain score by name, or a calibrated gate.
        threshold: It decides the rows that reach it with at least this score.
        cost: Of every row that reaches it.
        reached: Rows that no earlier stage decided.
        decided: Rows that it decided.
        errors: Wrong predictions among those it decided.
        errors_everywhere: Wrong predictions among all N rows, decided by it or not.
        pays_below: Leaving the stage out would make the cascade dearer as long as it costs less
            than this for every row that reaches it, all other thresholds staying; None for the
            last stage. For two stages: the share that the first decides times the second's cost.
    """

    name: str
    score: Plain
    threshold: float
    cost: float
    reached: int
    decided: int
    errors: int
    errors_everywhere: int
    pays_below: float | None

    @property
    def score_name(self) -> str:
        """Name of the score."""
        return self.score if isinstance(self.score, str) else self.score.kind

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "name": self.name,
            "score": self.score_name,
            "parameters": self.score.to_dict()["parameters"]
            if isinstance(self.score, Gate)
            else None,
            "threshold": json_number(self.threshold),
            "cost": self.cost,
            "reached": self.reached,
            "decided": self.decided,
            "errors": self.errors,
            "errors_everywhere": self.errors_everywhere,
            "pays_below": self.pays_below,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the stage that `to_dict` wrote.

        Args:
            document: The fields by name; others are ignored.

        Returns:
            The stage.

        Raises:
            ArtifactError: If a field is missing, malformed or impossible.
        """
        read = Fields.of(document, "a stage of the cascade")
        read.value("pays_below")
        stage = cls(
            name=read.text("name"),
            score=_score(read),
            threshold=read.threshold("threshold"),
            cost=read.number("cost", 0),
            reached=read.count("reached"),
            decided=read.count("decided"),
            errors=read.count("errors"),
            errors_everywhere=read.count("errors_everywhere"),
            pays_below=read.maybe_number("pays_below"),
        )
        if not stage.errors <= stage.decided <= stage.reached:
            raise ArtifactError(f"{stage.name} of the cascade is impossible. Calibrate again.")
        return stage


def watched(
    rows: CascadeRows,
    *,
    names: Sequence[str],
    scores: Sequence[Plain],
    thresholds: Sequence[float],
    costs: StageCosts,
) -> tuple[Stage, ...]:
    """Return the stages of a cascade with what they do to some rows.

    Args:
        rows: N labelled rows.
        names: Per stage.
        scores: Per stage.
        thresholds: Per stage.
        costs: Of the stages.

    Returns:
        The stages.
    """
    leaves, y = rows.leaves(thresholds), np.asarray(rows.labels)
    stages = []
    for j, prediction in enumerate(rows.predictions):
        wrong, decides = prediction != y, leaves == j
        stages.append(
            Stage(
                names[j],
                scores[j],
                thresholds[j],
                costs.stages[j],
                int(np.count_nonzero(leaves >= j)),
                int(np.count_nonzero(decides)),
                int(np.count_nonzero(wrong & decides)),
                int(np.count_nonzero(wrong)),
                _pays_below(rows, thresholds, costs, j) if j + 1 < len(names) else None,
            )
        )
    return tuple(stages)


def _pays_below(
    rows: CascadeRows, thresholds: Sequence[float], costs: StageCosts, stage: int
) -> float | None:
    """What the rows that a stage decides would cost downstream, per row that reaches it."""
    leaves = rows.leaves(thresholds)
    decided, reached = leaves == stage, np.count_nonzero(leaves >= stage)
    if not reached:
        return None
    without = [*thresholds[:stage], inf, *thresholds[stage + 1 :]]
    later = rows.leaves(without)[decided]
    price = np.cumsum([*costs.stages, costs.human or 0.0])
    return float((price[later] - price[stage]).sum() / reached)


def json_number(value: float) -> float | str:
    """Return a number as JSON knows it; "inf" and "-inf" where it knows none."""
    return value if abs(value) < inf else ("inf" if value > 0 else "-inf")


def _score(document: Fields) -> Plain:
    name = document.text("score")
    if name == Gate.kind:
        return Gate.from_dict(document.document)
    if name not in SCORES:
        raise ArtifactError(
            f"score {name!r} of a cascade is unknown; known: {', '.join(SCORES)}, gate."
        )
    return name
