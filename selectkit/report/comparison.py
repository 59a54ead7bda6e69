"""A chart of scores against a reference: one line each, its difference and its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selectkit.report import svg, wording
from selectkit.report.svg import Drawing

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()


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


def contrasts(lines: Sequence[Contrast], *, reference: str, about: str) -> Drawing:
    """Draw differences from a reference, best on top.

    Args:
        lines: In the order they are drawn.
        reference: Name of the reference.
        about: What was measured and on what, for the title.

    Returns:
        The figure.
    """
    with svg.theme("contrasts"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 1.1 + 0.34 * len(lines)), layout="tight")
        axes = figure.subplots()
        at = np.arange(len(lines))[::-1]
        axes.axvline(0, color=LINE, linewidth=1.2, zorder=0)
        for y, line in zip(at, lines, strict=True):
            colour = MUTED
            if line.clear:
                colour = ACCENT if line.value < 0 else WRONG
            axes.plot([line.low, line.high], [y, y], color=colour, linewidth=2)
            axes.plot([line.value], [y], "o", color=colour, markersize=6)
        axes.set_yticks(at, [line.name for line in lines])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(
            f"Difference from {reference} in thousandths, 95{wording.UNIT} intervals; left is "
            "better"
        )
        axes.set_title(about, loc="left", fontsize=10, color=MUTED, pad=8)
        return Drawing("contrasts", figure, _alt(lines, reference, about))


def _alt(lines: Sequence[Contrast], reference: str, about: str) -> str:
    told = [f"{line.name} {line.value:+.2f}" for line in lines if line.name != reference]
    return f"{about}. Difference from {reference} in thousandths: {', '.join(told)}."
