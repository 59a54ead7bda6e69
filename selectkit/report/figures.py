"""The figures of the report: each function draws one."""

from typing import TYPE_CHECKING

import numpy as np

from selectkit.arrays import Bools, Floats, Ints
from selectkit.report import alt, svg, wording
from selectkit.report.model import Curve, Reliability
from selectkit.report.svg import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()
HEIGHT = 3.9  # inches
NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0)


def risk_coverage(curve: Curve) -> Drawing:
    """Draw risk against coverage: the curve, its 95 % band, the target and the working point.

    Args:
        curve: The curve over the test split.

    Returns:
        The figure.
    """
    with svg.theme("risk-coverage"):
        figure, axes = _canvas(HEIGHT)
        top = _risk_ceiling(curve)
        axes.fill_between(
            curve.coverage, curve.low, curve.high, color=ACCENT, alpha=0.16, linewidth=0
        )
        axes.plot(curve.coverage, curve.risk, color=ACCENT, linewidth=1.8)
        _percent_axis(axes, "x")
        axes.set(xlim=(0, 1), ylim=(0, top), xlabel="Coverage: share decided automatically")
        axes.set_title(curve.label, loc="left", fontsize=10, color=MUTED, pad=10)
        if curve.limit is not None and curve.limit <= top:
            _target_line(axes, curve.limit)
        if curve.point is not None:
            coverage, risk = curve.point
            words = f"● {wording.percent(risk)} at {wording.percent(coverage)} decided"
            _working_point(axes, coverage, risk, words)
        _percent_axis(axes, "y")
        return Drawing("risk-coverage", figure, alt.risk_coverage(curve))


def generalized(curve: Curve, area: float) -> Drawing:
    """Draw the generalized risk against coverage: wrong and decided, of all.

    At a fixed coverage c it is c times the risk among the accepted, and so is its band.

    Args:
        curve: The curve over the test split.
        area: AUGRC; NaN to leave it out.

    Returns:
        The figure.
    """
    with svg.theme("generalized"):
        figure, axes = _canvas(HEIGHT)
        c = np.append(0.0, curve.coverage)
        risk, low, high = (
            np.append(0.0, curve.coverage * r) for r in (curve.risk, curve.low, curve.high)
        )
        axes.fill_between(c, low, high, color=ACCENT, alpha=0.16, linewidth=0)
        axes.plot(c, risk, color=ACCENT, linewidth=1.8)
        _percent_axis(axes, "x")
        top = max(0.01, float(np.nanmax(high, initial=0.0)), float(np.nanmax(risk)))
        axes.set(xlim=(0, 1), ylim=(0, min(1.0, 1.12 * top)))
        axes.set_xlabel("Coverage: share decided automatically")
        name = "" if np.isnan(area) else f"; AUGRC {wording.number(area)}"
        axes.set_title(
            f"Wrong and decided, of all{name}", loc="left", fontsize=10, color=MUTED, pad=10
        )
        if curve.point is not None:
            share, error = curve.point
            _working_point(axes, share, share * error, "")
        _percent_axis(axes, "y")
        return Drawing("generalized", figure, alt.generalized(curve, area))


def reliability(bins: Reliability) -> Drawing:
    """Draw the reliability diagram: accuracy per bin, gaps, the smooth curve, and the bin counts.

    Args:
        bins: The reliability bins over the test split.

    Returns:
        The figure.
    """
    with svg.theme("reliability"):
        figure, (axes, below) = _two_panels(HEIGHT, (3.6, 1.0))
        full = np.flatnonzero(bins.count > 0)
        left, width = bins.low[full], (bins.high - bins.low)[full]
        said, was = bins.confidence[full], bins.accuracy[full]
        _bars(axes, left, np.minimum(said, was), width, ACCENT)
        _bars(axes, left, abs(said - was), width, WRONG, base=np.minimum(said, was))
        axes.hlines(was, left, left + width, color=INK, linewidth=1.8)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (3, 3)))
        if bins.smooth is not None:
            axes.plot(*bins.smooth, color=INK, linewidth=2.2)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_title("Share that was right", loc="left", fontsize=10, color=MUTED, pad=8)
        _bars(below, left, bins.count[full], width, MUTED)
        below.set_title("Images per bin", loc="left", fontsize=10, color=MUTED, pad=5)
        below.set_xlabel("Probability given to the predicted class")
        _count_axis(below)
        _percent_axis(axes, "y")
        _percent_axis(below, "x")
        return Drawing("reliability", figure, alt.reliability(bins))


