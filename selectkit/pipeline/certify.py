"""Every kind of policy for one question: what to promise, to whom, at which cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from selectkit.errors import ConfigError
from selectkit.pipeline.evidence import Evidence
from selectkit.policies import (
    POSITIVE_RISKS,
    ClasswisePolicy,
    Costs,
    ExitPolicy,
    GatePolicy,
    OwnScore,
    ScrcPolicy,
    SoftmaxPolicy,
    Targets,
    TwoSidedPolicy,
    fit_threshold,
)
from selectkit.policies.scores import Gate
from selectkit.policies.scrc_fit import Exits, Variant
from selectkit.policies.trade_off import TradeOff
from selectkit.risk import Infeasible


@dataclass(frozen=True, slots=True)
class SetSettings:
    """What only a policy of prediction sets is asked; see `ScrcPolicy`."""

    xi: float = 0.8
    variant: Variant = "t"
    sets: str = "threshold"
    exits: Exits = "accepted"


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be promised.

    Attributes:
        targets: Kept all at once; may be empty when there are costs.
        delta: Probability with which any of the promises may fail.
        classes: Names of the K classes.
        positive: Code of the positive class, or None.
        costs: Choose the cheapest instead of the one that accepts most; or None.
        sets: Settings of a policy of prediction sets.
    """

    targets: Targets
    delta: float
    classes: tuple[str, ...]
    positive: int | None
    costs: Costs | None = None
    sets: SetSettings = SetSettings()

    def __post_init__(self) -> None:
        """Refuse questions without a promise or without the class that they are about.

        Raises:
            ConfigError: If nothing is asked for, or there is no positive class.
        """
        if not self.targets and self.costs is None:
            raise ConfigError(
                "no target: say what to promise, for instance --target fnr=0.02, "
                "--target error=0.01 or --target coverage=0.8, or what mistakes cost: --cost."
            )
        asked = [t for t in self.targets if t.risk in POSITIVE_RISKS]
        unnamed = self.costs is not None and self.costs.error is None
        if self.positive is None and (asked or unnamed):
            what = f"--target {asked[0]}" if asked else f"--cost {self.costs}"
            raise ConfigError(
                f"{what} is about positives, and the run names no positive class: fit again with "
                f"--positive, one of {', '.join(self.classes)}."
            )

    @property
    def alone(self) -> bool:
        """Whether one target is all that is asked."""
        return len(self.targets) == 1 and self.costs is None

    def __str__(self) -> str:
        """The targets, and the costs."""
        parts = [f"--target {self.targets}"] if self.targets else []
        return " ".join([*parts, *([] if self.costs is None else [f"--cost {self.costs}"])])


@dataclass(frozen=True, slots=True)
class Certified:
    """A policy, and how it came about.

    Attributes:
        policy: It defers everything when the question is infeasible.
        n: Independent rows the first promise could draw on.
        table: What other rules would have done on the calibration rows.
    """

    policy: ExitPolicy
    n: int
    table: tuple[TradeOff, ...] = ()


def softmax(question: Question, rows: Evidence, score: str | OwnScore) -> Certified:
    """One threshold on a confidence."""
    only = question.targets[0] if question.alone else None
    if only is None or rows.strata is not None or only.risk == "deferral":
        return _several(question, rows, score)
    alone = rows.about(only, question.positive)
    answer = SoftmaxPolicy.fit(
        rows.outputs.take(alone),
        rows.labels[alone],
        target=only,
        delta=question.delta,
        score=score,
        positive=question.positive,
        split=rows.split,
    )
    if isinstance(answer, Infeasible):
        deferring = SoftmaxPolicy.deferring(answer, score=score, positive=question.positive)
        return Certified(deferring, len(alone))
    policy = answer.covering(rows.outputs.take(rows.everyone))
    return Certified(policy.counting_groups() if rows.grouped else policy, len(alone))


def _several(question: Question, rows: Evidence, score: str | OwnScore) -> Certified:
    """One threshold for several targets, for every group, or at least cost."""
    _require_promises(question)
    alone = rows.everyone
    answer, table = fit_threshold(
        rows.outputs.take(alone),
        rows.labels[alone],
        targets=question.targets,
        positive=question.positive,
        delta=question.delta,
        score=score,
        costs=question.costs,
        guide=rows.guide,
        groups=None if rows.strata is None else rows.strata[alone],
        split=rows.split,
    )
    if isinstance(answer, Infeasible):
        policy = SoftmaxPolicy.deferring(
            answer, score=score, positive=question.positive, targets=question.targets,
            costs=question.costs,
        )  # fmt: skip
        return Certified(policy, len(alone), table)
    return Certified(answer.counting_groups() if rows.grouped else answer, len(alone), table)


