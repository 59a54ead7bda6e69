"""The answer of `bench policies`: tables, lines, Markdown, picture and JSON."""

from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import numpy as np

from selectkit.percent import percent
from selectkit.pipeline.bench_rows import Float64s
from selectkit.pipeline.bench_splits import Trial
from selectkit.pipeline.bench_stages import Stages
from selectkit.report import markdown, promises
from selectkit.report.svg import Drawing
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper

LEVEL = 0.95
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
KINDS = {"pac": "with confidence", "expectation": "on average", "none": "none"}

Table = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True, slots=True)
class Share:
    """How many of all re-splits broke a promise.

    One that gave no rule broke nothing: it is the share of all re-splits that a promise with
    confidence bounds. Among those that gave a rule it may be anything, up to 1 where the target
    cannot be kept and a rule is an accident.

    Attributes:
        count: Re-splits that broke it.
        n: Re-splits.
        low: Lower end of the 95 % interval of Clopper and Pearson.
        high: Upper end.
    """

    count: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, broken: Float64s) -> "Share":
        """Count; entries of re-splits without a rule are NaN."""
        count, n = int(np.nansum(broken)), len(broken)
        tail = (1 - LEVEL) / 2
        return cls(
            count, n, clopper_pearson_lower(count, n, tail), clopper_pearson_upper(count, n, tail)
        )

    @property
    def rate(self) -> float:
        """Their share."""
        return self.count / self.n


@dataclass(frozen=True, slots=True)
class Standing:
    """One policy and one target, over all re-splits; what cannot be counted is None.

    Attributes:
        target: What was asked for.
        policy: Who answered.
        kind: "pac", "expectation" or "none": what kind of promise was given.
        own: Whether it is a policy of selectkit.
        gave_up: Share of re-splits without a rule; their coverage is 0.
        coverage: Mean accepted share of the test part.
        coverage_quantiles: Its quantiles at `QUANTILES`.
        error: Mean exit error: wrong among accepted rows of the test part.
        fnr: Mean share of missed among its accepted positives.
        risk: Mean risk of the target on all rows; by class that of the worst class.
        slack: Mean reported bound less this risk: how much is left unused.
        broken: Re-splits whose risk on all rows is above the promise.
        broken_test: Re-splits whose risk on the test part is.
        size: Mean number of classes in a prediction set, for policies that answer with sets.
        cost: Mean cost of a row of the test part: by what decisions cost, or what stages do.
        milliseconds: Median processor time of a fit.
    """

    target: str
    policy: str
    kind: str
    own: bool
    gave_up: float
    coverage: float
    coverage_quantiles: tuple[float, ...]
    error: float | None
    fnr: float | None
    risk: float | None
    slack: float | None
    broken: Share
    broken_test: Share
    size: float | None
    cost: float | None
    milliseconds: float

    @classmethod
    def of(cls, target: str, policy: str, kind: str, own: bool, trials: Float64s) -> "Standing":
        """Sum up the trials of one contender, shape (splits, fields of `Trial`)."""
        of = dict(zip(Trial._fields, trials.T, strict=True))
        coverage = of["coverage"]
        return cls(
            target=target,
            policy=policy,
            kind=kind,
            own=own,
            gave_up=float(np.isnan(of["broken"]).mean()),
            coverage=float(coverage.mean()),
            coverage_quantiles=tuple(float(q) for q in np.quantile(coverage, QUANTILES)),
            error=_mean(of["error"]),
            fnr=_mean(of["fnr"]),
            risk=_mean(of["risk"]),
            slack=_mean(of["slack"]),
            broken=Share.of(of["broken"]),
            broken_test=Share.of(of["broken_test"]),
            size=_mean(of["size"]),
            cost=_mean(of["cost"]),
            milliseconds=float(1e3 * np.median(of["seconds"])),
        )

    def refuted(self, delta: float) -> bool:
        """Whether a promise with confidence is broken more often than delta, beyond chance."""
        return self.kind == "pac" and self.broken.low > delta

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        shares = {
            name: {**asdict(share), "rate": share.rate}
            for name, share in (("broken", self.broken), ("broken_test", self.broken_test))
        }
        return {**asdict(self), "coverage_quantiles": list(self.coverage_quantiles), **shares}


