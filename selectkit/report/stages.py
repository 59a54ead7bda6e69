"""The section on a cascade: images through its stages, and cost against risk."""

from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np

from selectkit.report import svg, wording
from selectkit.report.model import RunReport
from selectkit.report.parts import Flow, StageRow
from selectkit.report.svg import Drawing
from selectkit.report.wording import percent, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()


def flow(cascade: Flow) -> Drawing:
    """Draw how many images reach each stage, and what becomes of them there.

    Args:
        cascade: The stages.

    Returns:
        The figure: one bar per stage, as long as the number of images that reach it.
    """
    from matplotlib.figure import Figure

    with svg.theme("stages"):
        rows = [*cascade.stages]
        figure = Figure(figsize=(svg.WIDTH, 1.1 + 0.72 * (len(rows) + 1)), layout="constrained")
        axes = figure.add_subplot()
        for place, stage in enumerate(rows):
            right, passed = stage.decided - stage.wrong, stage.reached - stage.decided
            _bar(axes, place, (right, ACCENT, 0.78), (stage.wrong, WRONG, 0.85),
                 (passed, LINE, 1.0))  # fmt: skip
            axes.text(0, place - 0.05, f"{wording.shorten(stage.name, 30)}: {_words(stage)}",
                      va="bottom", fontsize=9.5, color=INK)  # fmt: skip
        end = len(rows)
        _bar(axes, end, (cascade.deferred, MUTED, 0.55))
        axes.text(0, end - 0.05, f"Deferred: {cascade.deferred:,}", va="bottom", fontsize=9.5,
                  color=INK)  # fmt: skip
        axes.set(xlim=(0, cascade.n), ylim=(end + 0.6, -0.45), xlabel="Images")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _counts(axes)
        return Drawing("stages", figure, _alt_flow(cascade))


def front(cascade: Flow) -> Drawing:
    """Draw cost against risk of the thresholds that were tested.

    Args:
        cascade: With at least one point.

    Returns:
        The figure: certified thresholds filled, others empty; the policy marked, on val_calib and
        on the test split.
    """
    from matplotlib.figure import Figure

    with svg.theme("front"):
        figure = Figure(figsize=(svg.WIDTH, 3.7), layout="constrained")
        axes = figure.add_subplot()
        for certified, face in ((False, "none"), (True, ACCENT)):
            points = [p for p in cascade.front if p.certified == certified]
            axes.scatter([p.cost for p in points], [p.risk for p in points], s=16, zorder=3,
                         facecolors=face, edgecolors=ACCENT if certified else MUTED,
                         linewidths=0.8)  # fmt: skip
        axes.axhline(cascade.limit, color=WRONG, linewidth=1.1, linestyle=(0, (5, 3)))
        own = [p for p in cascade.front if p.chosen][:1]
        axes.scatter([p.cost for p in own], [p.risk for p in own], s=90, facecolors="none",
                     edgecolors=INK, linewidths=1.6, zorder=4)  # fmt: skip
        if not any(map(isnan, cascade.measured)):
            axes.plot(*cascade.measured, "x", color=INK, markersize=8, markeredgewidth=2, zorder=5)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.06)
        axes.set_xlabel(f"Mean cost of an image in {cascade.unit}")
        axes.set_title(f"{_risk(cascade)}; dashed: the limit", loc="left", fontsize=10,
                       color=MUTED, pad=8)  # fmt: skip
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}{wording.UNIT}")
        return Drawing("front", figure, _alt_front(cascade))


def section(report: RunReport) -> str:
    """Return the section, or nothing for policies without stages."""
    cascade = report.flow
    if cascade is None:
        return ""
    figures = _figure(
        "Images through the stages",
        "Each bar is as long as the number of images that reach the stage: decided rightly, decided"
        " wrongly (red), passed on (grey).",
        flow(cascade),
    )
    if cascade.front:
        figures += _figure(
            "Cost against risk",
            "Thresholds that were tested on val_calib: filled ones are certified, all at once, so "
            "that any of them may be chosen. The circle is this policy there, the cross is this "
            f"policy on {text(report.split)}.",
            front(cascade),
        )
    head = (
        '<th scope="col">Stage</th><th scope="col">Decides if</th>'
        '<th scope="col" class="number">Cost</th><th scope="col" class="number">Reached by</th>'
        '<th scope="col" class="number">Decides</th>'
        '<th scope="col" class="number">Wrong among these</th>'
    )
    rows = "".join(_row(stage, cascade) for stage in cascade.stages)
    return (
        '<section id="stages"><h2>Stages</h2>'
        f'<p class="lead">{text(_about_cost(cascade))} A later stage only sees what earlier ones '
        "pass on, the hard images: its errors there say nothing about how it does on all.</p>"
        f'<div class="figures">{figures}</div>'
        '<div class="scroll panel" role="region" aria-label="Stages" tabindex="0">'
        f'<table class="stages"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></section>"
    )


