"""What a cascade does and promises, in words."""

from collections.abc import Sequence
from decimal import Decimal
from math import inf

from selectkit.percent import confidence, percent
from selectkit.policies.cascade.stage import Stage
from selectkit.risk import Certificate


def rule(stages: Sequence[Stage]) -> str:
    """Return when which stage decides, in one line."""
    parts = []
    for stage in stages:
        if stage.threshold == -inf:
            parts.append(f"{stage.name} decides")
        elif stage.threshold < inf:
            parts.append(f"{stage.name} decides if {stage.score_name} >= {stage.threshold:.6g}")
    line = ", else ".join(parts) or "no stage decides"
    return line if stages[-1].threshold == -inf else f"{line}, else defer"


def promises(certificates: Sequence[Certificate], delta: float) -> tuple[str, ...]:
    """Return the promises: one sentence each, and one that says how they hold together."""
    told = tuple(c.sentence() for c in certificates)
    if len(told) == 1:
        return told
    return (*told, f"All {len(told)} hold together with {confidence(delta)} confidence.")


def about_stages(stages: Sequence[Stage], n: int) -> tuple[str, ...]:
    """Return what each stage sees and how it does on what it is given."""
    told = []
    for before, stage in zip((None, *stages[:-1]), stages, strict=True):
        if not stage.reached:
            told.append(f"{stage.name} sees no row: earlier stages decide all {n:,}.")
            continue
        line = f"{stage.name} decides {stage.decided:,} of the {stage.reached:,} rows that reach it"
        if stage.decided:
            line += f", {_rate(stage.errors, stage.decided)} of them wrongly"
        if before is not None:
            line += (
                f"; over all {n:,} rows it would err in {_rate(stage.errors_everywhere, n)}, but "
                "it only sees what earlier stages pass on"
            )
        told.append(f"{line}.")
    return tuple(told)


def about_cost(
    stages: Sequence[Stage], cost: float, human: float | None, unit: str
) -> tuple[str, ...]:
    """Return what a row costs, and when each stage pays for itself."""
    alone = stages[-1].cost
    last = stages[-1]
    deferred = last.reached - last.decided
    line = f"A row costs {plain(cost)} {unit} on average"
    if deferred and human is None:
        line += ", without what becomes of deferred rows"
    told = [
        f"{line}; {last.name} for every row would cost {plain(alone)} {unit}, before deferrals."
    ]
    for stage in stages[:-1]:
        if stage.pays_below is None:
            continue
        verdict = "pays for itself" if stage.cost < stage.pays_below else "does not pay for itself"
        told.append(
            f"{stage.name} {verdict}: it costs {plain(stage.cost)} {unit} for each row that "
            f"reaches it and saves {plain(stage.pays_below)} {unit} later."
        )
    return tuple(told)


def plain(amount: float) -> str:
    """Return an amount in four digits, as nobody writes 5.471e-05 for 0.00005471."""
    rounded = Decimal(f"{amount:.4g}").normalize()
    return f"{rounded:f}"


def _rate(count: int, n: int) -> str:
    return percent(count / n)
