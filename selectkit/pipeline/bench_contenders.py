"""The ways to a decision that are compared, and what each of them claims."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np

from selectkit.errors import ConfigError
from selectkit.pipeline.bench_rows import Labels, Population, Sees
from selectkit.pipeline.bench_stages import StagedRows, alone
from selectkit.policies import (
    CascadePolicy,
    ClasswisePolicy,
    Costs,
    ExitPolicy,
    GatePolicy,
    Guide,
    Outputs,
    ScrcPolicy,
    SoftmaxPolicy,
    Target,
    Targets,
    TwoSidedPolicy,
    fit_threshold,
)
from selectkit.policies.evidence import check_question
from selectkit.policies.families import Rows, Thresholds
from selectkit.policies.guide import split_off
from selectkit.policies.scores import Gate
from selectkit.policies.scrc_fit import Variant
from selectkit.risk import Infeasible

STORED = Gate()
"""The score that is read from `Outputs.gate`, where a population keeps what it computed once."""
SCRC = {"t": "scrc", "split_pac": "scrc split", "joint": "scrc joint"}


@dataclass(frozen=True, slots=True)
class Promise:
    """What is claimed about one rate.

    Attributes:
        risk: What is bounded.
        alpha: By how much.
        kind: "pac" (with confidence), "expectation" (on average) or "none" (claimed, unproven).
        upper: The bound that was reported for these calibration rows; None: there is none.
        predicted: Only rows of this predicted class are meant; None: all.
    """

    risk: str
    alpha: float
    kind: str
    upper: float | None = None
    predicted: int | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A rule that was found on calibration rows.

    Attributes:
        policy: It decides what its contender sees.
        promises: What it claims, the target's own risk first.
    """

    policy: ExitPolicy | CascadePolicy
    promises: tuple[Promise, ...]


@dataclass(frozen=True, slots=True)
class Contender:
    """A way from calibration rows to a rule.

    Attributes:
        name: What it is called.
        fit: From calibration rows and labels to a rule; None when it gives up.
        kind: Kind of its promise: "pac", "expectation" or "none".
        sees: What `fit` and the rule that it returns are shown of the rows: `Outputs` with the
            score, or with the gate in its place; for "stages" a sequence of them, one per stage.
        sets: Whether its accepted rows are answered with sets.
        own: Whether it is a policy of selectkit, whose promises are held against it.
    """

    name: str
    fit: Callable[[Any, Labels], Fitted | None]
    kind: str = "pac"
    sees: Sees = "score"
    sets: bool = False
    own: bool = True


def contenders(
    rows: Population, targets: Targets, costs: Costs | None, delta: float, xi: float = 0.8
) -> tuple[Contender, ...]:
    """Return everybody who can answer the question, the empirical threshold first.

    Args:
        rows: What is decided about.
        targets: What to keep; empty: only cost matters.
        costs: What decisions cost, or None.
        delta: Probability with which a promise may fail.
        xi: Share of rows that the score of selective sets is to let pass.

    Returns:
        The contenders. A cascade, and its last stage for itself, take part where there are stages
        and rules are not chosen by the cost of errors.

    Raises:
        ConfigError: If the question makes no sense.
    """
    check_question(targets, costs, rows.positive, rows.n_classes)
    if targets and {t.risk for t in targets} == {"deferral"} and costs is None:
        raise ConfigError(
            f"--target {targets} alone is kept by accepting everything: combine it with what may "
            f"go wrong, for instance --target error=0.05,{targets}."
        )
    ask = _Question(targets, costs, delta, rows.positive, rows.guide, xi)
    found = [
        Contender("empirical threshold", partial(_empirical, ask=ask), "none", own=False),
        Contender("one threshold", partial(_one_threshold, ask=ask)),
    ]
    if rows.n_classes == 2:
        found.append(Contender("two-sided", partial(_two_sided, ask=ask)))
    single = targets[0] if len(targets) == 1 else None
    if single is not None and single.risk == "error":
        found.append(Contender("per class", partial(_per_class, ask=ask)))
    if rows.gated is not None and targets:
        found.append(Contender("gate", partial(_gate, ask=ask), sees="gate"))
    if single is not None and single.risk in {"error", "fnr"}:
        found += _selective_sets(ask)
    if rows.staged is not None and targets and costs is None:
        found += _staged(ask, rows.staged)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Question:
    targets: Targets
    costs: Costs | None
    delta: float
    positive: int | None
    guide: Guide | None
    xi: float

    @property
    def target(self) -> Target:
        """The first, or the only one."""
        return self.targets[0]

    @property
    def risk(self) -> str:
        """What the answer is judged by first."""
        return self.targets[0].risk if self.targets else "cost"

    def answered(self, policy: ExitPolicy | CascadePolicy | Infeasible) -> Fitted | None:
        """Return the rule of a policy."""
        return certified(policy, self.risk)


def certified(policy: ExitPolicy | CascadePolicy | Infeasible, risk: str) -> Fitted | None:
    """Return a policy with its promises, those about one risk first; None when infeasible."""
    if isinstance(policy, Infeasible) or policy.infeasible is not None:
        return None
    ordered = sorted(policy.certificates, key=lambda c: c.risk != risk)
    return Fitted(
        policy,
        tuple(Promise(c.risk, c.alpha, c.kind, c.risk_upper, _class_of(c.about)) for c in ordered),
    )


