"""Which policy to certify: the candidates are tried on val_select, and one goes to val_calib.

Trying them on the calibration split would be choosing the best of several certificates, each of
which may fail. Here every try is a simulation: a third of val_select says which rules to test, from
another third the calibration split is drawn, and the last third says what the policy would accept.
Whatever this suggests, the certificate of the chosen one is as good as if it had been named
beforehand.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from selectkit.errors import ConfigError
from selectkit.pipeline.certify import POLICIES, Question, with_exits
from selectkit.pipeline.evidence import Evidence
from selectkit.pipeline.tries import CascadeTry, Draw, Outcome, RunTry
from selectkit.policies import Guide, OwnScore

Watch = Callable[[int, int, str], None]

DRAWS = 20
MOST_ROWS = 20_000
CASCADE = "cascade"
_MISSES, _ALARMS = {"fnr", "miss_rate"}, {"fpr", "false_alarm"}


@dataclass(frozen=True, slots=True)
class Tried:
    """What is to be expected of one policy.

    Attributes:
        policy: A key of `POLICIES`, or "cascade".
        certified: Share of simulated calibration splits that gave a certificate, or None when the
            policy was not tried.
        coverage: Mean share of images that it would accept, none where nothing was certified.
        cost: Mean cost of an image, by which policies are compared then: of its decision where
            `--cost` prices mistakes, else of the stages that it reaches and of the person who
            decides what is deferred. None: policies are compared by coverage.
        reason: Why it was not tried.
        chosen: Whether it is the one.
        computing: Mean cost of the stages that an image reaches, the first run alone for all
            policies but a cascade; None when nobody said what they cost.
        unit: Of `computing`, and of `cost` where a person has a price.
    """

    policy: str
    certified: float | None = None
    coverage: float | None = None
    cost: float | None = None
    reason: str = ""
    chosen: bool = False
    computing: float | None = None
    unit: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def choose_policy(
    question: Question,
    rows: Evidence,
    scores: Mapping[str, str | OwnScore],
    units: Guide,
    *,
    cascade: CascadeTry | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> tuple[Tried, ...]:
    """Try every policy that can answer a question.

    Args:
        question: What is to be promised.
        rows: The calibration split; only the number of its independent rows is looked at, and
            whether promises are by group.
        scores: The score of each policy that can be fitted, by its key in `POLICIES`.
        units: Independent rows of val_select.
        cascade: The same rows as the stages of a cascade see them, to try one too.
        seed: Of the simulation.
        watch: Called after every simulated certification with the number done, the number there
            will be, and the policy.

    Returns:
        One entry for each key of `POLICIES`, and one for the cascade; the chosen one is among them.
        Of equal ones the first is taken.

    Raises:
        ConfigError: If there is nothing to choose by.
    """
    if any(t.risk == "coverage" for t in question.targets):
        raise ConfigError(
            f"--policy auto chooses by coverage, which {question} fixes. Name a policy."
        )
    if len(units.labels) < 3:
        raise ConfigError("--policy auto needs three images or more in val_select to try policies.")
    costs = cascade.costs if cascade is not None and cascade.priced else None
    reasons = {name: _excluded(name, question, rows, scores) for name in POLICIES}
    tries: dict[str, RunTry | CascadeTry] = {
        name: RunTry(POLICIES[name], asked_of(name, question), scores[name], costs)
        for name, reason in reasons.items()
        if not reason
    }
    if cascade is not None:
        reasons[CASCADE], tries[CASCADE] = "", cascade
    done, total, n = 0, DRAWS * len(tries), min(len(rows.everyone), MOST_ROWS)
    found: dict[str, list[Outcome]] = {name: [] for name in tries}
    for own in np.random.SeedSequence(seed).spawn(DRAWS):
        draw = Draw.of(units, n, np.random.default_rng(own))
        for name, one in tries.items():
            found[name].append(one.outcome(question, draw))
            done += 1
            if watch is not None:
                watch(done, total, name)
    tried = [
        _expected(name, found[name], "" if costs is None else costs.unit)
        if name in found
        else Tried(name, reason=reason)
        for name, reason in reasons.items()
    ]
    best = min((t for t in tried if t.coverage is not None), key=_loss).policy
    return tuple(replace(t, chosen=t.policy == best) for t in tried)


def table(tried: tuple[Tried, ...]) -> list[str]:
    """Return the candidates as lines for people."""
    if not tried:
        return []
    better = "higher coverage is better"
    if any(t.computing is not None for t in tried):
        better = "higher coverage is better, then what is cheaper to compute"
    if any(t.cost is not None for t in tried):
        better = "lower cost is better"
    lines = [
        f"policies, each tried on {DRAWS} calibration splits simulated from val_select ({better}):"
    ]
    for t in tried:
        if t.certified is None or t.coverage is None:
            lines.append(f"  {t.policy:<10} not tried: {t.reason}")
            continue
        line = f"  {t.policy:<10} certified {t.certified:4.0%}  coverage {t.coverage:6.1%}"
        for name, cost in (("cost", t.cost), ("computing", t.computing)):
            line += "" if cost is None else f"  {name} {cost:.4g} {t.unit}".rstrip()
        lines.append(line + ("  chosen" if t.chosen else ""))
    if not any(t.certified for t in tried):
        lines.append("  none was certified in any of them: the first is tried on val_calib")
    return lines


def asked_of(name: str, question: Question) -> Question:
    """Return the question as a candidate is asked it: sets must promise about what is decided."""
    return with_exits(question) if name == "scrc" else question


def _excluded(
    name: str, question: Question, rows: Evidence, scores: Mapping[str, str | OwnScore]
) -> str:
    risks = {t.risk for t in question.targets}
    plain = question.alone and rows.strata is None
    match name:
        case "two_sided":
            both = question.costs or "error" in risks or (risks & _MISSES and risks & _ALARMS)
            if len(question.classes) != 2 or question.positive is None:
                return "it is for two classes, one of them positive"
            if not both:
                return "with a target on one side only it could call everything one class"
            if scores.get(name) != "msp":
                return "it looks at the probability of the positive class, not at --score"
        case "per_class" if not plain or risks != {"error"}:
            return "it keeps one target, error=RATE, in every class"
        case "per_class" if len(question.classes) == 2:
            return "with two classes two_sided has the same two thresholds"
        case "gate" if name not in scores:
            return "the head has no trained gate"
        case "gate" if question.costs is not None or rows.strata is not None:
            return "it knows neither costs nor groups"
        case "scrc" if not plain or not risks <= {"error", "fnr"}:
            return "it keeps one target, error=RATE or fnr=RATE"
    return ""


def _expected(name: str, found: list[Outcome], unit: str) -> Tried:
    def mean(values: list[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else None

    return Tried(
        name,
        certified=mean([float(o.certified) for o in found]),
        coverage=mean([o.coverage for o in found]),
        cost=mean([o.cost for o in found]),
        computing=mean([o.computing for o in found]),
        unit=unit,
    )


def _loss(tried: Tried) -> tuple[float, float]:
    """What the best one has least of."""
    if tried.cost is not None:
        return tried.cost, 0.0
    return -(tried.coverage or 0.0), tried.computing or 0.0
