"""One threshold for each predicted class, so that every class keeps the target on its own.

A single threshold keeps the error rate on average over classes, which says nothing about a rare
one. Rows that are predicted as class c are independent draws from the law of such rows, so that
each class is certified like a whole problem, and, given how many rows each class has, independently
of the others. Classes with too few rows for any test get no share of delta: which ones these are
depends on counts of predictions, not on labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isinf
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, class_labels
from selectkit.errors import ArtifactError, ConfigError
from selectkit.fields import Fields
from selectkit.policies import words
from selectkit.policies.outputs import Decision, Float64s, Outputs
from selectkit.policies.scores import OwnScore
from selectkit.policies.scoring import check_score, named, score_function
from selectkit.policies.target import Target, Targets
from selectkit.risk import Certificate, Infeasible, certify_threshold, labels_needed
from selectkit.stats.binomial import check_level


@dataclass(frozen=True, slots=True)
class ClasswisePolicy:
    """Accept iff score >= threshold of the most probable class. K classes.

    Attributes:
        score_name: Name of the score.
        thresholds: K numbers in the score's units; inf: rows of this class are always deferred.
        target: The selective error that every accepted class keeps on its own.
        delta: Probability with which any of the promises may fail.
        certificates: One for each class that is ever accepted, all together at delta.
        deferred: Classes that are always deferred, with why and what would do.
        infeasible: Why no class can be promised anything; everything is deferred then.
        own: The score itself when it has numbers of its own.
    """

    kind: ClassVar[str] = "softmax"
    artifact: ClassVar[str] = "thresholds"
    form: ClassVar[str] = "per_class"
    score_name: str
    thresholds: tuple[float, ...]
    target: Target
    delta: float
    certificates: tuple[Certificate, ...]
    deferred: tuple[tuple[str, Infeasible], ...] = ()
    infeasible: Infeasible | None = None
    own: OwnScore | None = None

    @property
    def threshold(self) -> float:
        """0: the score of a decision is the distance from its class's threshold."""
        return 0.0 if self.infeasible is None else float("inf")

    @property
    def scored_by(self) -> str | OwnScore:
        """What `fit` takes as its score to make a policy with the same one."""
        return self.own or self.score_name

    @classmethod
    def fit(
        cls,
        outputs: Outputs,
        labels: ArrayLike,
        *,
        target: Target,
        delta: float = 0.1,
        score: str | OwnScore = "msp",
        classes: Sequence[str] | None = None,
        split: str | None = None,
    ) -> Self | Infeasible:
        """Find for each predicted class the most permissive certified threshold.

        With probability at least 1 - delta over the draw of the calibration rows, for every class c
        that is accepted at all, at most a share alpha of the rows that are accepted as c are wrong.
        The classes that can be tested are certified at 1 - (1 - delta)^(1/m) each, m their number,
        which is delta together because they are independent.

        Args:
            outputs: N independent rows that neither head nor calibrator has seen.
            labels: Shape (N,), codes in [0, K).
            target: The risk must be "error".
            delta: Probability with which any promise may fail.
            score: A key of `SCORES`, or a score with numbers of its own, fitted on other rows.
            classes: Names of the K classes; None: their codes.
            split: Fingerprint of the rows, kept in the certificates.

        Returns:
            The policy, or `Infeasible` when no class can be certified.

        Raises:
            ConfigError: If the target is another risk, or the score or number of names is wrong.
            DataError: If the labels do not fit the outputs.
            RiskError: If delta is outside (0, 1).
        """
        y = class_labels(labels, *outputs.probabilities.shape)
        check_level(delta, "delta")
        n_classes = outputs.probabilities.shape[1]
        if target.risk != "error":
            raise ConfigError(
                f"--target {target}: thresholds for each class keep error=RATE in every class; "
                "for other risks use one threshold or, with two classes, a two-sided one."
            )
        names = [str(c) for c in range(n_classes)] if classes is None else list(classes)
        if len(names) != n_classes:
            raise ConfigError(f"{len(names)} names for {n_classes} classes.")
        name, own = named(score)
        s = score_function(name, own)(outputs)
        found = _by_class(s, outputs.prediction, y, target, delta, n_classes)
        certified = {c: f for c, f in enumerate(found) if isinstance(f, Certificate)}
        refused = {c: f for c, f in enumerate(found) if isinstance(f, Infeasible)}
        if not certified:
            closest = min(refused.values(), key=lambda why: (why.needs is None, why.needs or 0))
            return replace(closest, delta=delta, reason=f"no class can be certified: "
                           f"{closest.reason} of the closest class")  # fmt: skip
        thresholds = tuple(
            certified[c].threshold if c in certified else float("inf") for c in range(n_classes)
        )
        policy = cls(name, thresholds, target, delta, (), own=own)
        accepted = int(policy.decide(outputs).accepted.sum())
        lower = _coverage_lower(certified, delta, len(y))
        promises = tuple(
            replace(
                c, delta=delta, threshold=0.0, split=split, about=f"class {names[k]}",
                coverage=accepted / len(y), coverage_lower=lower, method=f"{c.method}; by class",
            )
            for k, c in certified.items()
        )  # fmt: skip
        always = tuple((f"class {names[k]}", replace(why, delta=delta))
                       for k, why in refused.items())  # fmt: skip
        return replace(policy, certificates=promises, deferred=always)

    @classmethod
    def deferring(
        cls, infeasible: Infeasible, *, score: str | OwnScore, target: Target, n_classes: int
    ) -> Self:
        """Return the policy for an infeasible target: it defers everything, and says why."""
        name, own = named(score)
        never = (float("inf"),) * n_classes
        return cls(name, never, target, infeasible.delta, (), (), infeasible, own)

    def counting_groups(self) -> Self:
        """Return the policy with certificates that say they count one row of each group."""
        return replace(
            self, certificates=tuple(replace(c, grouped=True) for c in self.certificates)
        )

    def decide(self, outputs: Outputs, /) -> Decision:
        """Accept or defer each row.

        Args:
            outputs: N rows, from the head and calibrator of the fit.

        Returns:
            The decision; its score is the distance from the threshold of the predicted class.

        Raises:
            ConfigError: If the number of classes differs, or the score is unknown.
            DataError: If the outputs lack what the score looks at.
        """
        if outputs.probabilities.shape[1] != len(self.thresholds):
            raise ConfigError(
                f"the policy knows {len(self.thresholds)} classes, "
                f"the rows have {outputs.probabilities.shape[1]}."
            )
        s = score_function(self.score_name, self.own)(outputs)
        prediction = outputs.prediction
        least = np.asarray(self.thresholds)[prediction]
        accepted = s >= least
        prediction_set = np.repeat(~accepted[:, None], len(self.thresholds), axis=1)
        prediction_set[np.arange(len(s)), prediction] = True
        return Decision(accepted, prediction, prediction_set, _distance(s, least))

    def rule(self) -> str:
        """Return when a row is accepted, in one line."""
        finite = [t for t in self.thresholds if not isinf(t)]
        if not finite:
            return "defer everything"
        never = len(self.thresholds) - len(finite)
        low, high = (f"{t:.6g}" if t > -1e300 else "the lowest" for t in (min(finite), max(finite)))
        line = f"accept iff {self.score_name} >= the threshold of its class ({low} to {high})"
        if high == "the lowest":
            line = "accept everything" + f" of {len(finite)} classes" * (never > 0)
        return line + (f"; {never} of {len(self.thresholds)} classes always deferred" * (never > 0))

    def sentences(self) -> tuple[str, ...]:
        """Return what is promised, or why nothing can be, in sentences."""
        said = words.sentences(self.certificates, self.infeasible)
        return said + tuple(
            f"{who[0].upper()}{who[1:]} is always deferred: {why.reason}"
            + (f"; at least {why.needs} samples predicted so would do." if why.needs else ".")
            for who, why in self.deferred
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the policy's own fields of `thresholds.json`, as JSON values."""
        return {
            "policy": self.kind,
            "form": self.form,
            "score": self.score_name,
            "threshold": words.number(self.threshold),
            "thresholds": [words.number(t) for t in self.thresholds],
            "positive": None,
            "deferred": [{"about": who, **why.to_dict()} for who, why in self.deferred],
            **words.fields(
                targets=(self.target,),
                delta=self.delta,
                certificates=self.certificates,
                infeasible=self.infeasible,
                costs=None,
                cost=None,
            ),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], own: OwnScore | None = None) -> Self:
        """Rebuild a policy from what `to_dict` returned.

        Args:
            document: The fields; others than the policy's own are ignored.
            own: The score, when it has numbers of its own.

        Returns:
            The policy.

        Raises:
            ArtifactError: If a field is missing or malformed, the score is another one, or the
                certificates are not those of the policy.
        """
        what = "the per-class policy"
        if document.get("form") != cls.form:
            raise ArtifactError(f"form {document.get('form')!r} is not {what}. Calibrate again.")
        check_score(document.get("score"), own)
        read = words.read_fields(document, what)
        fields = Fields(document, what)
        thresholds = fields.thresholds("thresholds")
        deferred = tuple(_deferred(one) for one in fields.items("deferred"))
        targets: Targets = read["targets"]
        accepts = sum(not isinf(t) for t in thresholds)
        if len(targets) != 1 or len(thresholds) < 2 or float("-inf") in thresholds:
            raise ArtifactError(f"{what} needs one target and a threshold for each class.")
        if accepts != len(read["certificates"]):
            raise ArtifactError(
                f"{what} accepts {accepts} classes and has {len(read['certificates'])} "
                "certificates. Calibrate again."
            )
        if fields.threshold("threshold") != (0.0 if accepts else float("inf")):
            raise fields.wrong("threshold", "0, or inf where everything is deferred")
        if any(c.threshold != 0.0 for c in read["certificates"]):
            raise ArtifactError(f"{what} has certificates for another rule. Calibrate again.")
        if accepts:
            words.check_promises(targets, read["delta"], read["certificates"], what)
        return cls(
            fields.text("score"), thresholds, targets[0], read["delta"], read["certificates"],
            deferred, read["infeasible"], own,
        )  # fmt: skip


