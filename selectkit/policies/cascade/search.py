"""Which threshold tuples of a cascade are certified, and what that promises."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.policies.cascade.grid import Grid
from selectkit.policies.cascade.rows import CascadeRows, Measured, StageCosts, measured
from selectkit.policies.constraints import DEFERRAL, Constraint
from selectkit.risk import Certificate, Infeasible, labels_needed
from selectkit.risk.budget import labels_needed_at_rate
from selectkit.risk.certificate import unit
from selectkit.risk.ltt import CertifiedGrid, certify_pvalues, pareto_order, union_pvalues
from selectkit.risk.suffices import verdict_on
from selectkit.stats import binomial_pvalue, clopper_pearson_lower, clopper_pearson_upper

Float64s = npt.NDArray[np.float64]

_METHODS = {
    "fixed_sequence": "Learn-then-Test over threshold tuples, fixed sequence, exact binomial",
    "bonferroni": "Learn-then-Test over threshold tuples, Bonferroni, exact binomial",
}
_ASSUMPTIONS = (
    "the samples to come are drawn independently from the distribution of the calibration split",
    "every stage, its calibrator, the grid of thresholds and the order of the tests were fixed on "
    "other samples",
)


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What was tested, and what came of it.

    Attributes:
        measured: Every tuple on the calibration rows.
        tested: Which are certified.
        order: The tuples that were tested.
        best: The one to use, or None.
        wanted: The constraints.
        delta: Probability with which any certified tuple may break any constraint.
        n: Calibration rows.
    """

    measured: Measured
    tested: CertifiedGrid
    order: npt.NDArray[np.intp]
    best: int | None
    wanted: tuple[Constraint, ...]
    delta: float
    n: int

    def certificates(
        self, place: int, *, split: str | None, grouped: bool
    ) -> tuple[Certificate, ...]:
        """Return what one certified tuple promises, one certificate per constraint."""
        found, delta = self.measured, self.delta
        coverage = float(found.coverage[place])
        return tuple(
            Certificate(
                risk=constraint.risk,
                alpha=constraint.alpha,
                delta=delta,
                kind="pac",
                method=_METHODS[self.tested.procedure],
                threshold=0.0,
                n=int(found.about[r]),
                n_accepted=int(found.accepted[place, r]),
                errors=int(found.errors[place, r]),
                risk_upper=clopper_pearson_upper(found.errors[place, r], found.n[place, r], delta),
                coverage=coverage,
                coverage_lower=clopper_pearson_lower(
                    round(coverage * self.n), self.n, delta / len(self.order)
                ),
                split=split,
                assumptions=_ASSUMPTIONS,
                grouped=grouped,
            )
            for r, constraint in enumerate(self.wanted)
        )

    def infeasible(self) -> Infeasible:
        """Return why nothing is certified: by the tuple that came closest, and its worst rate."""
        place = int(self.order[np.argmin(self.tested.pvalues[self.order])])
        errors, n = self.measured.errors[place], self.measured.n[place]
        p = [binomial_pvalue(errors[r], n[r], c.alpha) for r, c in enumerate(self.wanted)]
        worst = int(np.argmax(p))
        risk, alpha = self.wanted[worst]
        k, m, total = int(errors[worst]), int(n[worst]), int(self.measured.about[worst])
        level = self.delta / (len(self.order) if self.tested.procedure == "bonferroni" else 1)
        verb = "are deferred" if risk == DEFERRAL else "are decided wrongly"
        reason = f"{k} of {m} {unit(risk)} {verb} by the safest thresholds"
        needs = labels_needed_at_rate(alpha, level, k, m) if m else labels_needed(alpha, level)
        if needs is None:
            return Infeasible(
                risk, alpha, self.delta, total, reason + verdict_on(k, m, alpha), None
            )
        if m < labels_needed(alpha, level):
            reason = f"only {m} {unit(risk)} are decided by the safest thresholds (of {total})"
        needs = max(total + 1, ceil(needs * total / max(m, 1)))
        return Infeasible(risk, alpha, self.delta, total, reason, needs)


def searched(
    rows: CascadeRows,
    others: CascadeRows,
    grid: Grid,
    wanted: tuple[Constraint, ...],
    costs: StageCosts,
    positive: int | None,
    delta: float,
    *,
    last_decides: bool,
) -> Search:
    """Test the tuples of a grid.

    Args:
        rows: N calibration rows, with labels.
        others: The rows that the grid comes from; their labels, if there are any, order the tests.
        grid: The thresholds.
        wanted: What to keep.
        costs: What a stage costs.
        positive: Code of the positive class, or None.
        delta: Probability with which any certified tuple may break any constraint.
        last_decides: Whether the last stage decides every row that reaches it.

    Returns:
        What came of it.
    """
    found = measured(rows, grid, wanted, costs, positive)
    by_cost = last_decides or costs.human is not None or wanted[-1].risk == DEFERRAL
    if others.labels is None:
        order = np.arange(len(found.cost), dtype=np.intp)
    else:
        guess = measured(others, grid, wanted, costs, positive)
        expected = _expected_pvalues(guess, wanted, len(rows) / len(others))
        order = pareto_order(expected, _objective(guess, by_cost=by_cost))
    p = np.ones(len(found.cost))
    p[order] = union_pvalues(found.errors[order], found.n[order], [c.alpha for c in wanted])
    tested = certify_pvalues(
        p,
        delta,
        procedure="bonferroni" if others.labels is None else "fixed_sequence",
        order=order,
    )
    best = tested.best(_objective(found, by_cost=by_cost))
    return Search(found, tested, order, best, wanted, delta, len(rows))


def _objective(found: Measured, *, by_cost: bool) -> Float64s:
    """What is to be large: minus the cost, or a rank by coverage and, among equals, minus cost."""
    if by_cost:
        return -found.cost
    both = np.stack([found.coverage, -found.cost], axis=1)
    return np.asarray(np.unique(both, axis=0, return_inverse=True)[1], dtype=np.float64).ravel()


def _expected_pvalues(guess: Measured, wanted: Sequence[Constraint], growth: float) -> Float64s:
    """The p-values to expect from as many rows as will be tested, one more error allowed for."""
    errors = np.ceil((guess.errors + 1) * growth).astype(np.int64)
    n = np.maximum(np.floor(guess.n * growth).astype(np.int64), errors)
    return union_pvalues(errors, n, [c.alpha for c in wanted])
