"""The gate policy: accept iff a trained gate, calibrated, reaches a certified threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, class_labels
from selectkit.errors import ArtifactError
from selectkit.fields import Fields
from selectkit.percent import confidence
from selectkit.policies.constraints import (
    DEFERRAL,
    Constraint,
    check_positive,
    constraints,
    read_constraints,
)
from selectkit.policies.gate_search import certified_together
from selectkit.policies.outputs import Decision, Outputs
from selectkit.policies.scores import Gate
from selectkit.policies.softmax import SoftmaxPolicy
from selectkit.policies.target import Target
from selectkit.risk import Certificate, Infeasible
from selectkit.stats import dkw_lower
from selectkit.stats.binomial import check_level


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Accept iff the calibrated gate >= threshold; the class is the most probable one either way.

    Attributes:
        gate: The trained gate's calibration.
        threshold: In log-odds of a right prediction; -inf accepts everything, inf nothing.
        targets: What was asked for, together.
        delta: Probability with which any of the promises may fail.
        positive: Code of the positive class, or None when no target needs it.
        certificates: One per target, together; empty when they are infeasible.
        infeasible: Why nothing can be promised; everything is deferred then.
    """

    kind: ClassVar[str] = "gate"
    artifact: ClassVar[str] = "gateparams"
    own: ClassVar[None] = None
    gate: Gate
    threshold: float
    targets: tuple[Constraint, ...]
    delta: float
    positive: int | None
    certificates: tuple[Certificate, ...]
    infeasible: Infeasible | None = None

    @classmethod
    def fit(
        cls,
        outputs: Outputs,
        labels: ArrayLike,
        *,
        gate: Gate,
        target: Target | Sequence[Target],
        delta: float = 0.1,
        positive: int | None = None,
        split: str | None = None,
        grouped: bool = False,
    ) -> Self:
        """Find the most permissive threshold that is certified to keep every target.

        One target is kept as the softmax policy keeps it. Several, such as an exit error of at most
        e and a coverage of at least c (deferral at most 1 - c), are kept together with probability
        1 - delta:

        * Coverage rises as the threshold falls. A tenth of delta pays for it: every threshold that
          accepts at least n_c of the N rows has coverage c or more, all at once, where n_c is the
          smallest count with P(Bin(N, c) >= n_c) <= delta / 10.
        * The rest pays for one fixed sequence of tests for all risks, from the strictest of these
          thresholds to laxer ones until a test fails: where coverage must be high, walking there
          from stricter thresholds only adds chances to fail. Several risks cost nothing more
          (the largest of their p-values is tested), but where too few rows are left for one start,
          or for `miss_rate` and `false_alarm`: then each risk has its share
          (`selectkit.policies.gate_search`).

        Coverage is cheap to certify, so it takes the small share: where errors rise with coverage
        (N = 1,000, error 5 %, coverage 60 %, delta 0.1) the pair is certified in 65 % of draws,
        with equal shares in 59 %, by a walk from the strictest threshold on in 59 %, and in 42 % by
        a path fixed on other rows, which needs no shares.

        Args:
            outputs: N rows with gate logits, that neither head, calibrator nor gate has seen.
            labels: Shape (N,), codes in [0, K).
            gate: Calibrated on other rows.
            target: What to keep. A coverage alone takes the empirical quantile, promising nothing.
            delta: Probability with which any promise may fail.
            positive: Code of the positive class; risks of positives and negatives need it.
            split: Fingerprint of the rows, kept in the certificates.
            grouped: Whether each row stands for a group.

        Returns:
            The policy; it defers everything, and says why, when the targets are infeasible.

        Raises:
            ConfigError: If the targets make no sense, or the positive class is missing or unknown.
            DataError: If the labels do not fit the outputs, or these have no gate.
            RiskError: If delta is outside (0, 1).
        """
        check_level(delta, "delta")
        y = class_labels(labels, *outputs.probabilities.shape)
        asked = (target,) if isinstance(target, Target) else tuple(target)
        alone = len(asked) == 1 and asked[0].risk != DEFERRAL
        wanted = (Constraint(asked[0].risk, asked[0].alpha),) if alone else constraints(asked)
        check_positive(wanted, positive, outputs.probabilities.shape[1])
        found: tuple[Certificate, ...] | Infeasible
        if alone:
            single = SoftmaxPolicy.fit(
                outputs, y, target=asked[0], delta=delta, score=gate, positive=positive
            )
            found = single if isinstance(single, Infeasible) else _promises(single)
        else:
            found = certified_together(
                gate(outputs), outputs.prediction, y, wanted, delta=delta, positive=positive
            )
        if isinstance(found, Infeasible):
            return cls(gate, inf, wanted, delta, positive, (), found)
        certificates = tuple(replace(c, split=split, grouped=grouped) for c in found)
        return cls(gate, found[0].threshold, wanted, delta, positive, certificates)

    @property
    def score_name(self) -> str:
        """What `Decision.score` is."""
        return self.gate.kind

    @property
    def scored_by(self) -> Gate:
        """What other policies take as their score to rank rows as this one does."""
        return self.gate

    def covering(self, outputs: Outputs) -> Self:
        """Return the policy with the coverage of its certificates counted on other rows.

        Args:
            outputs: Independent rows of the calibration split, N >= 1, whatever their labels.

        Returns:
            The same promises, with coverage and its lower bound (level delta, uniform in the
            threshold) over these rows.
        """
        coverage = float(self.decide(outputs).accepted.mean())
        lower = dkw_lower(coverage, len(outputs), self.delta)
        counted = (replace(c, coverage=coverage, coverage_lower=lower) for c in self.certificates)
        return replace(self, certificates=tuple(counted))

    def counting_groups(self) -> Self:
        """Return the policy with certificates that say they count one row of each group."""
        return replace(
            self, certificates=tuple(replace(c, grouped=True) for c in self.certificates)
        )

    def decide(self, outputs: Outputs, /) -> Decision:
        """Accept or defer each row.

        Args:
            outputs: N rows with gate logits, from the head that the policy was fitted with.

        Returns:
            The decision.

        Raises:
            DataError: If there are no gate logits.
        """
        s, prediction = self.gate(outputs), outputs.prediction
        accepted = s >= self.threshold
        prediction_set = np.ones(outputs.probabilities.shape, dtype=np.bool_)
        prediction_set[accepted] = False
        prediction_set[np.arange(len(s)), prediction] = True
        return Decision(accepted, prediction, prediction_set, s)

    def rule(self) -> str:
        """Return when a row is accepted, in one line."""
        if self.threshold == inf:
            return "defer everything"
        if self.threshold < -1e300:  # below every finite score
            return "accept everything"
        return f"accept iff gate >= {self.threshold:.6g}"

    def sentences(self) -> tuple[str, ...]:
        """Return what is promised, or why nothing can be, in sentences."""
        if self.infeasible is not None:
            return (self.infeasible.message(),)
        told = tuple(c.sentence() for c in self.certificates)
        if len(told) == 1:
            return told
        return (*told, f"All {len(told)} hold together with {confidence(self.delta)} confidence.")

    def to_dict(self) -> dict[str, Any]:
        """Return the policy's own fields of `gateparams.json`, as JSON values.

        They are those of format version 2. In version 1 a file with the first two of them was the
        calibration of a gate that served as the score of another policy; `Gate.from_dict` reads
        both.
        """
        return {
            **self.gate.to_dict(),
            "policy": self.kind,
            "threshold": self.threshold
            if abs(self.threshold) < inf
            else ("inf" if self.threshold > 0 else "-inf"),
            "targets": [{"risk": c.risk, "alpha": c.alpha} for c in self.targets],
            "delta": self.delta,
            "positive": self.positive,
            "certificates": [c.to_dict() for c in self.certificates],
            "infeasible": self.infeasible and self.infeasible.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], own_score: None = None) -> Self:
        """Rebuild a policy from what `to_dict` returned.

        Args:
            document: The fields; others than the policy's own are ignored.
            own_score: Nothing: the gate stands in the document.

        Returns:
            The policy.

        Raises:
            ArtifactError: If it is no policy, or a field is missing, malformed or at odds with the
                others.
        """
        if document.get("policy") != cls.kind:
            raise ArtifactError(
                "gateparams holds the calibration of a gate and no policy. Calibrate again with "
                "--policy gate."
            )
        read = Fields(document, "the gate policy")
        reason = read.value("infeasible")
        if read.text("method") != "platt":
            raise read.wrong("method", "'platt'")
        policy = cls(
            Gate.from_dict(document),
            read.threshold("threshold"),
            read_constraints(read),
            read.level("delta"),
            read.maybe_count("positive"),
            tuple(Certificate.from_dict(c) for c in read.items("certificates")),
            None if reason is None else Infeasible.from_dict(reason),
        )
        _check(policy)
        return policy


def _check(policy: GatePolicy) -> None:
    """Refuse documents whose parts contradict each other."""
    promised = tuple(Constraint(c.risk, c.alpha) for c in policy.certificates)
    if policy.infeasible is not None:
        if promised or policy.threshold != inf:
            raise ArtifactError(
                "an infeasible gate policy must defer everything: threshold inf, no certificate. "
                "Calibrate again."
            )
    elif not policy.targets or promised != policy.targets:
        raise ArtifactError("the gate's certificates are not about its targets. Calibrate again.")
    elif any((c.threshold, c.delta) != (policy.threshold, policy.delta)
             for c in policy.certificates):  # fmt: skip
        raise ArtifactError(
            f"the gate's threshold {policy.threshold:g} at delta {policy.delta:g} is not the "
            "certified one. Calibrate again."
        )


def _promises(policy: SoftmaxPolicy) -> tuple[Certificate, ...]:
    return () if policy.certificate is None else (policy.certificate,)
