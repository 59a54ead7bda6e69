"""Figures of a plan: power against labels, and the coverage to expect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from selectkit.report import svg, wording
from selectkit.report.svg import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()


@dataclass(frozen=True)
class Power:
    """One power curve.

    Attributes:
        true_rate: The rule's true rate, in words.
        n: Numbers of labels.
        chance: The chance that the rule is certified, at each.
    """

    true_rate: str
    n: Sequence[int]
    chance: Sequence[float]


class Expected(Protocol):
    """What is to be expected of one number of labels; shares in [0, 1]."""

    @property
    def n(self) -> int:
        """Images in val_calib."""
        ...

    @property
    def infeasible(self) -> float:
        """Share of draws that certified nothing."""
        ...

    @property
    def mean(self) -> float | None:
        """Mean coverage where certified."""
        ...

    @property
    def low(self) -> float | None:
        """Lower end of its range."""
        ...

    @property
    def high(self) -> float | None:
        """Upper end."""
        ...


def power(curves: Sequence[Power], promise: str, unit: str) -> Drawing:
    """Draw the chance of a certificate against the number of labels.

    Args:
        curves: At most six, over the same numbers.
        promise: What is to be promised, in words.
        unit: What is counted.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    with svg.theme("power"):
        figure = Figure(figsize=(6.4, 3.9), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0.8, color=LINE, linewidth=1.0, zorder=0)
        for curve, colour, dash in zip(curves, svg.SERIES.values(), svg.DASHES, strict=False):
            axes.plot(
                curve.n, curve.chance, color=colour, linestyle=dash, linewidth=1.8,
                label=f"true rate {curve.true_rate}",
            )  # fmt: skip
        axes.legend(frameon=False, loc="upper left", fontsize=9.5)
        axes.set_title(f"Chance that {promise} is certified", loc="left", fontsize=10,
                       color=MUTED, pad=10)  # fmt: skip
        axes.set_xlabel(unit[0].upper() + unit[1:])
        _shares(axes)
        _many(axes)
        return Drawing("power", figure, _alt_power(curves, promise, unit))


def expected(forecasts: Sequence[Expected], promise: str) -> Drawing:
    """Draw coverage and failures against the number of labels.

    Coverage is drawn where at least half of the draws were certified.

    Args:
        forecasts: By number of labels, ascending.
        promise: What is to be promised, in words.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    with svg.theme("forecast"):
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1.0))
        sure = [f for f in forecasts if f.mean is not None and f.infeasible <= 0.5]
        if sure:
            _coverage(above, sure)
        else:
            above.text(0.5, 0.5, "not certified in half of the draws, at any number",
                       transform=above.transAxes, ha="center", color=WRONG)  # fmt: skip
        above.set_title(f"{promise}: decided (bars: 5 to 95{wording.UNIT} of draws)",
                        loc="left", fontsize=10, color=MUTED, pad=8)  # fmt: skip
        everywhere = [f.n for f in forecasts]
        below.plot(everywhere, [f.infeasible for f in forecasts], "o-", color=WRONG,
                   linewidth=1.8, markersize=5, clip_on=False)  # fmt: skip
        below.set_title("Draws in which nothing can be certified (INFEASIBLE)", loc="left",
                        fontsize=10, color=MUTED, pad=6)  # fmt: skip
        below.set_xlabel("Labelled images in val_calib")
        for axes in (above, below):
            _shares(axes)
        below.set_yticks([0, 0.5, 1])
        _many(below)
        return Drawing("forecast", figure, _alt_expected(forecasts, promise))


def _coverage(axes: "Axes", sure: Sequence[Expected]) -> None:
    n = np.array([f.n for f in sure])
    mean, low, high = (
        np.array([getattr(f, name) for f in sure], dtype=np.float64)
        for name in ("mean", "low", "high")
    )
    axes.vlines(n, low, high, color=ACCENT, linewidth=2.2, alpha=0.35)
    axes.plot(n, mean, "o-", color=ACCENT, linewidth=1.8, markersize=5, clip_on=False)


def _shares(axes: "Axes") -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}{wording.UNIT}")


def _many(axes: "Axes") -> None:
    """A logarithmic axis whose labels are whole numbers: 1, 2, 5, 10, ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    decades = np.log10(axes.get_xlim()[1] / max(axes.get_xlim()[0], 1e-9))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,), numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))


def _alt_power(curves: Sequence[Power], promise: str, unit: str) -> str:
    parts = [
        f"true rate {c.true_rate}: {c.chance[0]:.0%} at {c.n[0]:,} to {c.chance[-1]:.0%} at "
        f"{c.n[-1]:,}"
        for c in curves
    ]
    return f"Chance that {promise} is certified against {unit}. {'; '.join(parts)}."


def _alt_expected(forecasts: Sequence[Expected], promise: str) -> str:
    parts = []
    for f in forecasts:
        decided = "nothing decided" if f.mean is None else f"{f.mean:.0%} decided"
        parts.append(f"{f.n:,} images: {decided}, infeasible {f.infeasible:.0%}")
    return f"Coverage to expect of {promise}. {'; '.join(parts)}."
