"""A chart of scores against a reference: one line each, its difference and its interval."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selectkit.report import svg


@dataclass(frozen=True)
class Contrast:
    """One line of the chart.

    Attributes:
        name: What is compared.
        value: Its difference from the reference; lower is better.
        low: Lower end of the interval, NaN when undefined.
        high: Upper end.
        clear: Whether the difference counts as shown.
    """

    name: str
    value: float
    low: float
    high: float
    clear: bool


def contrasts(lines: Sequence[Contrast], *, reference: str, about: str, form: str) -> bytes:
    """Draw differences from a reference, best on top.

    Args:
        lines: In the order they are drawn.
        reference: Name of the reference.
        about: What was measured and on what, for the title.
        form: "svg" or "png".

    Returns:
        The file.
    """
    with svg.theme("contrasts"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 1.1 + 0.34 * len(lines)), facecolor=svg.PALETTE["paper"])
        figure.set_layout_engine("tight")
        axes = figure.subplots()
        at = np.arange(len(lines))[::-1]
        axes.axvline(0, color=svg.PALETTE["line"], linewidth=1.2, zorder=0)
        for y, line in zip(at, lines, strict=True):
            colour = svg.PALETTE["muted"]
            if line.clear:
                colour = svg.PALETTE["accent"] if line.value < 0 else svg.PALETTE["wrong"]
            axes.plot([line.low, line.high], [y, y], color=colour, linewidth=2)
            axes.plot([line.value], [y], "o", color=colour, markersize=6)
        axes.set_yticks(at, [line.name for line in lines])
        axes.tick_params(axis="y", length=0, labelcolor=svg.PALETTE["ink"])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"Difference from {reference}, x 1e-3; left is better, 95 % intervals")
        axes.set_title(about, loc="left", fontsize=10, color=svg.PALETTE["muted"], pad=8)
        buffer = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        figure.savefig(buffer, format=form, metadata=metadata, dpi=160)
        return buffer.getvalue()
