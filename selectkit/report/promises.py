"""Figure of policies beside each other: how often they break their promise, and what they cover."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from selectkit.report import svg, wording
from selectkit.report.svg import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()


class Rate(Protocol):
    """A share of re-splits with its interval, in [0, 1]."""

    @property
    def rate(self) -> float:
        """The share that broke the promise."""
        ...

    @property
    def low(self) -> float:
        """Lower end of its interval."""
        ...

    @property
    def high(self) -> float:
        """Upper end."""
        ...


class Standing(Protocol):
    """What came of one policy and one target."""

    @property
    def target(self) -> str:
        """What was asked for."""
        ...

    @property
    def policy(self) -> str:
        """Who answered."""
        ...

    @property
    def kind(self) -> str:
        """The kind of promise: "pac", "expectation" or "none"."""
        ...

    @property
    def gave_up(self) -> float:
        """Share of re-splits without a rule."""
        ...

    @property
    def coverage(self) -> float:
        """Mean coverage."""
        ...

    @property
    def coverage_quantiles(self) -> tuple[float, ...]:
        """Five quantiles of it, at 5, 25, 50, 75 and 95 %."""
        ...

    @property
    def broken(self) -> Rate:
        """How often the promise did not hold."""
        ...


def broken_and_covered(standings: Sequence[Standing], delta: float) -> Drawing:
    """Draw for every target and policy how often the promise is broken, and the coverage.

    Filled marks promise with confidence, so delta is the limit for them; open ones promise on
    average, or without proof.

    Args:
        standings: By target, then policy.
        delta: Share of re-splits in which a promise may be broken.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    targets = list(dict.fromkeys(s.target for s in standings))
    groups = [[s for s in standings if s.target == t] for t in targets]
    heights = [len(group) + 1.6 for group in groups]
    with svg.theme("policies"):
        figure = Figure(figsize=(8.2, 0.27 * sum(heights) + 0.7), layout="constrained")
        grid = figure.subplots(
            len(groups), 2, squeeze=False, sharey="row", sharex="col",
            gridspec_kw={"height_ratios": heights},
        )  # fmt: skip
        for (left, right), group, target in zip(grid, groups, targets, strict=True):
            _broken(left, group, delta)
            _covered(right, group)
            left.set_yticks(range(len(group)), [s.policy for s in group])
            left.set_ylim(len(group) - 0.4, -0.6)
            left.set_title(f"{target}: promise broken", loc="left", fontsize=10, color=MUTED)
            right.set_title("Coverage", loc="left", fontsize=10, color=MUTED)
        highest = max((s.broken.high for s in standings if s.gave_up < 1), default=delta)
        grid[0][0].set_xlim(-0.01, min(1.02, 1.08 * max(highest, delta)))
        for axes in grid[-1]:
            axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}{wording.UNIT}")
        grid[-1][0].set_xlabel(
            f"Share of re-splits, 95{wording.UNIT} interval; line: {100 * delta:.3g}{wording.UNIT} "
            "allowed\n● with confidence   ○ on average, or without proof"
        )
        grid[-1][1].set_xlabel(f"Median, half and 90{wording.UNIT} of re-splits")
        return Drawing("policies", figure, _alt(groups))


def _broken(axes: "Axes", group: Sequence[Standing], delta: float) -> None:
    axes.axvline(delta, color=MUTED, linewidth=1.0, zorder=0)
    for place, s in enumerate(group):
        if s.gave_up == 1:
            axes.text(delta, place, "  gives up", color=MUTED, va="center", fontsize=9)
            continue
        colour = WRONG if s.broken.low > delta and s.kind != "expectation" else ACCENT
        axes.hlines(place, s.broken.low, s.broken.high, color=colour, linewidth=1.6)
        axes.plot(
            s.broken.rate, place, "o", color=colour, markersize=5,
            markerfacecolor=colour if s.kind == "pac" else PAPER, clip_on=False,
        )  # fmt: skip


def _covered(axes: "Axes", group: Sequence[Standing]) -> None:
    for place, s in enumerate(group):
        lowest, low, middle, high, highest = s.coverage_quantiles
        axes.hlines(place, lowest, highest, color=ACCENT, linewidth=1.4, alpha=0.6)
        axes.hlines(place, low, high, color=ACCENT, linewidth=4.5)
        axes.plot(middle, place, "|", color=INK, markersize=9, markeredgewidth=1.6)
    axes.set_xlim(-0.01, 1.01)
    axes.tick_params(left=False)


def _alt(groups: Sequence[Sequence[Standing]]) -> str:
    parts = []
    for group in groups:
        told = [
            f"{s.policy} broken in {s.broken.rate:.0%}, at {s.coverage:.0%} coverage"
            if s.gave_up < 1
            else f"{s.policy} gives up"
            for s in group
        ]
        parts.append(f"{group[0].target}: {'; '.join(told)}.")
    return f"Promises broken and coverage over random re-splits. {' '.join(parts)}"
