"""Runs side by side: overlaid curves, their policies, and paired differences."""

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from selectkit.metrics import risk_coverage_curve
from selectkit.report import svg, wording
from selectkit.report.markdown import cell
from selectkit.report.markdown import table as markdown_table
from selectkit.report.model import RunReport
from selectkit.report.page import document
from selectkit.report.wording import percent, prose, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 400
_FIRST = 10  # images decided where a curve starts; before, it jumps with every image


@dataclass(frozen=True)
class Line:
    """One metric of one run against the first run.

    Attributes:
        run: Name of the run.
        metric: Name of the metric.
        value: Its value.
        reference: Its value in the first run.
        difference: value - reference with a paired 95 % interval.
        p: p-value of "no difference", corrected for all lines together; NaN when undefined.
        verdict: "better", "worse" or "not told apart".
    """

    run: str
    metric: str
    value: float
    reference: float
    difference: tuple[float, float, float]
    p: float
    verdict: str


@dataclass(frozen=True)
class Contest:
    """What the page of a comparison shows.

    Attributes:
        names: Names of the runs; the first is the reference.
        reports: What was measured of each, on the same rows.
        n: Test rows.
        lines: Differences from the first run.
        notes: What the reader must know first.
    """

    names: tuple[str, ...]
    reports: tuple[RunReport, ...]
    n: int
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


def curves(contest: Contest) -> svg.Drawing:
    """Draw the risk and the generalized risk of every run against coverage, side by side.

    Args:
        contest: The runs.

    Returns:
        The figure; dots are where the policies work.
    """
    with svg.theme("comparison"):
        from matplotlib.figure import Figure

        rows = -(-len(contest.names) // 4)
        figure = Figure(figsize=(2 * svg.WIDTH, 4.2 + 0.22 * rows), layout="constrained")
        for axes, generalized in zip(figure.subplots(1, 2), (False, True), strict=True):
            _draw(axes, contest, generalized=generalized)
        _legend(figure, columns=4)
        return svg.Drawing("comparison", figure, _alt(contest))


def curve(contest: Contest, *, generalized: bool) -> svg.Drawing:
    """Draw one of the two.

    Args:
        contest: The runs.
        generalized: The generalized risk instead of the risk.

    Returns:
        The figure.
    """
    name = "comparison-generalized" if generalized else "comparison-risk"
    with svg.theme(name):
        from matplotlib.figure import Figure

        rows = -(-len(contest.names) // 2)
        figure = Figure(figsize=(svg.WIDTH, 3.9 + 0.22 * rows), layout="constrained")
        _draw(figure.add_subplot(), contest, generalized=generalized)
        _legend(figure, columns=2)
        return svg.Drawing(name, figure, _alt(contest))


def look(i: int) -> tuple[str, Any]:
    """Return colour and dash of a run's curve; colours come again with other dashes."""
    colours = list(svg.SERIES.values())
    again, k = divmod(i, len(colours))
    return colours[k], svg.DASHES[(k + again) % len(svg.DASHES)]


def _draw(axes: "Axes", contest: Contest, *, generalized: bool) -> None:
    labels = wording.shorten_all(contest.names, 28)
    for i, (label, report) in enumerate(zip(labels, contest.reports, strict=True)):
        colour, dash = look(i)
        found = risk_coverage_curve(report.confidence, ~report.correct)
        last = len(found.coverage) - 1
        first = min(last, int(np.searchsorted(found.coverage, _FIRST / len(report.labels))))
        places = np.unique(np.linspace(first, last, _POINTS).astype(np.int64))
        risk = found.generalized_risk if generalized else found.risk
        axes.plot(found.coverage[places], risk[places], color=colour, linestyle=dash,
                  linewidth=1.8, label=label)  # fmt: skip
        decided, wrong = report.accepted.mean(), (report.accepted & ~report.correct).mean()
        if decided:
            height = wrong if generalized else wrong / decided
            axes.plot([decided], [height], "o", color=colour, markersize=6, clip_on=False)
    title = "Wrong and decided, of all" if generalized else "Error among decided"
    axes.set(xlim=(0, 1), xlabel="Coverage: share decided automatically")
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontsize=10, color=svg.PALETTE["muted"], pad=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda x, _: f"{100 * x:.4g}{wording.UNIT}")


def _legend(figure: "Figure", columns: int) -> None:
    """Names below the axes, where no curve can cross them."""
    lines = figure.axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower left", ncols=columns, frameon=False, fontsize=9.5,
                  handlelength=2.8, borderaxespad=0.2)  # fmt: skip


def render(contest: Contest) -> str:
    """Return the comparison as one self-contained HTML page without a script.

    Args:
        contest: The runs.

    Returns:
        The document.
    """
    return document(
        "Runs compared",
        (
            f'<header><h1>Runs compared</h1><p class="byline">{_about(contest)}</p></header>',
            _notes(contest),
            _table("Policies", "runs", _POLICY_HEADER, _policies(contest), _MEASURED),
            '<div class="figures">'
            + _figure("Risk and coverage", curve(contest, generalized=False))
            + _figure("Generalized risk", curve(contest, generalized=True))
            + "</div>",
            _table(f"Differences from {contest.names[0]}", "differences", _HEADER,
                   _differences(contest), _NOTE),
        ),
    )  # fmt: skip