def scores(
    confidence: Floats, correct: Bools, accepted: Bools, threshold: float, score: str
) -> Drawing:
    """Draw how the score is distributed over right and over wrong predictions.

    Args:
        confidence: Shape (N,); infinite scores are left out of the picture.
        correct: Shape (N,).
        accepted: Shape (N,).
        threshold: Accept iff confidence >= threshold; drawn when finite.
        score: Name of the score.

    Returns:
        The figure.
    """
    with svg.theme("scores"):
        figure, panels = _two_panels(HEIGHT, (1.0, 1.0))
        stretched = _is_crowded(confidence)
        place = _nines if stretched else np.asarray
        edges = _score_edges(place(confidence), place(np.array(threshold)))
        groups = (("Right", correct, ACCENT), ("Wrong", ~correct, WRONG))
        for axes, (name, group, colour) in zip(panels, groups, strict=True):
            values = confidence[group & np.isfinite(confidence)]
            counts, _ = np.histogram(place(values), edges)
            _bars(axes, edges[:-1], counts, np.diff(edges), colour)
            title = f"{name}: {(group & accepted).sum():,} decided, "
            title += f"{(group & ~accepted).sum():,} deferred"
            axes.set_title(title, loc="left", fontsize=10, color=colour, pad=6)
            _count_axis(axes)
            axes.set_xlim(edges[0], edges[-1])
            if np.isfinite(threshold):
                axes.axvline(float(place(np.array(threshold))), color=INK, linewidth=1.3)
        if stretched:
            ticks = [t for t in NINES if edges[0] <= _nines(np.array(t)) <= edges[-1]]
            panels[1].set_xticks(
                [float(_nines(np.array(t))) for t in ticks], [f"{t:g}" for t in ticks]
            )
        panels[1].set_xlabel(
            f"Score: {score}" + (", axis stretched towards 1" if stretched else "")
        )
        return Drawing("scores", figure, alt.scores(correct, accepted, threshold))


def confusion(matrix: Ints, classes: tuple[str, ...]) -> Drawing:
    """Draw the confusion matrix of the accepted samples as a heat map.

    Each row is shaded by its shares: right answers in one colour, mistakes in another on a square
    root scale, so that rare mistakes stay visible. Counts are printed when K <= 12.

    Args:
        matrix: Shape (K, K); rows are true classes, columns predicted ones.
        classes: K class names.

    Returns:
        The figure.
    """
    k = len(classes)
    with svg.theme("confusion"):
        figure, axes = _canvas(HEIGHT)
        _heat(axes, matrix)
        axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5))
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        axes.tick_params(length=0)
        _class_ticks(axes, classes)
        if k <= 12:
            _print_counts(axes, matrix)
        return Drawing("confusion", figure, alt.confusion(matrix, classes))


