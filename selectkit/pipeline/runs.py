"""Several runs on the same test rows: paired differences, corrected for their number."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from selectkit import artifact
from selectkit.errors import ConfigError, DataError
from selectkit.location import local_path
from selectkit.metrics import (
    Interval,
    PairedComparison,
    Statistics,
    compare_paired,
    compare_statistics,
    holm,
    label_statistics,
)
from selectkit.percent import percent
from selectkit.pipeline.compare import FEW_ERRORS
from selectkit.pipeline.output_file import require_output
from selectkit.pipeline.ranking import LEVEL
from selectkit.pipeline.report import load_report
from selectkit.pipeline.run import RunDirectory
from selectkit.report import RunReport, contest
from selectkit.report.wording import MORE_IS_BETTER, PROMISES

RANKING = ("augrc", "aurc", "auroc_failure", "risk_at_coverage@0.8", "accuracy")
OPERATING = ("coverage", "error")
METRICS = (*RANKING, *OPERATING)
FORMATS = ("html", "csv", "json", "md", "svg", "png")


@dataclass(frozen=True)
class Difference:
    """One metric of one run against the first run.

    Attributes:
        run: Name of the run.
        metric: Name of the metric.
        value: Its value.
        reference: Its value in the first run.
        difference: value - reference with a paired 95 % interval.
        p: Two-sided bootstrap p-value of "no difference".
        p_holm: The same for all lines of the table together, by Holm's method.
    """

    run: str
    metric: str
    value: float
    reference: float
    difference: Interval
    p: float
    p_holm: float

    def line(self) -> contest.Line:
        """Return the difference as a page shows it."""
        found = self.difference
        ends = (found.value, found.low, found.high)
        return contest.Line(
            self.run, self.metric, self.value, self.reference, ends, self.p_holm, self.verdict
        )

    @property
    def verdict(self) -> str:
        """What may be said about it, at 5 % for the whole table."""
        if not self.p_holm < LEVEL:
            return "not told apart"
        higher = self.metric in MORE_IS_BETTER
        return "better" if (self.difference.value > 0) == higher else "worse"


@dataclass(frozen=True)
class RunComparison:
    """Runs on the same test rows; the first is what the others are compared with.

    Attributes:
        runs: Their names.
        n: Test rows.
        differences: By run, then by metric.
        reports: What was measured of each.
        replicates: Bootstrap replicates.
    """

    runs: tuple[str, ...]
    n: int
    differences: tuple[Difference, ...]
    reports: tuple[RunReport, ...]
    replicates: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is undefined is null."""
        rows = [{**asdict(d), "verdict": d.verdict} for d in self.differences]
        return {
            "split": "val_test",
            "n": self.n,
            "reference": self.runs[0],
            "warnings": list(self.notes()),
            "runs": [_operating(*pair) for pair in zip(self.runs, self.reports, strict=True)],
            "differences": artifact.json_values(rows),
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the paired differences."""
        header = ["run", "metric", "value", f"minus {self.runs[0]}", "95 %", "p (Holm)", "verdict"]
        rows = [
            [
                d.run,
                d.metric,
                f"{d.value:.4f}" if isfinite(d.value) else "-",
                f"{d.difference.value:+.4f}" if isfinite(d.difference.value) else "-",
                _range(d.difference),
                f"{d.p_holm:.3g}" if isfinite(d.p_holm) else "-",
                d.verdict,
            ]
            for d in self.differences
        ]
        return header, rows

    def lines(self) -> list[str]:
        """Return one line per run: what is promised, and what its policy does."""
        return [
            f"{name}: {PROMISES[report.promise].lower()}: {report.target}; {_done(report)}"
            for name, report in zip(self.runs, self.reports, strict=True)
        ]

    def notes(self) -> tuple[str, ...]:
        """Return what the reader must know first."""
        notes = []
        errors = max(int((~report.correct).sum()) for report in self.reports)
        if errors < FEW_ERRORS:
            notes.append(
                f"no run has more than {errors} errors among these {self.n:,} images: too few to "
                "tell runs apart; what differs here may be chance"
            )
        least = 2 * len(self.differences) / (self.replicates + 1)
        if least >= LEVEL:
            enough = math.ceil(2 * len(self.differences) / LEVEL)
            notes.append(
                f"{self.replicates:,} replicates cannot show any of {len(self.differences)} "
                f"differences: no p-value can be below {least:.2g}; ask for --replicates {enough}"
            )
        return tuple(notes)

    def as_bytes(self, form: str) -> bytes:
        """Return the comparison as a file.

        Args:
            form: One of `FORMATS`.

        Returns:
            Its content.
        """
        if form == "json":
            return artifact.canonical_json(self.to_dict()) + b"\n"
        if form == "csv":
            return _csv(self.differences).encode()
        page = contest.Contest(
            self.runs, self.reports, self.n, tuple(d.line() for d in self.differences), self.notes()
        )
        if form in {"svg", "png"}:
            drawing = contest.curves(page)
            return drawing.svg() if form == "svg" else drawing.png()
        return (contest.render(page) if form == "html" else contest.markdown(page)).encode()


def compare_runs(
    runs: Sequence[str | Path], *, replicates: int = 2000, seed: int = 0
) -> RunComparison:
    """Compare evaluated runs with the first of them, on the same test rows.

    Nothing is predicted again: rows come from what `evaluate` left in report.json.

    Args:
        runs: At least two run directories.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap; every difference sees the same resamples.

    Returns:
        The comparison.

    Raises:
        ConfigError: If there are fewer than two runs, or one is named twice.
        ArtifactError: If a run was not evaluated.
        DataError: If two runs were evaluated on different test rows.
    """
    paths = [local_path(run, "a run directory") for run in runs]
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("a comparison needs at least two different runs.")
    loaded = [load_report(RunDirectory.open(path)) for path in paths]
    reports = tuple(report for report, _ in loaded)
    for path, (report, document) in zip(paths, loaded, strict=True):
        same_rows = document["fingerprint"] == loaded[0][1]["fingerprint"]
        if not same_rows or len(report.labels) != len(reports[0].labels):
            raise DataError(
                f"{path} and {paths[0]} were evaluated on different test rows "
                f"({len(report.labels):,} and {len(reports[0].labels):,}): differences would mix "
                "up runs and images. Evaluate both on stores with the same images and split."
            )
    names = _names(paths)
    found = [
        (name, pair)
        for name, report in zip(names[1:], reports[1:], strict=True)
        for pair in _paired(report, reports[0], replicates, seed)
    ]
    together = holm([pair.p_value for _, pair in found])
    differences = tuple(
        Difference(name, pair.metric, pair.a, pair.b, pair.difference, pair.p_value, p)
        for (name, pair), p in zip(found, together, strict=True)
    )
    return RunComparison(names, len(reports[0].labels), differences, reports, replicates)


def require_comparable(run: str | Path, others: Sequence[str]) -> None:
    """Refuse runs that cannot be compared, before the first one is evaluated.

    Args:
        run: The run to be evaluated.
        others: Runs that were.

    Raises:
        ConfigError: If a run is named twice.
        ArtifactError: If one of the others was not evaluated.
    """
    named = [local_path(path, "a run directory").resolve() for path in (run, *others)]
    if len(set(named)) < len(named):
        raise ConfigError("a comparison needs at least two different runs.")
    for path in others:
        load_report(RunDirectory.open(local_path(path, "a run directory")))


def write_comparison(comparison: RunComparison, path: Path) -> None:
    """Write a comparison in the format that the file name ends in.

    Args:
        comparison: The comparison.
        path: Where it goes.

    Raises:
        ConfigError: If the ending is unknown or the folder does not exist.
    """
    require_output(path, "--out", "a comparison", FORMATS)
    artifact.write_bytes(path, comparison.as_bytes(path.suffix.removeprefix(".")))


def _paired(
    report: RunReport, first: RunReport, replicates: int, seed: int
) -> list[PairedComparison]:
    """Every metric of one run against the first: of its scores, and of what its policy decides."""
    ranking = [
        compare_paired(
            metric, report.confidence, ~report.correct, first.confidence, ~first.correct,
            n_replicates=replicates, groups=first.group, rng=np.random.default_rng(seed),
        )
        for metric in RANKING
    ]  # fmt: skip
    policies = compare_statistics(
        _decided(report), _decided(first), n=len(first.labels),
        n_replicates=replicates, groups=first.group, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return [*ranking, *policies.values()]


def _decided(report: RunReport) -> Statistics:
    """Share decided, and errors among them."""
    right = np.ones(len(report.correct), dtype=np.int64)
    return label_statistics(OPERATING, right, report.correct, report.accepted)


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for k in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(p[-k:]) for p in parts)
        if len(set(names)) == len(names):
            break
    return names


def _operating(name: str, report: RunReport) -> dict[str, Any]:
    accepted = int(report.accepted.sum())
    wrong = int((report.accepted & ~report.correct).sum())
    return {
        "run": name,
        "promise": report.promise,
        "target": report.target,
        "accepted": accepted,
        "wrong": wrong,
    }


def _csv(differences: Sequence[Difference]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run", "metric", "value", "reference", "difference", "low", "high", "p", "p_holm",
         "verdict"]
    )  # fmt: skip
    for d in differences:
        ends = (d.difference.value, d.difference.low, d.difference.high)
        numbers = [repr(x) if isfinite(x) else "" for x in (
            d.value, d.reference, *ends, d.p, d.p_holm)]  # fmt: skip
        writer.writerow([d.run, d.metric, *numbers, d.verdict])
    return text.getvalue()


def _done(report: RunReport) -> str:
    """What a policy did with the test rows, in words."""
    decided, wrong = report.accepted.sum(), (report.accepted & ~report.correct).sum()
    if not decided:
        return "decides nothing"
    of_sets = " by the most probable class of each set" if report.answers_with_sets else ""
    share = percent(float(decided) / len(report.accepted))
    return f"decides {share}, {wrong:,} of {decided:,} wrong{of_sets}"


def _range(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}" if isfinite(interval.low) else "-"
