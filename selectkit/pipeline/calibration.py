"""The answer of `calibrate`: a policy, or the reason why everything must be deferred."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selectkit.calibrate import Calibrator
from selectkit.percent import percent
from selectkit.pipeline.calibrators import FittedCalibrator
from selectkit.pipeline.choice import Tried
from selectkit.pipeline.choice import table as choice_table
from selectkit.policies import CascadePolicy, Costs, ExitPolicy, Targets
from selectkit.policies.trade_off import TradeOff
from selectkit.policies.trade_off import table as trade_off_table


@dataclass(frozen=True)
class Calibration:
    """The answer of `calibrate`.

    Attributes:
        run: The run directory; of a cascade the first.
        targets: What was asked; empty when only costs were given.
        delta: Probability with which any of the promises may fail.
        fit: The fitted probability calibrator, and the others that were tried.
        policy: The policy that was found; it defers everything when the question is infeasible.
        kept: True when it is infeasible and the run keeps the feasible policy it had.
        warnings: What the user should look at.
        costs: What the policy was chosen by; None: by its coverage.
        trade_off: What other rules would have done on the calibration rows.
        tried: The policies that were tried on val_select, when one was to be chosen.
        coverage: Share of val_calib that the policy accepts, one image of each group.
    """

    run: Path
    targets: Targets
    delta: float
    fit: FittedCalibrator
    policy: ExitPolicy | CascadePolicy
    kept: bool
    warnings: tuple[str, ...]
    costs: Costs | None = None
    trade_off: tuple[TradeOff, ...] = ()
    tried: tuple[Tried, ...] = ()
    coverage: float = 0.0

    @property
    def calibrator(self) -> Calibrator:
        """The fitted probability calibrator."""
        return self.fit.calibrator

    @property
    def feasible(self) -> bool:
        """Whether the policy promises what was asked."""
        return self.policy.infeasible is None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "run": str(self.run),
            "feasible": self.feasible,
            "target": str(self.targets),
            "costs": None if self.costs is None else self.costs.to_dict(),
            "delta": self.delta,
            "coverage": self.coverage,
            "calibrator": self.calibrator.to_dict(),
            "candidates": [candidate.to_dict() for candidate in self.fit.candidates],
            "policies": [tried.to_dict() for tried in self.tried],
            "policy": self.policy.to_dict(),
            "promises": list(self.policy.sentences()),
            "rule": self.policy.rule(),
            "trade_off": [row.to_dict() for row in self.trade_off],
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        before = [*self.fit.table(), *choice_table(self.tried)]
        if self.trade_off and self.costs is not None:
            marks = "* certified, -> chosen" if self.targets else "-> chosen"
            before += [
                f"what thresholds do on val_calib ({marks}):",
                *(f"  {line}" for line in trade_off_table(self.trade_off)),
            ]
        if not self.feasible:
            then = "keeps the policy it had" if self.kept else "defers everything"
            return [*before, *self.policy.sentences(), f"{self.run} {then}"]
        return [
            *before,
            *self.policy.sentences(),
            f"{self.policy.rule()}: {percent(self.coverage)} of val_calib",
            f"next: selectkit evaluate {self.run}",
        ]
