"""What policies are called in tables and headings: what was asked, what is certified."""

import math
from collections import Counter
from typing import TypeAlias

from selectkit import percent as shares
from selectkit.percent import at_most, confidence
from selectkit.policies import CascadePolicy, Costs, ExitPolicy, ScrcPolicy, Target
from selectkit.policies.words import no_less
from selectkit.report import Promise

Policy: TypeAlias = ExitPolicy | CascadePolicy
"""Any policy of a run; a cascade decides by what several heads say."""

_EACH = {"class": "classes", "group": "groups"}


def delta_of(policy: Policy) -> float:
    """Return the probability with which the policy's promises may fail."""
    return float(policy.to_dict()["delta"])


def targets_of(policy: Policy) -> tuple[Target, ...]:
    """Return what was asked of a policy; nothing when only costs were given."""
    document = policy.to_dict()
    asked = document.get("target", document.get("targets", []))
    several = [asked] if isinstance(asked, dict) else asked
    return tuple(Target(one["risk"], one["alpha"]) for one in several)


def costs_of(policy: Policy) -> Costs | None:
    """Return what mistakes and deferrals cost, where the policy was chosen by that."""
    costs: Costs | None = getattr(policy, "costs", None)
    return costs


def form_of(policy: Policy) -> str:
    """Return the form of a policy: "softmax", "two_sided", "per_class", "gate", ..."""
    return str(getattr(policy, "form", policy.kind))


def name_of(policy: Policy) -> str:
    """Return the name of a policy in tables, for instance "error=0.05" or "gate error=0.05"."""
    parts = [",".join(map(str, targets_of(policy)))]
    if (costs := costs_of(policy)) is not None:
        parts.append(f"least cost {costs}")
    if form_of(policy) != "softmax":
        parts.insert(0, form_of(policy))
    return " ".join(part for part in parts if part)


def bound_of(policy: Policy) -> str:
    """Return in short what a policy certifies."""
    if policy.infeasible is not None:
        return "infeasible"
    costs = costs_of(policy)
    seen = Counter(
        (c.risk, c.alpha, c.kind, None if c.about is None else c.about.partition(" ")[0])
        for c in policy.certificates
        if c.kind != "none"
    )
    lines = []
    for (risk, alpha, kind, about), count in seen.items():
        line = f"{risk.replace('set_', 'set ').replace('_', ' ')} <= {at_most(alpha)}"
        if risk == "cost" and costs is not None:
            line = f"mean cost <= {no_less(alpha * costs.largest)}"
        if about is not None:
            line += f" in each of {count} {_EACH.get(about, about)}"
        lines.append(line + (" on average" if kind == "expectation" else ""))
    return ", ".join(lines) or "nothing"


def asked_of(policy: Policy) -> str:
    """Return what was asked, in words."""
    parts = [_rate(policy, target) for target in targets_of(policy)]
    if isinstance(policy, ScrcPolicy):
        parts.append(f"{percent(policy.xi)} pass the score")
    if (costs := costs_of(policy)) is not None:
        parts.append(f"least mean cost with {costs}")
    asked = " and ".join(parts)
    match promise_of(policy):
        case "pac":
            return f"{asked}, confidence {confidence(delta_of(policy))}"
        case "expectation":
            return f"{asked}, on average"
    return asked


def promise_of(policy: Policy) -> Promise:
    """Return the weakest kind of promise among those that are made."""
    if not policy.certificates:
        return "infeasible"
    kinds = {c.kind for c in policy.certificates}
    order: tuple[Promise, ...] = ("none", "expectation", "pac")
    return next(kind for kind in order if kind in kinds)


def percent(value: float) -> str:
    """Return a rate as text for the terminal."""
    return "-" if math.isnan(value) else shares.percent(value)


def _rate(policy: Policy, target: Target) -> str:
    if target.risk == "coverage":
        return f"coverage of {at_most(target.alpha)}"
    of_sets = "set " if isinstance(policy, ScrcPolicy) and policy.exits == "accepted" else ""
    return f"{of_sets}{target.risk} <= {at_most(target.alpha)}"