@dataclass(frozen=True)
class PolicyBench:
    """Policies beside each other on repeated random re-splits of the same rows.

    Attributes:
        source: Where the rows come from.
        rows: Independent rows.
        n_classes: K.
        n_calib: Rows of the calibration part; the others are the test part.
        splits: Re-splits.
        seed: Their seed.
        delta: Probability with which a promise may fail.
        costs: What decisions cost, or None.
        standings: By target, then policy.
        warnings: What the user should look at.
        stages: What is known of the stages of a cascade, or None.
    """

    source: str
    rows: int
    n_classes: int
    n_calib: int
    splits: int
    seed: int
    delta: float
    costs: str | None
    standings: tuple[Standing, ...]
    warnings: tuple[str, ...]
    stages: Stages | None = None

    @property
    def refuted(self) -> tuple[Standing, ...]:
        """Certified policies of selectkit that broke their promise more often than delta."""
        return tuple(s for s in self.standings if s.own and s.refuted(self.delta))

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, in the order asked."""
        return tuple(dict.fromkeys(s.target for s in self.standings))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "source": self.source,
            "rows": self.rows,
            "classes": self.n_classes,
            "calibration": self.n_calib,
            "splits": self.splits,
            "seed": self.seed,
            "delta": self.delta,
            "cost": self.costs,
            "stages": None if self.stages is None else self.stages.to_dict(),
            "interval": LEVEL,
            "quantiles": list(QUANTILES),
            "kept": not self.refuted,
            "standings": [s.to_dict() for s in self.standings],
            "warnings": list(self.warnings),
        }

    def tables(self) -> list[Table]:
        """Return titles, headers and rows, one table for each target."""
        return [self._table(target) for target in self.targets]

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        test = self.rows - self.n_calib
        return [
            f"{self.splits:,} random re-splits of {self.rows:,} rows ({self.source}): "
            f"{self.n_calib:,} to calibrate, {test:,} to test; a promise may be broken in "
            f"{percent(self.delta)} of re-splits",
            "broken: the risk on all rows, which are the population that calibration rows are "
            "drawn from, is above the promise, as a share of all re-splits (95 % interval); this "
            "is what a promise with confidence is about, and giving up breaks nothing. A promise "
            "on average bounds the mean risk only",
            f"on test: the risk on the {test:,} rows of the test part is above it. A finite test "
            "part adds chance of its own, so this share may exceed delta where the promise holds",
            "coverage, error and cost are means over the test parts; slack is the reported bound "
            "less the risk on all rows",
            *([] if self._priced is None else [self._priced.line()]),
            *(
                f"NOT KEPT: {s.policy} broke {s.target} in {percent(s.broken.rate)} of re-splits, "
                f"at least {percent(s.broken.low)} where {percent(self.delta)} is allowed"
                for s in self.refuted
            ),
        ]

    def document(self, figure: str) -> str:
        """Return the answer as Markdown.

        Args:
            figure: Path of the picture, relative to the document.

        Returns:
            The document.
        """
        parts = ["# Exit policies beside each other"]
        for title, header, rows in self.tables():
            parts += [f"## {markdown.cell(title)}", markdown.table(header, rows)]
        parts += [f"![{markdown.cell(self.drawing().alt)}]({figure})"]
        notes = [*self.lines(), *self.warnings]
        parts += ["\n".join(f"* {markdown.cell(line)}" for line in notes)]
        return "\n\n".join(parts) + "\n"

    def drawing(self) -> Drawing:
        """Return how often promises are broken, and the coverage, of every policy."""
        return promises.broken_and_covered(self.standings, self.delta)

    @property
    def _priced(self) -> Stages | None:
        """The stages, where the cost of a row is that of those that it reaches."""
        known = self.stages is not None and self.stages.priced and self.costs is None
        return self.stages if known else None

    def _table(self, target: str) -> Table:
        rows = [s for s in self.standings if s.target == target]
        cost = "cost" if self._priced is None else f"cost, {self._priced.costs.unit}"
        columns: list[tuple[str, list[str]]] = [
            ("policy", [s.policy for s in rows]),
            ("promise", [KINDS[s.kind] for s in rows]),
            ("gave up", [percent(s.gave_up) for s in rows]),
            ("coverage", [percent(s.coverage) for s in rows]),
            ("exit error", [_share(s.error) for s in rows]),
            ("FNR", [_share(s.fnr) for s in rows]),
            ("risk", [_share(s.risk) for s in rows]),
            ("slack", [_share(s.slack) for s in rows]),
            ("broken", ["-" if s.gave_up == 1 else _interval(s.broken) for s in rows]),
            ("on test", ["-" if s.gave_up == 1 else percent(s.broken_test.rate) for s in rows]),
            ("set size", [_number(s.size) for s in rows]),
            (cost, [_number(s.cost) for s in rows]),
            ("fit, ms", [f"{s.milliseconds:.3g}" for s in rows]),
        ]
        used = [(name, cells) for name, cells in columns if set(cells) != {"-"}]
        return (
            f"{target} at {percent(1 - self.delta)} confidence",
            [name for name, _ in used],
            [list(line) for line in zip(*(cells for _, cells in used), strict=True)],
        )


def _mean(values: Float64s) -> float | None:
    given = values[~np.isnan(values)]
    return float(given.mean()) if given.size else None


def _share(value: float | None) -> str:
    return "-" if value is None or isnan(value) else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _interval(share: Share) -> str:
    return f"{percent(share.rate)} ({100 * share.low:.3g} to {100 * share.high:.3g})"
