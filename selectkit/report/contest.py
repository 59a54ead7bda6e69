"""Runs side by side: overlaid curves, their policies, and paired differences."""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np

from selectkit.metrics import risk_coverage_curve
from selectkit.report import svg, wording
from selectkit.report.markdown import cell
from selectkit.report.markdown import table as markdown_table
from selectkit.report.model import RunReport
from selectkit.report.page import document
from selectkit.report.wording import percent, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 400


@dataclass(frozen=True)
class Contest:
    """What the page of a comparison shows.

    Attributes:
        names: Names of the runs; the first is the reference.
        reports: What was measured of each, on the same rows.
        n: Test rows.
        header: Of the table of differences.
        rows: Its cells.
    """

    names: tuple[str, ...]
    reports: tuple[RunReport, ...]
    n: int
    header: list[str]
    rows: list[list[str]]


def curves(contest: Contest) -> svg.Drawing:
    """Draw the risk and the generalized risk of every run against coverage, side by side.

    Args:
        contest: The runs.

    Returns:
        The figure; dots are where the policies work.
    """
    with svg.theme("comparison"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2 * svg.WIDTH, 4.2), layout="constrained")
        for axes, generalized in zip(figure.subplots(1, 2), (False, True), strict=True):
            _draw(axes, contest, generalized=generalized)
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

        figure = Figure(figsize=(svg.WIDTH, 3.9), layout="constrained")
        _draw(figure.add_subplot(), contest, generalized=generalized)
        return svg.Drawing(name, figure, _alt(contest))


def _draw(axes: "Axes", contest: Contest, *, generalized: bool) -> None:
    looks = islice(cycle(zip(svg.SERIES.values(), svg.DASHES, strict=True)), len(contest.names))
    for name, report, (colour, dash) in zip(contest.names, contest.reports, looks, strict=True):
        found = risk_coverage_curve(report.confidence, ~report.correct)
        places = np.unique(np.linspace(0, len(found.coverage) - 1, _POINTS).astype(np.int64))
        risk = found.generalized_risk if generalized else found.risk
        label = wording.shorten(name, 28)
        axes.plot(found.coverage[places], risk[places], color=colour, linestyle=dash,
                  linewidth=1.8, label=label)  # fmt: skip
        decided, wrong = report.accepted.mean(), (report.accepted & ~report.correct).mean()
        if decided:
            height = wrong if generalized else wrong / decided
            axes.plot([decided], [height], "o", color=colour, markersize=6, clip_on=False)
    title = "Wrong and decided, of all" if generalized else "Error among accepted"
    axes.set(xlim=(0, 1), xlabel="Coverage: share decided automatically")
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontsize=10, color=svg.PALETTE["muted"], pad=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda x, _: f"{100 * x:.4g}{wording.UNIT}")
    axes.legend(loc="upper left", frameon=False, fontsize=9.5, handlelength=2.8)


def render(contest: Contest) -> str:
    """Return the comparison as one self-contained HTML page without a script.

    Args:
        contest: The runs.

    Returns:
        The document.
    """
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in contest.header)
    rows = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(value)}</td>" for value in row[1:])
        + "</tr>"
        for row in contest.rows
    )
    policies = "".join(
        f'<tr><th scope="row">{text(line[0])}</th>'
        + "".join(f"<td>{text(value)}</td>" for value in line[1:])
        + "</tr>"
        for line in _policies(contest)
    )
    names = "".join(f'<th scope="col">{name}</th>' for name in _POLICY_HEADER)
    return document(
        "Runs compared",
        (
            f'<header><h1>Runs compared</h1><p class="byline">{_about(contest)}</p></header>',
            _wide("Policies", names, policies),
            '<div class="figures">'
            + _figure("Risk and coverage", curve(contest, generalized=False))
            + _figure("Generalized risk", curve(contest, generalized=True))
            + "</div>",
            _wide(f"Differences from {text(contest.names[0])}", head, rows, _NOTE),
        ),
    )


def markdown(contest: Contest) -> str:
    """Return the comparison as Markdown, without the curves.

    Args:
        contest: The runs.

    Returns:
        The document.
    """
    parts = [
        "# Runs compared",
        cell(_about(contest)),
        markdown_table(_POLICY_HEADER, _policies(contest)),
        f"## Differences from {cell(contest.names[0])}",
        _NOTE,
        markdown_table(contest.header, contest.rows),
    ]
    return "\n\n".join(parts) + "\n"


_POLICY_HEADER = ["Run", "Target", "Decided", "Wrong among decided"]
_NOTE = (
    "Paired 95 % bootstrap intervals: every run is judged on the same resamples. p-values are "
    "corrected for all lines of the table (Holm). A run chosen by this table was chosen on the "
    "test images: its figures flatter it from then on."
)


def _about(contest: Contest) -> str:
    return f"{len(contest.names)} runs on the same {contest.n:,} images of val_test"


def _policies(contest: Contest) -> list[list[str]]:
    lines = []
    for name, report in zip(contest.names, contest.reports, strict=True):
        decided, wrong = report.accepted.sum(), (report.accepted & ~report.correct).sum()
        share = wrong / decided if decided else float("nan")
        error = f"{percent(float(share))} ({wrong:,} of {decided:,})"
        if report.answers_with_sets:
            error += " by the most probable class of each set"
        lines.append([name, report.target, percent(float(report.accepted.mean())), error])
    return lines


def _figure(title: str, drawing: svg.Drawing) -> str:
    return (
        f'<figure class="panel"><figcaption><h2>{title}</h2><p>Dots are where the policies work.'
        f"</p></figcaption>{drawing.inline()}</figure>"
    )


def _wide(title: str, head: str, rows: str, note: str = "") -> str:
    lead = f'<p class="lead">{note}</p>' if note else ""
    return (
        f"<section><h2>{title}</h2>{lead}"
        f'<div class="scroll panel" role="region" aria-label="{title}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _alt(contest: Contest) -> str:
    lines = [
        f"{name}: error {percent(float((~report.correct).mean()))} if everything is decided."
        for name, report in zip(contest.names, contest.reports, strict=True)
    ]
    return "Risk and generalized risk against coverage. " + " ".join(lines)
