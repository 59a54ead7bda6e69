"""Cascades: cheap stages decide what they are sure of, dearer stages or a human the rest.

A row is decided by the first stage whose score reaches that stage's threshold, and deferred when
none does. A certificate for the first stage says nothing about the others, which only ever see the
rows that were too hard for it. So the loss of the whole cascade is tested: that of whichever stage
decides.

Thresholds are found by Learn-then-Test over a grid of threshold tuples. The grid (quantiles of the
scores), which tuples are worth a test, and their order come from rows of their own (`select`); then
the calibration rows are tested along that order until a test fails
(`selectkit.policies.cascade.search`). Each test is exact: the tuple is fixed before the calibration
rows are looked at, so given how many rows a constraint counts, its errors are binomial. All
constraints are tested together by the largest of their p-values, which costs nothing
(`selectkit.risk.ltt`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.errors import ArtifactError, ConfigError
from selectkit.fields import Fields
from selectkit.policies.cascade import words
from selectkit.policies.cascade.expected import ExpectedRows
from selectkit.policies.cascade.front import CascadePoint, per_stage, points
from selectkit.policies.cascade.grid import Grid
from selectkit.policies.cascade.rows import CascadeRows, Plain, StageCosts
from selectkit.policies.cascade.search import searched
from selectkit.policies.cascade.stage import Stage, watched
from selectkit.policies.constraints import (
    Constraint,
    check_positive,
    constraints,
    read_constraints,
)
from selectkit.policies.outputs import Decision, Outputs
from selectkit.policies.target import POSITIVE_RISKS, Target
from selectkit.risk import Certificate, Infeasible

_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class CascadePolicy:
    """The first stage whose score reaches its threshold decides; a row that none decides waits.

    Attributes:
        stages: In the order in which they see a row.
        targets: What was asked for, together.
        delta: Probability with which any of the promises may fail.
        positive: Code of the positive class, or None when no target needs it.
        human: Cost of a deferred row, or None.
        unit: Of all costs.
        n: Calibration rows.
        certificates: One per target, together; empty when they are infeasible.
        points: The tuples that were tested, measured on the calibration rows; those certified are
            certified all at once, so that any of them may be chosen.
        infeasible: Why nothing can be promised; everything is deferred then.
    """

    kind: ClassVar[str] = "cascade"
    artifact: ClassVar[str] = "cascade"
    stages: tuple[Stage, ...]
    targets: tuple[Constraint, ...]
    delta: float
    positive: int | None
    human: float | None
    unit: str
    n: int
    certificates: tuple[Certificate, ...]
    points: tuple[CascadePoint, ...]
    infeasible: Infeasible | None = None

    @classmethod
    def fit(
        cls,
        stages: Sequence[Outputs],
        labels: ArrayLike,
        *,
        costs: StageCosts,
        target: Target | Sequence[Target],
        select: tuple[Sequence[Outputs], ArrayLike | None],
        delta: float = 0.1,
        scores: Plain | Sequence[Plain] = "msp",
        names: Sequence[str] | None = None,
        positive: int | None = None,
        last_decides: bool = False,
        split: str | None = None,
        grouped: bool = False,
    ) -> Self:
        """Find the best thresholds that are certified to keep every target.

        The best ones have the lowest expected cost. When the last stage may defer and no cost of a
        human is known, cost alone would defer everything: then they have the highest coverage, and
        among equals the lowest cost; unless the share deferred is itself limited by a target.

        Args:
            stages: What S >= 2 stages say about the same N rows, which no stage nor calibrator has
                seen; the later ones about all rows, not only those that would reach them.
            labels: Shape (N,), codes in [0, K).
            costs: Of each stage for every row that reaches it, and of a human.
            target: What to keep: risks of the whole cascade, and "deferral".
            select: What the stages say about other rows, which fix grid and order of the tests, and
                the labels of these. Without labels every tuple is tested, by Bonferroni's rule.
            delta: Probability with which any promise may fail.
            scores: Score of the stages, or one per stage.
            names: What people call the stages.
            positive: Code of the positive class; risks of positives and negatives need it.
            last_decides: Whether the last stage decides every row that reaches it.
            split: Fingerprint of the calibration rows, kept in the certificates.
            grouped: Whether each row stands for a group.

        Returns:
            The policy; it defers everything, and says why, when the targets are infeasible.

        Raises:
            ConfigError: If stages, scores, names, costs or targets make no sense.
            DataError: If the stages differ in rows or classes, or labels do not fit them.
            RiskError: If delta is outside (0, 1).
        """
        wanted, ranked_by = constraints(target), per_stage(scores, len(stages))
        check_positive(wanted, positive, stages[0].probabilities.shape[1] if stages else 0)
        rows = CascadeRows.of(stages, ranked_by, labels)
        others = CascadeRows.of(select[0], ranked_by, select[1])
        called = tuple(names or (f"stage {i + 1}" for i in range(len(stages))))
        if not len(costs.stages) == len(called) == len(stages):
            raise ConfigError(
                f"{len(stages)} stages need as many costs and names, got {len(costs.stages)} and "
                f"{len(called)}."
            )
        grid, guide = Grid.of(others.scores, last_decides=last_decides), None
        if others.labels is not None:
            about = positive if any(c.risk in POSITIVE_RISKS for c in wanted) else None
            guide = ExpectedRows.of(others.scores, select[0], others.labels, about)
        found = searched(
            rows, guide, grid, wanted, costs, positive, delta, last_decides=last_decides
        )
        best = found.best
        thresholds = (inf,) * len(stages) if best is None else grid.thresholds(best)
        return cls(
            watched(rows, names=called, scores=ranked_by, thresholds=thresholds, costs=costs),
            wanted,
            delta,
            positive,
            costs.human,
            costs.unit,
            len(rows),
            () if best is None else found.certificates(best, split=split, grouped=grouped),
            points(grid, found.measured, found.order, found.tested.certified),
            found.infeasible() if best is None else None,
        )

    @property
    def threshold(self) -> float:
        """0, or inf when everything is deferred: `Decision.score` is a distance from acceptance."""
        return 0.0 if self.infeasible is None else inf

    @property
    def score_name(self) -> str:
        """What `Decision.score` is."""
        return "largest score over threshold"

    @property
    def certified(self) -> tuple[CascadePoint, ...]:
        """The points that are certified, all at once, cheapest first."""
        return tuple(sorted((p for p in self.points if p.certified), key=lambda p: p.cost))

    @property
    def cost(self) -> float:
        """Mean cost of a calibration row, with the human's where it is known."""
        last = self.stages[-1]
        deferred = (self.human or 0.0) * (last.reached - last.decided)
        return (sum(s.cost * s.reached for s in self.stages) + deferred) / self.n

    def decide(self, stages: Sequence[Outputs], /) -> Decision:
        """Accept or defer each row.

        Args:
            stages: What each stage says about the same N rows.

        Returns:
            The decision: the prediction of the stage that decides, and of the last stage where the
            row is deferred.

        Raises:
            ConfigError: If the number of stages is another one.
            DataError: If stages differ in rows or classes, or lack what a score looks at.
        """
        if len(stages) != len(self.stages):
            raise ConfigError(f"the cascade has {len(self.stages)} stages, got {len(stages)}.")
        rows = CascadeRows.of(stages, [s.score for s in self.stages], None)
        leaves = rows.leaves([s.threshold for s in self.stages])
        accepted = leaves < len(stages)
        prediction = np.choose(np.minimum(leaves, len(stages) - 1), rows.predictions)
        prediction_set = np.ones(stages[0].probabilities.shape, dtype=np.bool_)
        prediction_set[accepted] = False
        prediction_set[np.arange(len(rows)), prediction] = True
        slack = np.max(
            [s - stage.threshold for s, stage in zip(rows.scores, self.stages, strict=True)], axis=0
        )
        return Decision(
            accepted, prediction, prediction_set, np.clip(slack, -_LARGEST, _LARGEST), leaves
        )

    def taken(self, stages: Sequence[Outputs], /) -> Outputs:
        """Return logits and probabilities of the stage whose prediction each row gets.

        Args:
            stages: What each stage says about the same N rows.

        Returns:
            The outputs of the stage that decides, and of the last stage where the row is deferred.

        Raises:
            ConfigError: As `decide`.
            DataError: As `decide`.
        """
        leaves = self.decide(stages).stage
        at = (np.minimum(np.asarray(leaves), len(stages) - 1), np.arange(len(stages[0])))
        return Outputs(
            np.stack([s.logits for s in stages])[at],
            np.stack([s.probabilities for s in stages])[at],
        )

    def rule(self) -> str:
        """Return when a row is accepted, in one line."""
        return "defer everything" if self.infeasible is not None else words.rule(self.stages)

    def sentences(self) -> tuple[str, ...]:
        """Return what is promised, or why nothing can be, in sentences."""
        if self.infeasible is not None:
            return (self.infeasible.message(),)
        return (
            *words.promises(self.certificates, self.delta),
            *words.about_stages(self.stages, self.n),
            *words.about_cost(self.stages, self.cost, self.human, self.unit),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the policy's own fields of `cascade.json`, as JSON values."""
        return {
            "policy": self.kind,
            "stages": [stage.to_dict() for stage in self.stages],
            "targets": [{"risk": c.risk, "alpha": c.alpha} for c in self.targets],
            "delta": self.delta,
            "positive": self.positive,
            "human": self.human,
            "unit": self.unit,
            "n": self.n,
            "certificates": [c.to_dict() for c in self.certificates],
            "points": [p.to_dict() for p in self.points],
            "infeasible": self.infeasible and self.infeasible.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a policy from what `to_dict` returned.

        Args:
            document: The fields; others than the policy's own are ignored.

        Returns:
            The policy.

        Raises:
            ArtifactError: If the policy is another one, or a field is missing, malformed or at odds
                with the others.
        """
        if document.get("policy") != cls.kind:
            raise ArtifactError(f"policy {document.get('policy')!r} is no cascade.")
        read = Fields(document, "the cascade")
        reason = read.value("infeasible")
        read.value("human")
        policy = cls(
            tuple(Stage.from_dict(stage) for stage in read.items("stages")),
            read_constraints(read),
            read.level("delta"),
            read.maybe_count("positive"),
            read.maybe_number("human", 0),
            read.text("unit"),
            read.count("n", 1),
            tuple(Certificate.from_dict(c) for c in read.items("certificates")),
            tuple(CascadePoint.from_dict(p) for p in read.items("points")),
            None if reason is None else Infeasible.from_dict(reason),
        )
        _check(policy)
        return policy


def _check(policy: CascadePolicy) -> None:
    """Refuse documents whose parts contradict each other."""
    promised = tuple(Constraint(c.risk, c.alpha) for c in policy.certificates)
    off = all(stage.threshold == inf for stage in policy.stages)
    if len(policy.stages) < 2 or not policy.targets:
        raise ArtifactError("the cascade has no stages or targets. Calibrate again.")
    if policy.infeasible is not None and (promised or not off):
        raise ArtifactError(
            "an infeasible cascade must defer everything: thresholds inf, no certificate. "
            "Calibrate again."
        )
    if policy.infeasible is None and (
        promised != policy.targets
        or any((c.threshold, c.delta) != (0.0, policy.delta) for c in policy.certificates)
    ):
        raise ArtifactError(
            "the cascade's certificates are not about its targets. Calibrate again."
        )
    thresholds = tuple(stage.threshold for stage in policy.stages)
    safe = {p.thresholds for p in policy.certified}
    if policy.infeasible is None and thresholds not in safe:
        raise ArtifactError(
            f"the thresholds {thresholds} of the cascade are not certified. Calibrate again."
        )
