"""The threshold policy: accept iff a score of the softmax reaches a certified threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, class_labels
from selectkit.errors import ArtifactError
from selectkit.fields import Fields
from selectkit.policies import words
from selectkit.policies.costs import Costs
from selectkit.policies.outputs import Decision, Outputs
from selectkit.policies.scores import OwnScore
from selectkit.policies.scoring import check_score, named, score_function
from selectkit.policies.softmax_fit import certified, check_positive, covering
from selectkit.policies.target import Target, Targets
from selectkit.risk import Certificate, Infeasible
from selectkit.stats import dkw_lower


@dataclass(frozen=True, slots=True)
class SoftmaxPolicy:
    """Accept iff score >= threshold; the class is the most probable one either way.

    Attributes:
        score: Name of the score.
        threshold: In the score's units; -inf accepts everything, inf nothing.
        positive: Code of the positive class, or None when the target needs none.
        certificate: What the threshold promises, and on which evidence; None when the target is
            infeasible. Of several promises the first.
        infeasible: Why nothing can be promised; everything is deferred then.
        own: The score itself when it has numbers of its own; None for those in `SCORES`.
        more: The other promises, which hold together with the first at its delta.
        targets: What was asked for, where it is more or less than the one target of the
            certificate.
        costs: What the threshold was chosen by among the certified; None: by its coverage.
        cost: Mean cost of a calibration row.
    """

    kind: ClassVar[str] = "softmax"
    artifact: ClassVar[str] = "thresholds"
    score: str
    threshold: float
    positive: int | None
    certificate: Certificate | None
    infeasible: Infeasible | None = None
    own: OwnScore | None = None
    more: tuple[Certificate, ...] = ()
    targets: Targets | None = None
    costs: Costs | None = None
    cost: float | None = None

    @classmethod
    def deferring(
        cls,
        infeasible: Infeasible,
        *,
        score: str | OwnScore,
        positive: int | None,
        targets: Sequence[Target] | None = None,
        costs: Costs | None = None,
    ) -> Self:
        """Return the policy for an infeasible target: it defers everything, and says why."""
        name, own = named(score)
        asked = None if targets is None else Targets(targets)
        return cls(name, float("inf"), positive, None, infeasible, own, (), asked, costs)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Everything that is promised, together; empty when the target is infeasible."""
        return () if self.certificate is None else (self.certificate, *self.more)

    @property
    def score_name(self) -> str:
        """Name of the score."""
        return self.score

    @property
    def scored_by(self) -> str | OwnScore:
        """What `fit` takes as its score to make a policy with the same one."""
        return self.own or self.score

    @classmethod
    def fit(
        cls,
        outputs: Outputs,
        labels: ArrayLike,
        *,
        target: Target,
        delta: float = 0.1,
        score: str | OwnScore = "msp",
        positive: int | None = None,
        split: str | None = None,
    ) -> Self | Infeasible:
        """Find the most permissive threshold that is certified to keep the target.

        For several targets at once, costs or groups see `selectkit.policies.joint`.

        The rows behind the certificate are all rows for `error`, the positives for `fnr` and
        `miss_rate`, the negatives for `fpr` and `false_alarm`; its `n`, `n_accepted`, `errors` and
        `risk_upper` count those. Its `coverage` and `coverage_lower` (level delta, uniform in the
        threshold by the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant) are
        over all rows. The target `coverage` takes the empirical quantile and promises nothing.

        Args:
            outputs: N rows that neither head nor calibrator has seen.
            labels: Shape (N,), codes in [0, K).
            target: What to keep.
            delta: Probability with which the promise may fail.
            score: A key of `SCORES`, or a score with numbers of its own, fitted on other rows.
            positive: Code of the positive class; `fnr`, `miss_rate` and `fpr` need it.
            split: Fingerprint of the rows, kept in the certificate.

        Returns:
            The policy, or `Infeasible` with the number of labels that would do.

        Raises:
            ConfigError: If the score is unknown, the positive class is missing or unknown, or the
                target is `deferral`, which accepting everything would keep.
            DataError: If the labels do not fit the outputs.
            RiskError: If delta is outside (0, 1).
        """
        y = class_labels(labels, *outputs.probabilities.shape)
        name, own = named(score)
        s = score_function(name, own)(outputs)
        check_positive(target, positive, outputs.probabilities.shape[1])
        found = (
            covering(s, outputs.prediction != y, target.alpha, delta)
            if target.risk == "coverage"
            else certified(s, outputs.prediction, y, target, delta, positive)
        )
        if isinstance(found, Infeasible):
            return found
        evidence = replace(found, split=split)
        policy = cls(name, found.threshold, positive, evidence, None, own)
        return policy.covering(outputs)

    def covering(self, outputs: Outputs) -> Self:
        """Return the policy with the coverage of its certificates counted on other rows.

        Args:
            outputs: Independent rows of the calibration split, N >= 1, whatever their labels.

        Returns:
            The same promises, with coverage and its lower bound (level delta, uniform in the
            threshold) over these rows.
        """
        if self.certificate is None:
            return self
        coverage = float(self.decide(outputs).accepted.mean())
        lower = dkw_lower(coverage, len(outputs), self.certificate.delta)
        first, *more = (
            replace(c, coverage=coverage, coverage_lower=lower) for c in self.certificates
        )
        return replace(self, certificate=first, more=tuple(more))

    def counting_groups(self) -> Self:
        """Return the policy with a certificate that says it counts one row of each group."""
        if self.certificate is None:
            return self
        first, *more = (replace(c, grouped=True) for c in self.certificates)
        return replace(self, certificate=first, more=tuple(more))

    def decide(self, outputs: Outputs, /) -> Decision:
        """Accept or defer each row.

        Args:
            outputs: N rows, from the head and the calibrator that the policy was fitted with.

        Returns:
            The decision.

        Raises:
            ConfigError: If the score is unknown to this release.
            DataError: If the outputs lack what the score looks at.
        """
        s = score_function(self.score, self.own)(outputs)
        accepted = s >= self.threshold
        prediction = outputs.prediction
        prediction_set = np.ones(outputs.probabilities.shape, dtype=np.bool_)
        prediction_set[accepted] = False
        prediction_set[np.arange(len(s)), prediction] = True
        return Decision(accepted, prediction, prediction_set, s)

    def rule(self) -> str:
        """Return when a row is accepted, in one line."""
        if self.threshold == float("inf"):
            return "defer everything"
        if self.threshold < -1e300:  # below every finite score
            return "accept everything"
        return f"accept iff {self.score} >= {self.threshold:.6g}"

    def sentences(self) -> tuple[str, ...]:
        """Return what is promised, or why nothing can be, in sentences."""
        return words.sentences(self.certificates, self.infeasible, self.costs, self.cost)

    def to_dict(self) -> dict[str, Any]:
        """Return the policy's own fields of `thresholds.json`.

        Returns:
            The fields, as JSON values.

        Raises:
            ArtifactError: If the policy has neither a certificate nor a reason for having none.
        """
        c = self.certificate or self.infeasible
        if c is None:
            raise ArtifactError("a softmax policy needs a certificate, or why there is none.")
        return {
            "policy": self.kind,
            "score": self.score,
            "threshold": words.number(self.threshold),
            "positive": self.positive,
            **words.fields(
                targets=(Target(c.risk, c.alpha),) if self.targets is None else self.targets,
                delta=c.delta,
                certificates=self.certificates,
                infeasible=self.infeasible,
                costs=self.costs,
                cost=self.cost,
            ),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], own: OwnScore | None = None) -> Self:
        """Rebuild a policy from what `to_dict` returned.

        Args:
            document: The fields; others than the policy's own are ignored.
            own: The score, when it has numbers of its own; they are stored beside the policy.

        Returns:
            The policy.

        Raises:
            ArtifactError: If the policy or its score is unknown, the score is missing or another
                one, a field is missing or malformed, there is no certificate, or it is for another
                threshold.
        """
        if document.get("policy") != cls.kind or document.get("form", "single") != "single":
            raise ArtifactError(
                f"policy {document.get('policy')!r} is unknown to this release; known: softmax."
                if document.get("policy") != cls.kind
                else f"form {document['form']!r} is not one threshold. Calibrate again."
            )
        if "thresholds" in document:
            raise ArtifactError("several thresholds are not one. Calibrate again.")
        fields = Fields(document, "the softmax policy")
        score, threshold = fields.value("score"), fields.threshold("threshold")
        positive, evidence = fields.maybe_count("positive"), fields.value("certificate")
        check_score(score, own)
        infeasible = document.get("infeasible") is not None
        if infeasible and (evidence is not None or threshold != float("inf")):
            raise ArtifactError(
                "an infeasible softmax policy must defer everything: threshold inf, no "
                "certificate. Calibrate again."
            )
        if not infeasible and evidence is None:
            raise ArtifactError("the softmax policy has no certificate. Calibrate again.")
        read = words.read_fields(document, "the softmax policy")
        told = read["infeasible"] or read["certificates"][0]
        asked = [(t.risk, t.alpha) for t in read["targets"]]
        usual = asked == [(told.risk, told.alpha)] and len(read["certificates"]) <= 1
        targets = None if usual and read["costs"] is None else read["targets"]
        if infeasible:
            return cls.deferring(read["infeasible"], score=own or score, positive=positive,
                                 targets=targets, costs=read["costs"])  # fmt: skip
        first, *more = read["certificates"]
        wrong = [c.threshold for c in read["certificates"] if c.threshold != threshold]
        if wrong:
            raise ArtifactError(
                f"the threshold {threshold:g} is not the certified one "
                f"({wrong[0]:g}). Calibrate again."
            )
        words.check_promises(
            read["targets"], read["delta"], read["certificates"], "the softmax policy"
        )
        return cls(score, threshold, positive, first, None, own, tuple(more), targets,
                   read["costs"], read["cost"])  # fmt: skip