def _row(stage: StageRow, cascade: Flow) -> str:
    wrong = "–"
    if stage.decided:
        wrong = (
            f"{percent(stage.error[0])} ({stage.wrong:,} of {stage.decided:,})"
            f'<span class="interval">{wording.interval(stage.error, True)}</span>'
        )
    reached, decided, errors = (
        "" if isnan(share) else f'<span class="interval">val_calib: {percent(share)}</span>'
        for share in stage.before
    )
    return (
        f'<tr><th scope="row">{text(stage.name)}</th>'
        f'<td data-label="Decides if">{text(stage.rule)}</td>'
        f'<td class="number" data-label="Cost">{wording.cost(stage.cost)} {text(cascade.unit)}</td>'
        f'<td class="number" data-label="Reached by">{_share(stage.reached, cascade.n)}'
        f"{reached}</td>"
        f'<td class="number" data-label="Decides">{_share(stage.decided, stage.reached)}'
        f"{decided}</td>"
        f'<td class="number" data-label="Wrong among these"><data value="{stage.error[0]!r}">'
        f"</data>{wrong}{errors}</td></tr>"
    )


def _about_cost(cascade: Flow) -> str:
    value, low, _ = cascade.cost
    mean = f"An image costs {wording.cost(value)} {cascade.unit} on average"
    if not isnan(low):
        mean += f" (95 % interval {wording.cost_interval(cascade.cost)})"
    if cascade.human is not None:
        return f"{mean}, a deferred one {wording.cost(cascade.human)} {cascade.unit} more."
    return f"{mean}, not counting what becomes of deferred images."


def _figure(title: str, caption: str, drawing: Drawing) -> str:
    return (
        f'<figure class="panel"><figcaption><h2>{title}</h2><p>{caption}</p></figcaption>'
        f"{drawing.inline()}</figure>"
    )


def _words(stage: StageRow) -> str:
    if not stage.reached:
        return "no image reaches it"
    error = f", {percent(stage.error[0])} wrong" if stage.decided else ""
    return f"decides {stage.decided:,} of {stage.reached:,}{error}"


def _bar(axes: "Axes", place: int, *parts: tuple[int, str, float]) -> None:
    left = 0
    for count, colour, alpha in parts:
        axes.barh(place, count, 0.5, left=left, align="edge", color=colour, alpha=alpha,
                  linewidth=0)  # fmt: skip
        left += count


def _counts(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis = axes.xaxis
    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _risk(cascade: Flow) -> str:
    names = {
        "error": "Error among decided",
        "fnr": "Missed among decided positives",
        "miss_rate": "Missed among all positives",
        "fpr": "False alarms among decided negatives",
        "false_alarm": "False alarms among all negatives",
        "deferral": "Share deferred",
    }
    return names.get(cascade.risk, cascade.risk)


def _share(count: int, total: int) -> str:
    share = count / total if total else nan
    return f"{percent(share)} ({count:,})"


def _alt_flow(cascade: Flow) -> str:
    parts = [f"{stage.name}: {_words(stage)}" for stage in cascade.stages]
    return f"Of {cascade.n:,} images: {'; '.join(parts)}; deferred: {cascade.deferred:,}."


def _alt_front(cascade: Flow) -> str:
    certified = sum(p.certified for p in cascade.front)
    line = (
        f"Cost against risk of {len(cascade.front)} choices of thresholds on val_calib, "
        f"{certified} of them certified."
    )
    for point in cascade.front:
        if point.chosen:
            line += (
                f" This policy costs {wording.cost(point.cost)} {cascade.unit} at risk "
                f"{percent(point.risk)}."
            )
            break
    if not np.isnan(cascade.measured).any():
        cost, risk = cascade.measured
        line += f" On the test split {wording.cost(cost)} {cascade.unit} at {percent(risk)}."
    return line