def two_sided(question: Question, rows: Evidence, score: str | OwnScore) -> Certified:
    """Clearly negative below, clearly positive above, deferred between; two classes."""
    _require_promises(question)
    _require_msp("two_sided", score)
    if question.positive is None:
        raise ConfigError(
            "--policy two_sided needs to know the positive class: fit again with --positive, one "
            f"of {', '.join(question.classes)}."
        )
    alone = rows.everyone
    answer, table = TwoSidedPolicy.explore(
        rows.outputs.take(alone),
        rows.labels[alone],
        targets=question.targets,
        positive=question.positive,
        delta=question.delta,
        costs=question.costs,
        guide=rows.guide,
        groups=None if rows.strata is None else rows.strata[alone],
        split=rows.split,
    )
    if isinstance(answer, Infeasible):
        policy = TwoSidedPolicy.deferring(
            answer, targets=question.targets, positive=question.positive, costs=question.costs
        )
        return Certified(policy, len(alone), table)
    return Certified(answer.counting_groups() if rows.grouped else answer, len(alone), table)


def per_class(question: Question, rows: Evidence, score: str | OwnScore) -> Certified:
    """One threshold for each predicted class."""
    _require_one_target("per_class", question, rows)
    target, alone = question.targets[0], rows.everyone
    answer = ClasswisePolicy.fit(
        rows.outputs.take(alone),
        rows.labels[alone],
        target=target,
        delta=question.delta,
        score=score,
        classes=question.classes,
        split=rows.split,
    )
    if isinstance(answer, Infeasible):
        n_classes = len(question.classes)
        policy = ClasswisePolicy.deferring(answer, score=score, target=target, n_classes=n_classes)
        return Certified(policy, len(alone))
    return Certified(answer.counting_groups() if rows.grouped else answer, len(alone))


def gate(question: Question, rows: Evidence, score: str | OwnScore) -> Certified:
    """A trained gate, calibrated, with a threshold for one target or several."""
    if not isinstance(score, Gate):
        raise ConfigError("--policy gate accepts by the trained gate; leave --score out.")
    if question.costs is not None or rows.strata is not None:
        raise ConfigError(
            "--policy gate keeps targets; --cost and --per-group belong to softmax and two_sided."
        )
    targets = question.targets
    about = len(targets) == 1 and targets[0].risk != "deferral"
    alone = rows.about(targets[0], question.positive) if about else rows.everyone
    policy = GatePolicy.fit(
        rows.outputs.take(alone),
        rows.labels[alone],
        gate=score,
        target=targets,
        delta=question.delta,
        positive=question.positive,
        split=rows.split,
        grouped=rows.grouped,
    )
    return Certified(policy, len(alone))


def scrc(question: Question, rows: Evidence, score: str | OwnScore) -> Certified:
    """A score to pass, and a prediction set for those that do."""
    _require_one_target("scrc", question, rows)
    target, alone, asked = question.targets[0], rows.everyone, question.sets
    answer = ScrcPolicy.fit(
        rows.outputs.take(alone),
        rows.labels[alone],
        target=target,
        delta=question.delta,
        xi=asked.xi,
        score=score,
        variant=asked.variant,
        sets=asked.sets,
        exits=asked.exits,
        positive=question.positive,
        split=rows.split,
    )
    if isinstance(answer, Infeasible):
        policy = ScrcPolicy.deferring(
            answer, target=target, delta=question.delta, xi=asked.xi, score=score,
            variant=asked.variant, sets=asked.sets, exits=asked.exits, positive=question.positive,
        )  # fmt: skip
        return Certified(policy, len(alone))
    return Certified(answer.counting_groups() if rows.grouped else answer, len(alone))


Fit = Callable[[Question, Evidence, str | OwnScore], Certified]

POLICIES: Mapping[str, Fit] = MappingProxyType({
    "softmax": softmax,
    "two_sided": two_sided,
    "per_class": per_class,
    "gate": gate,
    "scrc": scrc,
})
"""Every policy of one run by the name used in settings."""


def with_exits(question: Question) -> Question:
    """Return the question for sets whose single classes are certified with confidence."""
    sets = replace(question.sets, variant="joint", exits="singletons")
    return replace(question, sets=sets)


def _require_promises(question: Question) -> None:
    if any(t.risk == "coverage" for t in question.targets):
        raise ConfigError(
            f"{question}: coverage=SHARE promises nothing and stands alone, with --policy softmax "
            "or gate. Ask for deferral=RATE to certify that at most this share is deferred."
        )


def _require_msp(policy: str, score: str | OwnScore) -> None:
    if score != "msp":
        raise ConfigError(
            f"--policy {policy} looks at the calibrated probability of the positive class; leave "
            "--score out."
        )


def _require_one_target(policy: str, question: Question, rows: Evidence) -> None:
    if not question.alone or rows.strata is not None:
        raise ConfigError(
            f"--policy {policy} keeps one target; several targets, --cost and --per-group belong "
            "to softmax and two_sided."
        )
