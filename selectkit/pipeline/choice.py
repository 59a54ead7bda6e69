"""Which policy to certify: the candidates are tried on val_select, and one goes to val_calib.

Trying them on the calibration split would be choosing the best of several certificates, each of
which may fail. Here every try is a simulation: half of val_select is drawn from as if it were the
calibration split, and the other half says what the policy would accept. Whatever this suggests, the
certificate of the chosen one is as good as if it had been named beforehand.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from selectkit.errors import ConfigError
from selectkit.pipeline.certify import POLICIES, Question, with_exits
from selectkit.pipeline.evidence import Evidence
from selectkit.policies import Guide, OwnScore

Watch = Callable[[int, int, str], None]

DRAWS = 20
MOST_ROWS = 20_000
_MISSES, _ALARMS = {"fnr", "miss_rate"}, {"fpr", "false_alarm"}


@dataclass(frozen=True, slots=True)
class Tried:
    """What is to be expected of one policy.

    Attributes:
        policy: A key of `POLICIES`.
        certified: Share of simulated calibration splits that gave a certificate, or None when the
            policy was not tried.
        coverage: Mean share of images that it would accept, none where nothing was certified.
        cost: Mean cost of an image, or None without costs.
        reason: Why it was not tried.
        chosen: Whether it is the one.
    """

    policy: str
    certified: float | None = None
    coverage: float | None = None
    cost: float | None = None
    reason: str = ""
    chosen: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def choose_policy(
    question: Question,
    rows: Evidence,
    scores: Mapping[str, str | OwnScore],
    units: Guide,
    *,
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
        seed: Of the simulation.
        watch: Called after every simulated certification with the number done, the number there
            will be, and the policy.

    Returns:
        One entry for each key of `POLICIES`, the chosen one among them. Of equal ones the first is
        taken.

    Raises:
        ConfigError: If there is nothing to choose by.
    """
    if any(t.risk == "coverage" for t in question.targets):
        raise ConfigError(
            f"--policy auto chooses by coverage, which {question} fixes. Name a policy."
        )
    if len(units.labels) < 2:
        raise ConfigError("--policy auto needs two images or more in val_select to try policies.")
    entries = {name: _excluded(name, question, rows, scores) for name in POLICIES}
    names = [name for name, reason in entries.items() if not reason]
    done, total = 0, DRAWS * len(names)
    found: dict[str, list[tuple[bool, float, float]]] = {name: [] for name in names}
    for draw, half in enumerate(np.random.SeedSequence(seed).spawn(DRAWS)):
        simulated, other = _simulated(rows, units, np.random.default_rng(half), draw % 2 == 1)
        for name in names:
            found[name].append(_judged(name, question, simulated, other, scores[name]))
            done += 1
            if watch is not None:
                watch(done, total, name)
    tried = [_entry(name, entries[name], found.get(name), question) for name in POLICIES]
    candidates = [t for t in tried if t.coverage is not None]
    best = min(candidates, key=lambda t: _loss(t, question)).policy
    return tuple(Tried(**{**t.to_dict(), "chosen": t.policy == best}) for t in tried)


def table(tried: tuple[Tried, ...]) -> list[str]:
    """Return the candidates as lines for people."""
    if not tried:
        return []
    by_cost = any(t.cost is not None for t in tried)
    lines = [
        f"policies, each tried on {DRAWS} calibration splits simulated from val_select "
        f"({'lower cost' if by_cost else 'higher coverage'} is better):"
    ]
    for t in tried:
        if t.certified is None or t.coverage is None:
            lines.append(f"  {t.policy:<10} not tried: {t.reason}")
            continue
        line = f"  {t.policy:<10} certified {t.certified:4.0%}  coverage {t.coverage:6.1%}"
        line += "" if t.cost is None else f"  cost {t.cost:.4g}"
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


def _simulated(
    rows: Evidence, units: Guide, rng: np.random.Generator, swapped: bool
) -> tuple[Evidence, Guide]:
    """A calibration split drawn from one half of val_select, and the other half."""
    n = len(units.labels)
    order = rng.permutation(n)
    parts = np.sort(order[: n // 2]), np.sort(order[n // 2 :])
    first, other = (units.take(part) for part in (parts[::-1] if swapped else parts))
    drawn = rng.integers(0, len(first.labels), min(len(rows.everyone), MOST_ROWS))
    sample = first.take(drawn)
    names = np.arange(len(drawn)).astype(np.str_)
    drawn_rows = Evidence(sample.outputs, sample.labels, names, names, first, None, sample.groups)
    return drawn_rows, other


def _judged(
    name: str, question: Question, simulated: Evidence, other: Guide, score: str | OwnScore
) -> tuple[bool, float, float]:
    """Whether one simulated split gave a certificate, and the coverage and cost it would bring."""
    policy = POLICIES[name](asked_of(name, question), simulated, score).policy
    decision = policy.decide(other.outputs)
    cost = 0.0
    if question.costs is not None:
        cost = float(question.costs.of(decision, other.labels, question.positive or 0).mean())
    return policy.infeasible is None, float(decision.accepted.mean()), cost


def _entry(
    name: str, reason: str, found: list[tuple[bool, float, float]] | None, question: Question
) -> Tried:
    if not found:
        return Tried(name, reason=reason)
    certified, coverage, cost = np.mean(found, axis=0).tolist()
    return Tried(name, certified, coverage, None if question.costs is None else cost)


def _loss(tried: Tried, question: Question) -> float:
    return tried.cost or 0.0 if question.costs is not None else -(tried.coverage or 0.0)
