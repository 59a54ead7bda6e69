"""The answer of `plan`: its tables, lines, picture and JSON."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from selectkit.pipeline.plan_budget import Budget, PowerCurve, sparkline
from selectkit.policies import Target
from selectkit.report import planning
from selectkit.report.svg import Drawing
from selectkit.risk import labels_needed
from selectkit.risk.plan_forecast import Forecast

EVIDENCE = {
    "error": "decided images",
    "fnr": "decided positives",
    "miss_rate": "positives",
    "fpr": "decided negatives",
    "false_alarm": "negatives",
}
"""What can be promised, and what each promise rests on."""
SURE = 0.95

Table = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True)
class Plan:
    """How many labels a promise takes.

    Attributes:
        target: What is to be promised.
        delta: Probability with which the promise may fail.
        share: Share of independent images that are evidence; None when it is not known.
        fractions: Shares of val_calib and val_test.
        budget: What each promise needs.
        curves: How likely certification succeeds, by true rate; empty with a run.
        run: The run whose scores were used, or None.
        judged_by: What decides there.
        forecasts: What to expect of numbers of images, with a run.
        warnings: What the user should look at.
    """

    target: Target
    delta: float
    share: float | None
    fractions: tuple[float, float]
    budget: tuple[Budget, ...]
    curves: tuple[PowerCurve, ...]
    run: Path | None
    judged_by: str
    forecasts: tuple[Forecast, ...]
    warnings: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether some number of labels gives the promise a chance."""
        if self.run is not None:
            return any(f.feasible for f in self.forecasts)
        return any(any(n is not None for n in c.needed.values()) for c in self.curves)

    @property
    def evidence(self) -> str:
        """What the promise rests on."""
        return EVIDENCE[self.target.risk]

    @property
    def unit(self) -> str:
        """What the curves count."""
        return self.evidence if self.share is None else "images in val_calib"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "target": str(self.target),
            "delta": self.delta,
            "feasible": self.feasible,
            "evidence": self.evidence,
            "share": self.share,
            "fractions": {"val_calib": self.fractions[0], "val_test": self.fractions[1]},
            "sure": SURE,
            "budget": [b.to_dict() for b in self.budget],
            "power": {"unit": self.unit, "curves": [c.to_dict() for c in self.curves]},
            "run": None if self.run is None else str(self.run),
            "judged_by": self.judged_by or None,
            "forecasts": [f.to_dict() for f in self.forecasts],
            "warnings": list(self.warnings),
        }

    def tables(self) -> list[Table]:
        """Return titles, headers and rows."""
        named = f"{self.target.risk} <= {_percent(self.target.alpha)}"
        known = self.share is not None
        header = ["promise", f"{self.evidence}", *(["val_calib", "in all", "for val_test"] * known)]
        rows = [
            [b.promise, f"{b.evidence:,}"]
            + [f"{n:,}" if n else "-" for n in (b.calib, b.labelled, b.verified)] * known
            for b in self.budget
        ]
        tables = [(f"Labels that {named} takes", header, rows)]
        if self.curves:
            tables += [self._chances(), self._levels()]
        if self.forecasts:
            tables.insert(0, self._expected())
        return tables

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        lines = [] if self.run is None else [f"judged by {self.judged_by}", *self._in_short()]
        if not self.feasible:
            lines.append(self._hopeless())
        if self.share is None:
            lines.append("--prevalence, the share of positives, turns these into images")
        else:
            calib, test = map(_percent, self.fractions)
            lines += [
                f"val_calib: so many images hold enough {self.evidence} with {_percent(SURE)} "
                f"probability, at {_percent(self.share)} of all",
                f"in all, for val_test: {calib} of the images are in val_calib, {test} in val_test",
                "images of one group (site, video) count as one",
            ]
        if self.run is None and self.feasible:
            lines.append(f"next: selectkit plan RUN --target {self.target}, for the coverage to "
                         "expect of your own scores")  # fmt: skip
        return lines

    def drawing(self) -> Drawing:
        """Return the power curves, or with a run the coverage to expect."""
        promise = (
            f"{self.target.risk} \u2264 {_percent(self.target.alpha)} at "
            f"{_percent(1 - self.delta)} confidence"
        )
        if self.forecasts:
            return planning.expected(self.forecasts, promise)
        lines = [planning.Power(_percent(c.true_rate), c.n, c.chance) for c in self.curves]
        return planning.power(lines, promise, self.unit)

    def _chances(self) -> Table:
        title = "Chance of a certificate, by true rate"
        header = [self.unit, *(_percent(c.true_rate) for c in self.curves)]
        rows = [
            [f"{n:,}", *(f"{c.at[i]:.0%}" for c in self.curves)]
            for i, n in enumerate(self.curves[0].numbers)
        ]
        return title, header, rows

    def _expected(self) -> Table:
        title = f"To expect of {self.target}, by val_select"
        header = ["val_calib", "in all", "INFEASIBLE", "decided", "if certified", "5 % to 95 %"]
        rows = []
        for f in self.forecasts:
            certified = ["-", "-"]
            if f.mean is not None and f.low is not None and f.high is not None:
                certified = [f"{f.mean:.1%}", f"{f.low:.1%} to {f.high:.1%}"]
            total = ceil(f.n / self.fractions[0])
            row = [f"{f.n:,}", f"{total:,}", f"{f.infeasible:.0%}", f"{f.expected:.1%}"]
            rows.append([*row, *certified])
        return title, header, rows

    def _in_short(self) -> list[str]:
        found = [f for f in self.forecasts if f.infeasible <= 0.05]
        if not found:
            return []
        f = found[0]
        line = (
            f"with {f.n:,} labelled images in val_calib you can expect to decide {f.mean:.0%} "
            f"({f.low:.0%} to {f.high:.0%}) automatically"
        )
        before = [g for g in self.forecasts if g.n < f.n and g.infeasible > 0.05]
        if before:
            line += (
                f"; with {before[-1].n:,} it is INFEASIBLE {before[-1].infeasible:.0%} of the time"
            )
        return [line]

    def _levels(self) -> Table:
        """Where each chance is reached, and all chances as bars."""
        levels = list(self.curves[0].needed)
        title = f"{self.unit[0].upper()}{self.unit[1:]} for a chance of"
        title += "" if self.share is None else " (images in all)"
        n = self.curves[0].n
        header = ["true rate", *map(_percent, levels), f"{n[0]:,} to {n[-1]:,}"]
        rows = [
            [_percent(c.true_rate), *(c.reached(level) for level in levels), sparkline(c.chance)]
            for c in self.curves
        ]
        return title, header, rows

    def _hopeless(self) -> str:
        if self.run is not None:
            last = self.forecasts[-1]
            line = (
                f"INFEASIBLE: {self.target} was not certified in any of {last.draws} draws of up "
                f"to {last.n:,} images"
            )
            needed = labels_needed(self.target.alpha, self.delta)
            if last.n * (self.share or 1.0) < 2 * needed:
                return f"{line}; it takes at least {needed:,} {self.evidence}"
            line += ": as far as val_select shows"
            return f"{line}, with these scores no number of labels will do"
        rate = self.curves[0].true_rate
        if rate >= self.target.alpha:
            return (
                f"INFEASIBLE: no number of labels will do, because the true rate "
                f"{_percent(rate)} is not below {_percent(self.target.alpha)}"
            )
        return (
            f"INFEASIBLE: a true rate of {_percent(rate)} is so near to "
            f"{_percent(self.target.alpha)} that no practical number of labels will do"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
