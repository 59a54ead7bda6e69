"""Rows that policies are compared on, as each of them sees them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from selectkit.arrays import class_labels
from selectkit.errors import ConfigError
from selectkit.pipeline.bench_stages import StagedRows
from selectkit.policies import Guide, Outputs, OwnScore
from selectkit.policies.scoring import named, score_function

Labels = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

Sees = Literal["score", "gate", "stages", "last stage"]
"""What of a row: head and score, or the gate in its place; all stages of a cascade, or the last."""


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Independent labelled rows that neither head nor calibrator has seen.

    They stand for everybody: what a policy does with all of them is its true risk, and a random
    part of them is what it is calibrated on.

    Attributes:
        outputs: N rows; what each of them is accepted by stands in the place of the gate.
        labels: Shape (N,), codes in [0, K).
        source: Where they come from, in words.
        positive: Code of the positive class, or None.
        guide: Other rows that say which rules to test, in the same form; None: a policy that wants
            some takes a third of its calibration rows.
        gated: `outputs` with the calibrated gate itself in its place; None without a gate.
        notes: What the user should know about the rows.
        staged: The same rows as the stages of a cascade see them, or None.
    """

    outputs: Outputs
    labels: Labels
    source: str
    positive: int | None = None
    guide: Guide | None = None
    gated: Outputs | None = None
    notes: tuple[str, ...] = ()
    staged: StagedRows | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.outputs.probabilities.shape[1])

    @classmethod
    def of_arrays(
        cls,
        outputs: Outputs,
        labels: npt.ArrayLike,
        *,
        source: str = "arrays",
        positive: int | None = None,
        score: str | OwnScore = "msp",
        guide: Guide | None = None,
        gate: Float64s | None = None,
        notes: tuple[str, ...] = (),
        staged: StagedRows | None = None,
    ) -> "Population":
        """Make a population of rows in memory.

        Args:
            outputs: N independent rows.
            labels: Shape (N,), codes in [0, K).
            source: Where they come from, in words.
            positive: Code of the positive class; 1 when there are two and none is named.
            score: What rows are accepted by.
            guide: Other labelled rows, or None.
            gate: Shape (N,), calibrated gate, or None.
            notes: What the user should know about the rows.
            staged: The same rows as the stages of a cascade see them, or None.

        Returns:
            The population; features are left out, because the score is computed here once.

        Raises:
            ConfigError: If the score or the positive class is unknown.
            DataError: If labels, gate or stages do not fit the outputs.
        """
        n_classes = outputs.probabilities.shape[1]
        y = class_labels(np.asarray(labels), len(outputs), n_classes)
        if positive is None and n_classes == 2:
            positive = 1
        if positive is not None and not 0 <= positive < n_classes:
            raise ConfigError(f"the positive class {positive} is outside [0, {n_classes}).")
        if staged is not None:
            staged.check(outputs.logits.shape)
        plain = replace(outputs, features=None, head=None)
        return cls(
            replace(plain, gate=score_function(*named(score))(outputs)),
            y,
            source,
            positive,
            None if guide is None else replace(guide, outputs=_scored(guide.outputs, score)),
            None if gate is None else replace(plain, gate=gate),
            notes,
            staged,
        )

    def seen(self, sees: Sees) -> Outputs | tuple[Outputs, ...]:
        """Return the rows as a contender sees them; those that it asks for must be there."""
        found: Outputs | tuple[Outputs, ...] | None = self.outputs
        if sees == "gate":
            found = self.gated
        elif sees in {"stages", "last stage"}:
            stages = None if self.staged is None else self.staged.outputs
            found = stages if stages is None or sees == "stages" else stages[-1]
        assert found is not None  # nobody takes part who sees what is not there
        return found


def _scored(outputs: Outputs, score: str | OwnScore) -> Outputs:
    s = score_function(*named(score))(outputs)
    return replace(outputs, features=None, head=None, gate=s)