def _deferred(document: Any) -> tuple[str, Infeasible]:
    """A class that is always deferred, and why."""
    read = Fields.of(document, "a class that is always deferred")
    why = {name: value for name, value in read.document.items() if name != "about"}
    return read.text("about"), Infeasible.from_dict(why)


def _by_class(
    s: Float64s,
    prediction: npt.NDArray[np.int64],
    y: npt.NDArray[np.int64],
    target: Target,
    delta: float,
    n_classes: int,
) -> list[Certificate | Infeasible]:
    """Certify every class that can be tested at its share of delta; say why not of the others."""
    counts = np.bincount(prediction, minlength=n_classes)
    tested = _testable(counts, target.alpha, delta)
    share = 1 - (1 - delta) ** (1 / max(len(tested), 1))
    found: list[Certificate | Infeasible] = []
    for c in range(n_classes):
        rows = prediction == c
        if c in tested:
            found.append(
                certify_threshold(s[rows], (prediction != y)[rows], alpha=target.alpha, delta=share)
            )
            continue
        one_more = 1 - (1 - delta) ** (1 / (len(tested) + 1))
        needs = labels_needed(target.alpha, one_more)
        reason = f"{counts[c]} samples predicted so in the calibration split"
        found.append(Infeasible("error", target.alpha, share, int(counts[c]), reason, needs))
    return found


