"""Two thresholds for two classes: clearly negative below, clearly positive above, deferred between.

One symmetric threshold on the largest probability is a poor answer to rare positives and unequal
costs: what is clear depends on the side. With calibrated probabilities the rule of least cost is of
this form (Chow, 1970, "On optimum recognition error and reject tradeoff", IEEE Transactions on
Information Theory 16).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.errors import ArtifactError, ConfigError
from selectkit.fields import Fields
from selectkit.policies import words
from selectkit.policies.bounded_cost import certified_cost, cheapest
from selectkit.policies.costs import Costs
from selectkit.policies.evidence import Evidence, check_question, gather, too_few
from selectkit.policies.families import Pairs, cut_points
from selectkit.policies.guide import Guide
from selectkit.policies.outputs import Decision, Float64s, Outputs
from selectkit.policies.search import Search, certificates, search, why_not
from selectkit.policies.target import Target, Targets
from selectkit.policies.trade_off import TradeOff, trade_off
from selectkit.risk import Certificate, Infeasible
from selectkit.stats.binomial import check_level


@dataclass(frozen=True, slots=True)
class TwoSidedPolicy:
    """Negative iff p < t0, positive iff p >= t1, deferred otherwise; p is the positive's.

    No one score ranks rows as two thresholds do; `scored_by` names the one that is nearest.

    Attributes:
        t0: Lower threshold; 0 calls nothing negative.
        t1: Upper threshold, at least t0; inf calls nothing positive.
        positive: Code of the positive class, 0 or 1.
        targets: What was asked for; empty when only costs were given.
        delta: Probability with which any of the promises may fail.
        certificates: One promise for each target (and group), all together at delta.
        infeasible: Why nothing can be promised; everything is deferred then.
        costs: What the rule was chosen by among the certified; None: by its coverage.
        cost: Mean cost of a calibration row under the rule.
    """

    kind: ClassVar[str] = "softmax"
    artifact: ClassVar[str] = "thresholds"
    form: ClassVar[str] = "two_sided"
    score_name: ClassVar[str] = "two_sided"
    scored_by: ClassVar[str] = "msp"
    own: ClassVar[None] = None
    t0: float
    t1: float
    positive: int
    targets: Targets
    delta: float
    certificates: tuple[Certificate, ...]
    infeasible: Infeasible | None = None
    costs: Costs | None = None
    cost: float | None = None

    @property
    def threshold(self) -> float:
        """0: a row is accepted iff it is not between the thresholds; inf when infeasible."""
        return 0.0 if self.infeasible is None else float("inf")

    @classmethod
    def fit(
        cls,
        outputs: Outputs,
        labels: ArrayLike,
        *,
        targets: Sequence[Target] = (),
        positive: int,
        delta: float = 0.1,
        costs: Costs | None = None,
        guide: Guide | None = None,
        groups: ArrayLike | None = None,
        split: str | None = None,
    ) -> Self | Infeasible:
        """Find the best pair of thresholds that is certified to keep every target.

        With probability at least 1 - delta over the draw of the calibration rows, the true risks
        are all at most their levels. Best is the largest coverage on the calibration rows, or with
        costs the smallest mean cost. All pairs that pass are certified together, so the choice
        among them is free.

        A target on misses alone leaves false alarms open, and calling everything positive keeps
        it; name a target for the other side, too, or costs.

        Args:
            outputs: N independent rows, K = 2, that neither head nor calibrator has seen.
            labels: Shape (N,), 0 or 1.
            targets: What to keep, all at once. Without any, the pair of least expected cost on the
                guide is taken and its expected cost is certified.
            positive: Code of the positive class.
            delta: Probability with which any promise may fail.
            costs: Choose by cost.
            guide: Rows that decide which pairs are tested; None: a random third of the N rows,
                which the certificate then does without.
            groups: Shape (N,): keep every target for each of these groups on its own.
            split: Fingerprint of the rows, kept in the certificates.

        Returns:
            The policy, or `Infeasible`, which names the target in the way and the number of labels
            that would do.

        Raises:
            ConfigError: If there are not two classes, or the question makes no sense.
            DataError: If labels or groups do not fit the outputs.
            RiskError: If delta is outside (0, 1).
        """
        return cls.explore(
            outputs, labels, targets=targets, positive=positive, delta=delta, costs=costs,
            guide=guide, groups=groups, split=split,
        )[0]  # fmt: skip

    @classmethod
    def explore(
        cls,
        outputs: Outputs,
        labels: ArrayLike,
        *,
        targets: Sequence[Target] = (),
        positive: int,
        delta: float = 0.1,
        costs: Costs | None = None,
        guide: Guide | None = None,
        groups: ArrayLike | None = None,
        split: str | None = None,
    ) -> tuple[Self | Infeasible, tuple[TradeOff, ...]]:
        """Do what `fit` does, and return the trade-off among the tested pairs beside it.

        Args:
            outputs: As in `fit`, and so are all others.
            labels: As in `fit`.
            targets: As in `fit`.
            positive: As in `fit`.
            delta: As in `fit`.
            costs: As in `fit`.
            guide: As in `fit`.
            groups: As in `fit`.
            split: As in `fit`.

        Returns:
            The policy or why there is none, and what the tested pairs do on the calibration rows.
        """
        if outputs.probabilities.shape[1] != 2:
            raise ConfigError(
                f"two-sided thresholds are for two classes, there are "
                f"{outputs.probabilities.shape[1]}: use one threshold or one for each class."
            )
        check_question(targets, costs, positive, 2)
        check_level(delta, "delta")
        if guide is None and len(outputs) == 1:
            return too_few(targets, delta), ()
        seen = gather(
            outputs, labels, score=lambda o: o.probabilities[:, positive], targets=targets,
            positive=positive, guide=guide, groups=groups,
        )  # fmt: skip
        one = np.ones(len(seen.guide))
        w = seen.guide.positive
        family = Pairs.of_cuts(cut_points(seen.guide.score, one, w, 1 - w))
        made = {"positive": positive, "targets": Targets(targets), "delta": delta, "costs": costs}
        if not seen.goals:
            assert costs is not None  # asked for costs or targets
            cheap = cheapest(family, costs, guide=seen.guide, calib=seen.calib, delta=delta)
            if isinstance(cheap, Infeasible):
                return cheap, ()
            found = cheap
            policy = cls._costing(found, seen, made, delta, split)
        else:
            found = search(family, seen.goals, guide=seen.guide, calib=seen.calib,
                           delta=delta, costs=costs)  # fmt: skip
            policy = cls._keeping(found, seen, made, delta, split)
        return policy, trade_off(found, positive=positive, costs=costs)

    @classmethod
    def _keeping(
        cls, found: Search, seen: Evidence, made: dict[str, Any], delta: float, split: str | None
    ) -> Self | Infeasible:
        j = found.chosen
        if j is None:
            return why_not(found, seen.goals, delta)
        t0, t1 = found.rules.thresholds(j)
        given = certificates(found, seen.goals, delta=delta, threshold=0.0, split=split)
        costs: Costs | None = made["costs"]
        cost = None if costs is None else float(found.tally.cost(costs)[j])
        return cls(t0, t1, certificates=given, cost=cost, **made)

    @classmethod
    def _costing(
        cls, found: Search, seen: Evidence, made: dict[str, Any], delta: float, split: str | None
    ) -> Self | Infeasible:
        assert found.chosen is not None  # the cheapest of one or more
        t0, t1 = found.rules.thresholds(found.chosen)
        bare = cls(t0, t1, certificates=(), **made)
        costs: Costs = made["costs"]
        spent = costs.of(bare.decide(seen.rows.outputs), seen.rows.labels, bare.positive)
        given = certified_cost(found, spent, costs, delta=delta, threshold=0.0, split=split)
        if isinstance(given, Infeasible):
            return given
        return replace(bare, certificates=(given,), cost=float(spent.mean()))

    @classmethod
    def deferring(
        cls,
        infeasible: Infeasible,
        *,
        targets: Sequence[Target] = (),
        positive: int,
        costs: Costs | None = None,
    ) -> Self:
        """Return the policy for an infeasible question: it defers everything, and says why."""
        return cls(0.0, float("inf"), positive, Targets(targets), infeasible.delta, (),
                   infeasible, costs)  # fmt: skip

    def counting_groups(self) -> Self:
        """Return the policy with certificates that say they count one row of each group."""
        return replace(
            self, certificates=tuple(replace(c, grouped=True) for c in self.certificates)
        )

    def decide(self, outputs: Outputs, /) -> Decision:
        """Accept or defer each row.

        Args:
            outputs: N rows of two classes, from the head and calibrator of the fit.

        Returns:
            The decision; a deferred row is given its most probable class. The score is how far
            the row lies outside the thresholds, 0 = just accepted, negative = deferred.

        Raises:
            ConfigError: If there are not two classes.
        """
        if outputs.probabilities.shape[1] != 2:
            raise ConfigError("a two-sided policy decides between two classes.")
        p = outputs.probabilities[:, self.positive]
        low, high = self._distances(p)
        accepted = (low >= 0) | (high >= 0)
        side = np.where(high >= 0, self.positive, 1 - self.positive)
        prediction = np.where(accepted, side, outputs.prediction).astype(np.int64)
        prediction_set = np.repeat(~accepted[:, None], 2, axis=1)
        prediction_set[np.arange(len(p)), prediction] = True
        return Decision(accepted, prediction, prediction_set, np.maximum(low, high))

    def _distances(self, p: Float64s) -> tuple[Float64s, Float64s]:
        """How far below the lower and above the upper threshold; at least 0 iff beyond it."""
        low, high = min(self.t0, 2.0), min(self.t1, 2.0)  # p <= 1 is below both: distances finite
        return np.nextafter(low, -np.inf) - p, p - high

    def rule(self) -> str:
        """Return when a row is accepted, in one line."""
        if self.infeasible is not None:
            return "defer everything"
        if self.t0 == self.t1:
            return f"accept everything: positive iff p(positive) >= {self.t1:.6g}, else negative"
        clear = f"negative iff p(positive) < {self.t0:.6g}" if self.t0 > 0 else "never negative"
        found = f"positive iff p(positive) >= {self.t1:.6g}"
        return f"{clear}, {found if self.t1 <= 1 else 'never positive'}, deferred otherwise"

    def sentences(self) -> tuple[str, ...]:
        """Return what is promised, or why nothing can be, in sentences."""
        said = words.sentences(self.certificates, self.infeasible, self.costs, self.cost)
        risks = {c.risk for c in self.certificates}
        if risks and not risks & {"fpr", "false_alarm", "error", "cost"}:
            said += ("Nothing is promised about false alarms.",)
        if risks and not risks & {"fnr", "miss_rate", "error", "cost"}:
            said += ("Nothing is promised about misses.",)
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return the policy's own fields of `thresholds.json`, as JSON values."""
        return {
            "policy": self.kind,
            "form": self.form,
            "score": self.score_name,
            "threshold": words.number(self.threshold),
            "thresholds": [words.number(self.t0), words.number(self.t1)],
            "positive": self.positive,
            **words.fields(
                targets=self.targets,
                delta=self.delta,
                certificates=self.certificates,
                infeasible=self.infeasible,
                costs=self.costs,
                cost=self.cost,
            ),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], own: object = None) -> Self:
        """Rebuild a policy from what `to_dict` returned.

        Args:
            document: The fields; others than the policy's own are ignored.
            own: Must be None: the policy looks at no score with numbers of its own.

        Returns:
            The policy.

        Raises:
            ArtifactError: If a field is missing or malformed, or the certificates are not those of
                the policy.
        """
        what = "the two-sided policy"
        if document.get("form") != cls.form or own is not None:
            raise ArtifactError(f"form {document.get('form')!r} is not {what}. Calibrate again.")
        read = words.read_fields(document, what)
        fields = Fields(document, what)
        pair, positive = fields.thresholds("thresholds"), fields.count("positive")
        if fields.text("score") != cls.score_name:
            raise fields.wrong("score", repr(cls.score_name))
        if len(pair) != 2:
            raise fields.wrong("thresholds", "two numbers")
        (t0, t1), why = pair, read["infeasible"]
        if not 0 <= t0 <= t1 or positive not in {0, 1}:
            raise ArtifactError(f"{what} needs 0 <= t0 <= t1 and a positive class of two.")
        if why is not None and (t0, t1) != (0.0, float("inf")):
            raise ArtifactError(f"{what} must defer everything when it is infeasible.")
        if fields.threshold("threshold") != (0.0 if why is None else float("inf")):
            raise fields.wrong("threshold", "0, or inf where everything is deferred")
        if why is None:
            words.check_promises(read["targets"], read["delta"], read["certificates"], what)
            if any(c.threshold != 0.0 for c in read["certificates"]):
                raise ArtifactError(f"{what} has certificates for another rule. Calibrate again.")
        return cls(t0=t0, t1=t1, positive=positive, **read)
