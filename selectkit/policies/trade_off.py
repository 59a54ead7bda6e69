"""What other rules would have done: a table for people, which promises nothing by itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from selectkit.policies.costs import Costs
from selectkit.policies.search import Search
from selectkit.policies.target import POSITIVE_RISKS

_LOWEST = -1e300  # below every score


@dataclass(frozen=True, slots=True)
class TradeOff:
    """One rule on the calibration rows.

    Attributes:
        thresholds: One threshold, or the lower and the upper one.
        coverage: Share of rows accepted.
        risks: Observed rate by name; those without rows to count are left out.
        cost: Mean cost of a row, or None without costs.
        certified: Whether the rule is certified to keep all targets.
        chosen: Whether it is the policy's.
    """

    thresholds: tuple[float, ...]
    coverage: float
    risks: dict[str, float]
    cost: float | None
    certified: bool
    chosen: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, with infinite thresholds as "inf" and "-inf"."""
        ends = [t if np.isfinite(t) else str(t) for t in self.thresholds]
        return {**asdict(self), "thresholds": ends}


def trade_off(
    found: Search, *, positive: int | None, costs: Costs | None, rows: int = 12
) -> tuple[TradeOff, ...]:
    """Return the tested rules by rising coverage, thinned evenly, the chosen one always among them.

    Args:
        found: The search.
        positive: Code of the positive class; without one only the selective error is shown.
        costs: Costs to show.
        rows: Largest number of rules, besides the chosen one.

    Returns:
        The table.
    """
    order = np.argsort(found.tally.coverage, kind="stable")
    shown = np.unique(np.linspace(0, len(order) - 1, min(rows, len(order))).round().astype(int))
    rules = list(order[shown])
    if found.chosen is not None and found.chosen not in rules:
        rules = sorted([*rules, found.chosen], key=lambda j: float(found.tally.coverage[j]))
    mean = None if costs is None else found.tally.cost(costs)
    names = ["error"] if positive is None else ["error", *sorted(POSITIVE_RISKS)]
    counts = {name: found.tally.of(name) for name in names}
    return tuple(
        TradeOff(
            found.rules.thresholds(int(j)),
            float(found.tally.coverage[j]),
            {name: float(k[j] / n[j]) for name, (k, n) in counts.items() if n[j] > 0},
            None if mean is None else float(mean[j]),
            bool(found.certified[j]),
            int(j) == found.chosen,
        )
        for j in rules
    )


def table(rows: Sequence[TradeOff]) -> list[str]:
    """Return the table as aligned lines; an asterisk marks certified rules, an arrow the choice."""
    if not rows:
        return []
    names = sorted({name for row in rows for name in row.risks})
    head = ["", "thresholds", "coverage", *names, *(["cost"] if rows[0].cost is not None else [])]
    body = [
        [
            ("->" if row.chosen else "") + ("*" if row.certified else ""),
            " ".join("lowest" if t < _LOWEST else f"{t:.4g}" for t in row.thresholds),
            f"{row.coverage:.1%}",
            *(f"{row.risks[name]:.2%}" if name in row.risks else "-" for name in names),
            *([] if row.cost is None else [f"{row.cost:.4g}"]),
        ]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return [
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True))
        for line in [head, *body]
    ]
