"""Which threshold tuples of a cascade are certified, and what that promises.

Tests go along one sequence, from the tuple that will keep all constraints most surely to the one
that serves best, each with all of delta, until the first failure. A sequence is as good as its
first test: where that fails nothing is certified. How surely a tuple passes is judged by what the
guide leads one to expect (`selectkit.policies.cascade.expected`), not by the errors it counts:
among thousands of tuples the one with the fewest is mostly the luckiest. Nothing of the proof rests
on the guide, which knows no calibration row.

Chosen by how often nothing is certified, on two networks for ImageNet and on drawn and real tables
with noise added for a first stage; none of these is a cascade of benchmarks/exit_policies. Several
starts, each with its share of delta, gave up more often wherever much can be certified; thinner
sequences as often. To expect a stage's errors from what the earlier stages say, too, was no better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from selectkit.policies.cascade.grid import Grid
from selectkit.policies.cascade.rows import (
    CascadeRows,
    JudgedRows,
    Measured,
    StageCosts,
    measured,
)
from selectkit.policies.constraints import DEFERRAL, Constraint
from selectkit.policies.margin import margin
from selectkit.risk import Certificate, Infeasible, labels_needed
from selectkit.risk.budget import labels_needed_at_rate
from selectkit.risk.certificate import unit
from selectkit.risk.ltt import (
    CertifiedGrid,
    Procedure,
    certify_pvalues,
    pareto_order,
    union_pvalues,
)
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
        errors, n = found.counts()
        return tuple(
            Certificate(
                risk=constraint.risk,
                alpha=constraint.alpha,
                delta=delta,
                kind="pac",
                method=_METHODS[self.tested.procedure],
                threshold=0.0,
                n=round(found.about[r]),
                n_accepted=round(found.accepted[place, r]),
                errors=int(errors[place, r]),
                risk_upper=clopper_pearson_upper(errors[place, r], n[place, r], delta),
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
        errors, n = (counts[place] for counts in self.measured.counts())
        p = [binomial_pvalue(errors[r], n[r], c.alpha) for r, c in enumerate(self.wanted)]
        worst = int(np.argmax(p))
        risk, alpha = self.wanted[worst]
        k, m, total = int(errors[worst]), int(n[worst]), round(self.measured.about[worst])
        level = self.delta / (len(self.order) if self.tested.procedure == "bonferroni" else 1)
        verb = "are deferred" if risk == DEFERRAL else "are decided wrongly"
        reason = f"{k} of {m} {unit(risk)} {verb} by the safest thresholds"
        if p[worst] <= level:  # alone it passes; what came before it in the order did not
            reason += ", but thresholds that should have been safer failed"
            level /= 4
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
    guide: JudgedRows | None,
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
        guide: Other rows, which say what to test in which order; None: every tuple is tested, by
            Bonferroni's rule.
        grid: The thresholds, from other rows.
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
    errors, n = found.counts()
    p, alphas = np.ones(len(errors)), [c.alpha for c in wanted]
    order = np.arange(len(p), dtype=np.intp)
    if guide is not None:
        guess = measured(guide, grid, wanted, costs, positive)
        surest = _surest(guess, alphas, len(rows) / len(guide))
        order = pareto_order(-surest, _objective(guess, by_cost=by_cost))
    p[order] = union_pvalues(errors[order], n[order], alphas)
    procedure: Procedure = "bonferroni" if guide is None else "fixed_sequence"
    tested = certify_pvalues(p, delta, procedure=procedure, order=order)
    best = tested.best(_objective(found, by_cost=by_cost))
    return Search(found, tested, order, best, wanted, delta, len(rows))


def _objective(found: Measured, *, by_cost: bool) -> Float64s:
    """What is to be large: minus the cost, or a rank by coverage and, among equals, minus cost."""
    if by_cost:
        return -found.cost
    both = np.stack([found.coverage, -found.cost], axis=1)
    return np.asarray(np.unique(both, axis=0, return_inverse=True)[1], dtype=np.float64).ravel()


def _surest(guess: Measured, alphas: Sequence[float], growth: float) -> Float64s:
    """How surely each tuple will pass the test of all constraints: as the one most in doubt."""
    single = [margin(guess.errors[:, r], guess.n[:, r], a, growth) for r, a in enumerate(alphas)]
    return np.asarray(np.min(single, axis=0))