def _class_of(about: str | None) -> int | None:
    return None if about is None else int(about.removeprefix("class "))


def at_threshold(
    threshold: float, targets: Sequence[Target], positive: int | None = None
) -> Fitted:
    """Return a threshold whose targets are claimed without proof."""
    policy = SoftmaxPolicy("gate", threshold, positive, None, own=STORED)
    return Fitted(policy, tuple(Promise(t.risk, t.alpha, "none") for t in targets))


def _empirical(outputs: Outputs, labels: Labels, *, ask: _Question) -> Fitted | None:
    """The best threshold by what the calibration rows show, as a plain sweep finds it."""
    s = STORED(outputs)
    family = Thresholds(np.unique(s))
    tally = family.tally(Rows.counted(s, outputs, labels, ask.positive))
    kept = np.ones(len(family), dtype=np.bool_)
    for target in ask.targets:
        errors, n = tally.of(target.risk)
        kept &= errors <= target.alpha * n
    if not kept.any():
        return None
    cost = None if ask.costs is None else tally.cost(ask.costs)
    best = int(np.argmax(np.where(kept, tally.accepted if cost is None else -cost, -np.inf)))
    found = at_threshold(float(family.values[best]), ask.targets, ask.positive)
    if ask.targets or cost is None or ask.costs is None:
        return found
    claimed = Promise("cost", float(cost[best]) / ask.costs.largest, "none")
    return Fitted(found.policy, (claimed,))


def _one_threshold(outputs: Outputs, labels: Labels, *, ask: _Question) -> Fitted | None:
    if len(ask.targets) == 1 and ask.costs is None:
        return ask.answered(
            SoftmaxPolicy.fit(outputs, labels, target=ask.target, delta=ask.delta, score=STORED,
                              positive=ask.positive)
        )  # fmt: skip
    policy, _ = fit_threshold(
        outputs, labels, targets=ask.targets, positive=ask.positive, delta=ask.delta,
        score=STORED, costs=ask.costs, guide=ask.guide,
    )  # fmt: skip
    return ask.answered(policy)


def _two_sided(outputs: Outputs, labels: Labels, *, ask: _Question) -> Fitted | None:
    assert ask.positive is not None  # of two classes one is positive
    return ask.answered(
        TwoSidedPolicy.fit(outputs, labels, targets=ask.targets, positive=ask.positive,
                           delta=ask.delta, costs=ask.costs, guide=ask.guide)
    )  # fmt: skip


def _per_class(outputs: Outputs, labels: Labels, *, ask: _Question) -> Fitted | None:
    return ask.answered(
        ClasswisePolicy.fit(outputs, labels, target=ask.target, delta=ask.delta, score=STORED)
    )


def _gate(outputs: Outputs, labels: Labels, *, ask: _Question) -> Fitted | None:
    return ask.answered(
        GatePolicy.fit(outputs, labels, gate=STORED, target=ask.targets, delta=ask.delta,
                       positive=ask.positive)
    )  # fmt: skip


def _selective_sets(ask: _Question) -> list[Contender]:
    def fit(
        outputs: Outputs, labels: Labels, *, variant: Variant, singletons: bool
    ) -> Fitted | None:
        return ask.answered(
            ScrcPolicy.fit(
                outputs, labels, target=ask.target, delta=ask.delta, xi=ask.xi, score=STORED,
                variant=variant, exits="singletons" if singletons else "accepted",
                positive=ask.positive,
            )
        )  # fmt: skip

    variants: tuple[Variant, ...] = get_args(Variant)
    return [
        Contender(
            SCRC[variant] + (", singletons" if singletons else ", sets"),
            partial(fit, variant=variant, singletons=singletons),
            "expectation" if variant == "t" and not singletons else "pac",
            sets=not singletons,
        )
        for singletons in (False, True)
        for variant in variants
    ]


def _staged(ask: _Question, rows: StagedRows) -> list[Contender]:
    """The cascade, and its last stage for itself with one threshold."""
    last = ask
    if ask.guide is not None and rows.guides is not None:
        last = replace(ask, guide=replace(ask.guide, outputs=rows.guides[-1]))
    return [
        Contender("cascade", partial(_cascade, ask=ask, rows=rows), sees="stages"),
        Contender(
            alone(rows.about.names[-1]), partial(_one_threshold, ask=last), sees="last stage"
        ),
    ]


def _cascade(
    stages: Sequence[Outputs], labels: Labels, *, ask: _Question, rows: StagedRows
) -> Fitted | None:
    if ask.guide is not None and rows.guides is not None:
        select: tuple[Sequence[Outputs], Labels] = (rows.guides, ask.guide.labels)
    else:
        guides, rest = zip(*(split_off(Guide(said, labels)) for said in stages), strict=True)
        select = ([guide.outputs for guide in guides], guides[0].labels)
        stages, labels = [one.outputs for one in rest], rest[0].labels
    return ask.answered(
        CascadePolicy.fit(
            stages, labels, costs=rows.about.costs, target=ask.targets, select=select,
            delta=ask.delta, scores=STORED, names=rows.about.names, positive=ask.positive,
            last_decides=rows.about.last_decides,
        )
    )  # fmt: skip
