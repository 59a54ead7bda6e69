"""Policies tried on rows of val_select, before one of them is certified on val_calib."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from selectkit.pipeline.certify import Fit, Question
from selectkit.pipeline.evidence import Evidence, Labels
from selectkit.pipeline.prepared import PreparedCascade
from selectkit.policies import CascadePolicy, Decision, Guide, Outputs, OwnScore, StageCosts
from selectkit.policies.cascade.rows import Plain


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """A split drawn from val_select: three parts of it with a role each.

    Attributes:
        guide: Positions of the rows that say which rules to test.
        calib: Drawn from the second part, with repetitions: the calibration split.
        other: Positions of the rows that say what a policy would do.
        rows: `calib` and `guide` as one run sees them.
        seen: `other` as one run sees them.
    """

    guide: Labels
    calib: Labels
    other: Labels
    rows: Evidence
    seen: Guide

    @classmethod
    def of(cls, units: Guide, n: int, rng: np.random.Generator) -> Self:
        """Draw a split.

        No row has two roles. A guide that has seen the calibration rows tests what will pass, which
        no guide can know; rows that chose a rule make it look better than it is.

        Args:
            units: Three independent rows of val_select or more.
            n: Rows of the calibration split.
            rng: Random numbers.

        Returns:
            The split.
        """
        thirds = np.array_split(rng.permutation(len(units.labels)), 3)
        guide, drawn_from, other = (np.sort(part).astype(np.int64) for part in thirds)
        calib = drawn_from[rng.integers(0, len(drawn_from), n)]
        sample, names = units.take(calib), np.arange(n).astype(np.str_)
        first = units.take(guide)
        rows = Evidence(sample.outputs, sample.labels, names, names, first, None, sample.groups)
        return cls(guide, calib, other, rows, units.take(other))


class Outcome(NamedTuple):
    """What came of one draw.

    Attributes:
        certified: Whether there was a certificate.
        coverage: Share of the other rows that the policy accepts.
        cost: Mean cost of one of them, or None when policies are compared by coverage.
        computing: Mean cost of the stages that one reaches, or None when nobody said it.
    """

    certified: bool
    coverage: float
    cost: float | None
    computing: float | None


@dataclass(frozen=True, slots=True, eq=False)
class RunTry:
    """A policy of one run.

    Attributes:
        fit: How it is certified.
        asked: The question as it is asked.
        score: Its score.
        costs: What stages cost, the run's own first; or None.
    """

    fit: Fit
    asked: Question
    score: str | OwnScore
    costs: StageCosts | None

    def outcome(self, question: Question, draw: Draw) -> Outcome:
        """Return what comes of one draw.

        Args:
            question: What was asked of all policies.
            draw: The rows.

        Returns:
            The outcome.
        """
        policy = self.fit(self.asked, draw.rows, self.score).policy
        decision = policy.decide(draw.seen.outputs)
        feasible = policy.infeasible is None
        return _outcome(feasible, decision, question, draw.seen.labels, self.costs)


@dataclass(frozen=True, slots=True, eq=False)
class CascadeTry:
    """A cascade of runs.

    Attributes:
        units: What each stage says about the independent rows of val_select.
        labels: Their labels.
        n: Independent rows of val_calib that all stages have.
        scores: What each stage ranks rows by.
        costs: What the stages cost.
        priced: Whether somebody said so, and not only the heads were measured.
        positive: Code of the positive class, or None.
        last_decides: Whether the last stage decides every row that reaches it.
    """

    units: tuple[Outputs, ...]
    labels: Labels
    n: int
    scores: tuple[Plain, ...]
    costs: StageCosts
    priced: bool
    positive: int | None
    last_decides: bool

    @classmethod
    def of(cls, prepared: PreparedCascade, alone: Labels, *, priced: bool) -> Self:
        """Take what a cascade is certified with.

        Args:
            prepared: The cascade.
            alone: Positions of the independent rows among those of val_select.
            priced: Whether somebody said what the stages cost.

        Returns:
            What is tried.
        """
        return cls(
            units=tuple(said.take(alone) for said in prepared.guides),
            labels=prepared.select.y[alone],
            n=len(prepared.alone),
            scores=prepared.scores,
            costs=prepared.costs,
            priced=priced,
            positive=prepared.stages[0].run.head.positive,
            last_decides=prepared.last_decides,
        )

    def outcome(self, question: Question, draw: Draw) -> Outcome:
        """Return what comes of one draw.

        Args:
            question: What was asked of all policies.
            draw: The rows.

        Returns:
            The outcome.
        """
        calib = draw.calib[: self.n]
        policy = CascadePolicy.fit(
            self._seen(calib),
            self.labels[calib],
            costs=self.costs,
            target=question.targets,
            select=(self._seen(draw.guide), self.labels[draw.guide]),
            delta=question.delta,
            scores=self.scores,
            positive=self.positive,
            last_decides=self.last_decides,
        )
        decision = policy.decide(self._seen(draw.other))
        costs = self.costs if self.priced else None
        feasible = policy.infeasible is None
        return _outcome(feasible, decision, question, self.labels[draw.other], costs)

    def _seen(self, rows: Labels) -> list[Outputs]:
        return [said.take(rows) for said in self.units]


def _outcome(
    certified: bool,
    decision: Decision,
    question: Question,
    labels: Labels,
    costs: StageCosts | None,
) -> Outcome:
    cost = computing = None
    if costs is not None:
        computing = float(StageCosts(costs.stages).of(decision).mean())
        cost = None if costs.human is None else float(costs.of(decision).mean())
    if question.costs is not None:
        cost = float(question.costs.of(decision, labels, question.positive or 0).mean())
    return Outcome(certified, float(decision.accepted.mean()), cost, computing)