def _canvas(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(svg.WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _two_panels(height: float, ratios: tuple[float, float]) -> "tuple[Figure, tuple[Axes, Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(svg.WIDTH, height), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    return figure, (above, below)


def _bars(
    axes: "Axes",
    left: Floats,
    height: Floats | Ints,
    width: Floats,
    color: str,
    base: Floats | float = 0.0,
) -> None:
    axes.bar(
        left,
        height,
        width,
        base,
        align="edge",
        color=color,
        alpha=0.78,
        edgecolor=PAPER,
        linewidth=0.6,
    )


def _percent_axis(axes: "Axes", which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda share, _: f"{100 * share:.4g}{wording.UNIT}")


def _count_axis(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))


def _risk_ceiling(curve: Curve) -> float:
    """Top of the axis: what is drawn beyond 10 % coverage, the target and the point fit below."""
    usual = curve.coverage >= 0.1
    heights = [0.01, float(np.nanmax(curve.risk, initial=0.0))]
    heights += [float(np.nanmax(curve.high[usual], initial=0.0))]
    heights += [1.6 * curve.limit] if curve.limit is not None else []
    return min(1.0, 1.12 * max(heights))


def _target_line(axes: "Axes", limit: float) -> None:
    axes.axhline(limit, color=WRONG, linewidth=1.1, linestyle=(0, (5, 3)))
    words = f"target\n{wording.percent(limit)}"
    axes.annotate(words, (1, limit), (9, 0), textcoords="offset points", va="center", color=WRONG)


def _working_point(axes: "Axes", coverage: float, risk: float, words: str) -> None:
    """The point, its foot, and its numbers above the axes, where no line can cross them."""
    axes.plot([coverage], [risk], "o", color=INK, markersize=7, clip_on=False, zorder=5)
    axes.vlines(coverage, 0, risk, color=INK, linewidth=0.8)
    axes.set_title(words, loc="right", fontsize=10, color=INK, pad=10)


def _is_crowded(confidence: Floats) -> bool:
    """Whether the scores are probabilities of which at least half exceed 0.9."""
    finite = confidence[np.isfinite(confidence)]
    if not finite.size or finite.min() < 0 or finite.max() > 1:
        return False
    return bool(np.median(finite) > 0.9)


def _nines(confidence: Floats) -> Floats:
    """Place 0, 0.9, 0.99, 0.999, ... at equal distances; what is beyond 0.99999 is put there."""
    return np.asarray(-np.log10(np.maximum(1 - np.asarray(confidence), 1e-5)))


def _score_edges(confidence: Floats, threshold: Floats) -> Floats:
    finite = confidence[np.isfinite(confidence)]
    values = np.append(finite, threshold) if np.isfinite(threshold) else finite
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 41)


def _heat(axes: "Axes", matrix: Ints) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    rows, columns = np.nonzero(matrix)
    colours = np.empty((len(rows), 4))
    right = rows == columns
    colours[right, :3], colours[~right, :3] = to_rgb(ACCENT), to_rgb(WRONG)
    colours[:, 3] = _shade(matrix)[rows, columns]
    cells = [Rectangle((j - 0.5, i - 0.5), 1, 1) for i, j in zip(rows, columns, strict=True)]
    axes.add_collection(PatchCollection(cells, facecolors=colours, linewidths=0))
    if len(matrix) <= 30:
        edges = np.arange(len(matrix) + 1) - 0.5
        axes.hlines(edges, -0.5, len(matrix) - 0.5, color=LINE, linewidth=0.6)
        axes.vlines(edges, -0.5, len(matrix) - 0.5, color=LINE, linewidth=0.6)
    axes.spines[:].set(visible=True, color=LINE)


def _shade(matrix: Ints) -> Floats:
    """Opacity per cell; at most 0.5 where counts are printed, so they stay readable."""
    span = 0.38 if len(matrix) <= 12 else 0.8
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    off = share * (1 - np.eye(len(matrix)))
    mistakes = np.sqrt(off / max(float(off.max()), 1e-12))
    return np.asarray(0.12 + span * np.where(np.eye(len(matrix)) > 0, share, mistakes))


def _class_ticks(axes: "Axes", classes: tuple[str, ...]) -> None:
    k = len(classes)
    step = -(-k // 20)  # more names would run into each other
    places = list(range(0, k, step))
    names = wording.shorten_all([classes[i] for i in places], 16)
    wide = k > 3 and any(len(name) > 3 for name in names)
    axes.set_xticks(places, names, rotation=90 if wide else 0, fontsize=9)
    axes.set_yticks(places, names, fontsize=9)


def _print_counts(axes: "Axes", matrix: Ints) -> None:
    for i, j in zip(*np.nonzero(matrix), strict=True):
        axes.text(j, i, f"{matrix[i, j]:,}", ha="center", va="center", fontsize=9)