def markdown(contest: Contest) -> str:
    """Return the comparison as Markdown, without the curves.

    Args:
        contest: The runs.

    Returns:
        The document.
    """
    parts = ["# Runs compared", cell(_about(contest))]
    if contest.notes:
        parts.append("\n".join(f"* {cell(note)}" for note in contest.notes))
    parts += [
        _MEASURED,
        markdown_table(_POLICY_HEADER, _policies(contest)),
        f"## Differences from {cell(contest.names[0])}",
        _NOTE,
        markdown_table(_HEADER, _differences(contest)),
    ]
    return "\n\n".join(parts) + "\n"


_POLICY_HEADER = ["Run", "What is promised", "Decided", "Wrong among decided"]
_MEASURED = (
    "Promises rest on other images (val_calib). The shares decided and wrong are measured here; "
    "they are no promise."
)
_HEADER = [
    *("Run", "Metric", "Value", "First run", "Difference", "95 % interval", "p (Holm)", "Verdict")
]
_NOTE = (
    "Value minus that of the first run, with paired 95 % bootstrap intervals: every run is judged "
    "on the same resamples. An interval is for its line alone; p-values are corrected for all "
    "lines of the table (Holm), and the verdict follows them, so that an interval may exclude 0 "
    "where the runs are not told apart. A run chosen by this table was chosen on the test images: "
    "its figures flatter it from then on."
)


def _about(contest: Contest) -> str:
    return f"{len(contest.names)} runs on the same {contest.n:,} images of val_test"


def _policies(contest: Contest) -> list[list[str]]:
    lines = []
    for name, report in zip(contest.names, contest.reports, strict=True):
        decided, wrong = int(report.accepted.sum()), int((report.accepted & ~report.correct).sum())
        error = "nothing was decided"
        if decided:
            error = f"{percent(wrong / decided)} ({wrong:,} of {decided:,})"
        if decided and report.answers_with_sets:
            error += " by the most probable class of each set"
        if decided and report.active is not None:
            error += f"; 95 % interval {wording.interval(report.active.error, True)}"
        promise = f"{wording.PROMISES[report.promise]}: {report.target}"
        lines.append([name, promise, percent(float(report.accepted.mean())), error])
    return lines


def _differences(contest: Contest) -> list[list[str]]:
    rows = []
    for line in contest.lines:
        label, _, rate = wording.metric(line.metric)
        values = (line.value, line.reference)
        rows.append([
            line.run,
            label + _better(line.metric),
            *("–" if isnan(x) else percent(x) if rate else wording.number(x) for x in values),
            *_signed(line.difference, rate),
            "–" if isnan(line.p) else f"{line.p:.3g}",
            line.verdict,
        ])
    return rows


def _better(metric: str) -> str:
    return ", more is better" if metric in wording.MORE_IS_BETTER else ", less is better"


def _signed(difference: tuple[float, float, float], rate: bool) -> tuple[str, str]:
    """The difference and its interval; of rates in percentage points."""
    value, low, high = (
        "–" if isnan(x) else f"{100 * x:+.2f}" if rate else f"{x:+.4f}" for x in difference
    )
    return value + (
        " points" if rate and value != "–" else ""
    ), "–" if low == "–" else f"{low} to {high}"


def _notes(contest: Contest) -> str:
    if not contest.notes:
        return ""
    items = "".join(f"<li>{prose(note)}</li>" for note in contest.notes)
    return f'<div class="warnings panel"><h2>Before you rely on this</h2><ul>{items}</ul></div>'


def _figure(title: str, drawing: svg.Drawing) -> str:
    return (
        f'<figure class="panel"><figcaption><h2>{title}</h2><p>Dots are where the policies work. '
        f"Curves start at {_FIRST} images.</p></figcaption>{drawing.inline()}</figure>"
    )


def _table(title: str, kind: str, header: list[str], rows: list[list[str]], note: str) -> str:
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = "".join(_row(header, cells) for cells in rows)
    return (
        f'<section><h2>{text(title)}</h2><p class="lead">{prose(note)}</p>'
        f'<div class="scroll panel" role="region" aria-label="{text(title)}" tabindex="0">'
        f'<table class="{kind} stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div></section>"
    )


def _row(header: list[str], cells: list[str]) -> str:
    first, *others = cells
    return (
        f'<tr><th scope="row">{text(first)}</th>'
        + "".join(
            f'<td data-label="{text(name)}">{prose(value)}</td>'
            for name, value in zip(header[1:], others, strict=True)
        )
        + "</tr>"
    )


def _alt(contest: Contest) -> str:
    lines = [
        f"{name}: error {percent(float((~report.correct).mean()))} if everything is decided"
        + (
            f", {percent(float((report.accepted & ~report.correct).sum() / report.accepted.sum()))}"
            f" among the {percent(float(report.accepted.mean()))} that its policy decides."
            if report.accepted.any()
            else "; its policy decides nothing."
        )
        for name, report in zip(contest.names, contest.reports, strict=True)
    ]
    return "Risk and generalized risk against coverage. " + " ".join(lines)