def _testable(counts: npt.NDArray[np.int64], alpha: float, delta: float) -> set[int]:
    """The most classes, largest first, that could all pass their tests without an error."""
    order = np.argsort(-counts, kind="stable")
    for m in range(len(order), 0, -1):
        if counts[order[m - 1]] >= labels_needed(alpha, 1 - (1 - delta) ** (1 / m)):
            return {int(c) for c in order[:m]}
    return set()


def _coverage_lower(certified: Mapping[int, Certificate], delta: float, n: int) -> float:
    """A lower bound of the coverage of all classes together, level delta.

    Every class accepts its k_c highest scores of n rows; the mass above an order statistic of one
    class is bounded uniformly over thresholds by Dvoretzky, Kiefer and Wolfowitz at delta / m for
    each of m classes, among all rows: the rows of other classes count as never accepted.
    """
    loss = np.sqrt(np.log(1 / min(delta / len(certified), 0.5)) / (2 * n))
    return float(sum(max(0.0, c.n_accepted / n - loss) for c in certified.values()))


def _distance(s: Float64s, least: Float64s) -> Float64s:
    """Signed distance from acceptance, finite or -inf."""
    with np.errstate(over="ignore"):
        return np.asarray(np.clip(s - least, -np.inf, np.finfo(np.float64).max))
