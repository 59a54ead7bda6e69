"""The selective conformal policy: accept by a score, then answer with a set or a single class."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from selectkit.arrays import ArrayLike, class_labels
from selectkit.errors import ArtifactError, ConfigError
from selectkit.fields import Fields
from selectkit.percent import confidence
from selectkit.policies.outputs import Decision, Outputs
from selectkit.policies.scores import OwnScore
from selectkit.policies.scoring import check_score, named, score_function
from selectkit.policies.scrc_fit import Calibration, Exits, Variant, check_settings, find
from selectkit.policies.sets import members, second_entering
from selectkit.policies.target import Target
from selectkit.risk import Certificate, Infeasible
from selectkit.stats import dkw_lower

_NOT_EXITS = (
    "A set of several classes counts as right when the true class is in it: nothing is promised "
    "about the error of images whose set is a single class."
)


@dataclass(frozen=True, slots=True)
class ScrcPolicy:
    """Accept iff score > lambda1; the prediction set is the one at lambda2.

    With exits "accepted" every accepted row is decided, by its set. The risk of the target is then
    the set loss: `error` the share of accepted rows whose true class is not in their set, `fnr` the
    same among accepted positives. That bounds nothing about the rows whose set is a single class.

    With exits "singletons" a row is decided iff it passes lambda1 and its set is a single class,
    and the error (or the FNR) of these exits is certified directly. The set loss is kept as well.

    Attributes:
        score: Name of the score.
        variant: "t" (on average over calibration splits), "split_pac" or "joint" (with confidence
            1 - delta).
        sets: A key of `selectkit.policies.sets.SETS`.
        exits: "accepted" or "singletons".
        target: The risk, "error" or "fnr", and alpha.
        xi: Share of rows that lambda1 is to let pass.
        delta: Probability with which any promise with confidence may fail.
        lambda1: Score that must be exceeded; -inf lets everything pass, inf nothing.
        lambda2: Size of the sets, in [0, 1].
        positive: Code of the positive class, or None.
        certificates: About the set loss, about lambda1, and with singletons about the exits;
            empty when the target is infeasible.
        infeasible: Why nothing can be promised; everything is deferred then.
        own: The score itself when it has numbers of its own.
    """

    kind: ClassVar[str] = "scrc"
    artifact: ClassVar[str] = "scrcparams"
    score: str
    variant: str
    sets: str
    exits: str
    target: Target
    xi: float
    delta: float
    lambda1: float
    lambda2: float
    positive: int | None
    certificates: tuple[Certificate, ...]
    infeasible: Infeasible | None = None
    own: OwnScore | None = None

    @classmethod
    def deferring(
        cls,
        infeasible: Infeasible,
        *,
        target: Target,
        delta: float = 0.1,
        xi: float = 0.8,
        score: str | OwnScore = "msp",
        variant: Variant = "t",
        sets: str = "threshold",
        exits: Exits = "accepted",
        positive: int | None = None,
    ) -> Self:
        """Return the policy for an infeasible target: it defers everything, and says why."""
        name, own = named(score)
        nothing = (float("inf"), 1.0, positive, ())
        return cls(name, variant, sets, exits, target, xi, delta, *nothing, infeasible, own)

    @classmethod
    def fit(
        cls,
        outputs: Outputs,
        labels: ArrayLike,
        *,
        target: Target,
        delta: float = 0.1,
        xi: float = 0.8,
        score: str | OwnScore = "msp",
        variant: Variant = "t",
        sets: str = "threshold",
        exits: Exits = "accepted",
        coverage: Literal["mean", "pac"] = "mean",
        positive: int | None = None,
        split: str | None = None,
        seed: int = 0,
    ) -> Self | Infeasible:
        """Find lambda1 and the smallest sets that keep the target.

        Args:
            outputs: N rows that neither head nor calibrator has seen, of all classes also when
                the target is about positives: lambda1 is about everybody.
            labels: Shape (N,), codes in [0, K).
            target: `error` or `fnr` and its rate.
            delta: Probability with which the promises with confidence may fail, together.
            xi: Share of rows that lambda1 is to let pass, in (0, 1).
            score: A key of `SCORES`, or a score with numbers of its own, fitted on other rows.
            variant: See the class; "split_pac" finds lambda1 on half of the rows.
            sets: A key of `selectkit.policies.sets.SETS`.
            exits: See the class.
            coverage: Of "split_pac": whether xi is met on average or with confidence.
            positive: Code of the positive class; `fnr` needs it.
            split: Fingerprint of the rows, kept in the certificates.
            seed: Of the halves of "split_pac".

        Returns:
            The policy, or `Infeasible` with the number of labels that would do.

        Raises:
            ConfigError: If score, variant, sets, exits, target or positive class are unknown or
                do not fit.
            DataError: If the labels do not fit the outputs.
            RiskError: If delta or xi is outside (0, 1).
        """
        y = class_labels(labels, *outputs.probabilities.shape)
        check_settings(
            target, variant, sets, exits, coverage, positive, outputs.probabilities.shape[1]
        )
        name, own = named(score)
        data = Calibration(
            outputs=outputs,
            labels=y,
            score=score_function(name, own)(outputs),
            sets=sets,
            positive=positive if target.risk == "fnr" else None,
            risk=target.risk,
            alpha=target.alpha,
            xi=xi,
            delta=delta,
            coverage=coverage,
            rng=np.random.default_rng(seed),
        )
        answer = find(data, variant, exits)
        if isinstance(answer, Infeasible):
            return answer
        found, promises = answer
        certificates = tuple(replace(c, delta=delta, split=split) for c in promises)
        return cls(
            name, variant, sets, exits, target, xi, delta, found.threshold, found.lambda2,
            positive, certificates, None, own,
        )  # fmt: skip

    @property
    def scored_by(self) -> str | OwnScore:
        """What `fit` takes as its score to make a policy with the same one."""
        return self.own or self.score

    @property
    def threshold(self) -> float:
        """A row is accepted iff `Decision.score` is at least this."""
        if self.infeasible is not None:
            return float("inf")
        return 0.0 if self.exits == "singletons" else _above(self.lambda1)

    @property
    def score_name(self) -> str:
        """What `Decision.score` is: the score, or with singletons the distance from an exit."""
        return "slack" if self.exits == "singletons" else self.score

    def covering(self, outputs: Outputs) -> Self:
        """Return the policy with the coverage of its certificates counted on other rows.

        The lower bound (level delta) holds for all lambda1 and lambda2 at once. With singletons
        that is a bound for all quadrants of two confidences.

        Source: Naaman (2021), "On the tight constant in the multivariate
        Dvoretzky-Kiefer-Wolfowitz inequality", Statistics and Probability Letters 173.

        Args:
            outputs: Independent rows of the calibration split, N >= 1, whatever their labels.

        Returns:
            The same promises, with coverage and its lower bound over these rows: in the
            certificates about sets and about lambda1 the share that passes lambda1, in the one
            about exits the share of exits.
        """
        s, n = score_function(self.score, self.own)(outputs), len(outputs)
        passing = float((s > self.lambda1).mean())
        found = [(passing, dkw_lower(passing, n, self.delta))] * 2
        if self.exits == "singletons":
            exits = float(self.decide(outputs).accepted.mean())
            found.append((exits, dkw_lower(exits, n, self.delta / (2 * (n + 1)))))
        pairs = zip(self.certificates, found, strict=False)
        return replace(
            self,
            certificates=tuple(replace(c, coverage=a, coverage_lower=b) for c, (a, b) in pairs),
        )

    def counting_groups(self) -> Self:
        """Return the policy with certificates that say they count one row of each group."""
        return replace(
            self, certificates=tuple(replace(c, grouped=True) for c in self.certificates)
        )

    def decide(self, outputs: Outputs, /) -> Decision:
        """Accept or defer each row, with its set.

        Args:
            outputs: N rows, from the head and the calibrator that the policy was fitted with.

        Returns:
            The decision. Rows that pass lambda1 have their set at lambda2, others every class.
            With singletons the score is the smaller of the distances to lambda1 and lambda2.

        Raises:
            ConfigError: If the score is unknown to this release.
            DataError: If the outputs lack what the score looks at.
        """
        s = score_function(self.score, self.own)(outputs)
        selected = s > self.lambda1
        prediction_set = (
            members(self.sets, outputs.probabilities, self.lambda2) | ~selected[:, None]
        )
        if self.exits == "singletons" and self.infeasible is None:
            second = second_entering(self.sets, outputs.probabilities)
            with np.errstate(over="ignore"):  # far above a lambda1 of -inf
                s = np.minimum(s - _above(self.lambda1), second - _above(self.lambda2))
            selected = s >= 0
        return Decision(selected, outputs.prediction, prediction_set, s)

    def rule(self) -> str:
        """Return when a row is accepted, in one line."""
        if self.infeasible is not None:
            return "defer everything"
        passes = f"{self.score} > {self.lambda1:.6g}"
        sets = f"the {self.sets} set at lambda {self.lambda2:.6g}"
        if self.exits == "singletons":
            return f"accept iff {passes} and {sets} is a single class"
        return f"accept iff {passes}; answer with {sets}"

    def sentences(self) -> tuple[str, ...]:
        """Return what is promised, or why nothing can be, in sentences."""
        if self.infeasible is not None:
            return (self.infeasible.message(),)
        said = tuple(c.sentence() for c in self.certificates)
        if sum(c.kind == "pac" for c in self.certificates) > 1:
            said += (f"What is promised with {confidence(self.delta)} confidence holds together.",)
        return said if self.exits == "singletons" else (*said, _NOT_EXITS)

    def to_dict(self) -> dict[str, Any]:
        """Return the policy's own fields of `scrcparams.json`, as JSON values."""
        return {
            "policy": self.kind,
            "score": self.score,
            "variant": self.variant,
            "sets": self.sets,
            "exits": self.exits,
            "target": {"risk": self.target.risk, "alpha": self.target.alpha},
            "xi": self.xi,
            "delta": self.delta,
            "lambda1": str(self.lambda1) if np.isinf(self.lambda1) else self.lambda1,
            "lambda2": self.lambda2,
            "positive": self.positive,
            "certificates": [c.to_dict() for c in self.certificates],
            "infeasible": self.infeasible and self.infeasible.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], own_score: OwnScore | None = None) -> Self:
        """Rebuild a policy from what `to_dict` returned.

        Args:
            document: The fields; others than the policy's own are ignored.
            own_score: The score, when it has numbers of its own; they are stored beside the policy.

        Returns:
            The policy.

        Raises:
            ArtifactError: If a field is missing, malformed or unknown to this release, or the
                certificates are not those of the policy.
        """
        if document.get("policy") != cls.kind:
            raise ArtifactError(f"policy {document.get('policy')!r} is not {cls.kind!r}.")
        read = Fields(document, "the scrc policy")
        asked, why = Fields.of(read.value("target"), "its target"), read.value("infeasible")
        names = (read.text("variant"), read.text("sets"), read.text("exits"))
        positive = read.maybe_count("positive")
        try:
            target = Target(asked.text("risk"), asked.level("alpha"))
            check_settings(target, *names, "mean", positive, None)
        except ConfigError as error:
            raise ArtifactError(f"the scrc policy is malformed: {error}") from None
        policy = cls(
            read.text("score"),
            *names,
            target,
            read.level("xi"),
            read.level("delta"),
            read.threshold("lambda1"),
            read.number("lambda2"),
            positive,
            tuple(Certificate.from_dict(c) for c in read.items("certificates")),
            None if why is None else Infeasible.from_dict(why),
            own_score,
        )
        check_score(policy.score, own_score)
        policy._require_agreement()
        return policy

    def _require_agreement(self) -> None:
        """Refuse numbers that are not the certified ones."""
        if self.infeasible is not None:
            if self.certificates or self.lambda1 != float("inf"):
                raise ArtifactError(
                    "an infeasible scrc policy must defer everything: lambda1 inf, no certificate. "
                    "Calibrate again."
                )
            return
        passes = _above(self.lambda1)
        certified = [
            (f"set_{self.target.risk}", self.target.alpha, passes),
            ("deferral", round(1 - self.xi, 12), passes),
        ]
        if self.exits == "singletons":
            certified[1] = ("not_selected", *certified[1][1:])
            certified.append((self.target.risk, self.target.alpha, _above(self.lambda2)))
        found = [(c.risk, c.alpha, c.threshold) for c in self.certificates]
        wrong_level = any(c.delta != self.delta for c in self.certificates)
        if found != certified or wrong_level or not 0 <= self.lambda2 <= 1:
            raise ArtifactError(
                "the certificates of the scrc policy are not those of its lambda1, lambda2 and "
                "target. Calibrate again."
            )


def _above(value: float) -> float:
    """The next larger float64: x > value iff x >= it."""
    return float(np.nextafter(value, np.inf))
