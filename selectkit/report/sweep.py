"""The page of a sweep: parallel coordinates of all configurations, a scatter plot, the table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selectkit.report import svg
from selectkit.report.page import document
from selectkit.report.wording import METRICS, prose, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()
MOST_LABELS = 8
_MISSING = "-"
_COLUMNS = {
    "accuracy": "Share of right predictions.",
    "epochs": "Passes over train until the one that is kept.",
    "won": "Share of the resamples of val_select in which it was the best.",
}
_APART = 0.06  # of the height of an axis: labels that are nearer would cover each other
_BEHIND_LABELS = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}


@dataclass(frozen=True)
class Axis:
    """One setting or figure of all configurations.

    Attributes:
        name: What it is.
        values: One per configuration; numbers, texts, or None.
    """

    name: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Picture:
    """What the page shows. M configurations.

    Attributes:
        title: Of the page.
        axes: Of the parallel coordinates, left to right.
        order: The criterion, lower is better, length M.
        numbers: Numbers of the configurations.
        winner: Place of the chosen one.
        x: Name and values of the scatter plot's abscissa.
        y: Name and values of its ordinate.
        notes: Lines of text.
        table: Header and rows.
    """

    title: str
    axes: tuple[Axis, ...]
    order: tuple[float, ...]
    numbers: tuple[int, ...]
    winner: int
    x: tuple[str, tuple[float, ...]]
    y: tuple[str, tuple[float, ...]]
    notes: tuple[str, ...]
    table: tuple[list[str], list[list[str]]]


def page(picture: Picture) -> str:
    """Return the page as a complete, self-contained HTML document without a script.

    Args:
        picture: What it shows.

    Returns:
        The document, to be written as UTF-8.
    """
    notes = "".join(f'<p class="lead">{_sentence(note)}</p>' for note in picture.notes)
    return document(
        picture.title,
        (
            f"<header><h1>{text(picture.title)}</h1></header>{notes}",
            '<div class="scroll panel wide" role="region" aria-label="Settings and figures" '
            f'tabindex="0"><figure>{parallel(picture)}</figure></div>',
            f'<figure class="panel scatter">{scatter(picture)}</figure>',
            _table(picture),
        ),
    )


def _table(picture: Picture) -> str:
    header, rows = picture.table
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = "".join(_row(header, row) for row in rows)
    return (
        '<section><h2>All configurations</h2><p class="lead">Measured on val_select, on which one '
        f"was chosen (*). {_glossary(header)}</p>"
        '<div class="scroll panel" role="region" aria-label="All configurations" tabindex="0">'
        f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div></section>"
    )


def _row(header: Sequence[str], row: Sequence[str]) -> str:
    first, *others = row
    cells = "".join(
        f'<td data-label="{text(name)}">{text(value)}</td>'
        for name, value in zip(header[1:], others, strict=True)
    )
    return f'<tr><th scope="row">{text(first)}</th>{cells}</tr>'


def _glossary(header: Sequence[str]) -> str:
    """What the columns are that have a name of the field."""
    said = {name: METRICS[name][1] for name in header if name in METRICS}
    said |= {name: words for name, words in _COLUMNS.items() if name in header}
    return text(" ".join(f"{name}: {words}" for name, words in said.items()))


def _sentence(note: str) -> str:
    """A note as HTML: a capital letter, a full stop, and commands as such."""
    words = re.sub(r"`([^`]+)`", r"<code>\1</code>", prose(note[:1].upper() + note[1:]))
    return words if words.endswith((".", "!", "?")) else f"{words}."


def parallel(picture: Picture) -> str:
    """Draw one line per configuration across all axes; the better, the stronger; the chosen on top.

    Args:
        picture: What is drawn.

    Returns:
        An SVG element.
    """
    with svg.theme("parallel"):
        from matplotlib.figure import Figure

        n = len(picture.axes)
        figure = Figure(figsize=(max(svg.WIDTH, 1.25 * n), 3.6), facecolor="none")
        figure.set_layout_engine("tight")
        axes = figure.subplots()
        heights = np.stack([_draw_axis(axes, i, axis, picture.winner)
                            for i, axis in enumerate(picture.axes)])  # fmt: skip
        strength = 1 - _ranks(np.array(picture.order))
        for m in np.argsort(strength, kind="stable"):
            axes.plot(range(n), heights[:, m], color=ACCENT, linewidth=1.2,
                      alpha=0.12 + 0.6 * float(strength[m]) ** 2)  # fmt: skip
        axes.plot(range(n), heights[:, picture.winner], color=WRONG, linewidth=2.2)
        axes.set(xlim=(-0.3, n - 0.45), ylim=(-0.06, 1.06), yticks=[])
        axes.set_xticks(range(n), [axis.name for axis in picture.axes])
        axes.tick_params(axis="x", length=0, labelcolor=INK)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        best = picture.numbers[picture.winner]
        title = f"Every line is a configuration; red: the chosen one, number {best}"
        axes.set_title(title, loc="left", fontsize=10, color=MUTED, pad=8)
        return svg.inline(figure, f"{len(picture.order)} configurations; number {best} was chosen")


def scatter(picture: Picture) -> str:
    """Draw one figure against another, the chosen configuration marked.

    Args:
        picture: What is drawn.

    Returns:
        An SVG element.
    """
    with svg.theme("scatter"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(svg.WIDTH, 3.4), facecolor="none")
        figure.set_layout_engine("tight")
        axes = figure.subplots()
        (x_name, x), (y_name, y) = picture.x, picture.y
        axes.plot(x, y, "o", color=ACCENT, alpha=0.55, markersize=5, markeredgewidth=0)
        axes.plot(x[picture.winner], y[picture.winner], "o", color=WRONG, markersize=8)
        axes.annotate(f"number {picture.numbers[picture.winner]}",
                      (x[picture.winner], y[picture.winner]), xytext=(8, -13),
                      textcoords="offset points", color=WRONG)  # fmt: skip
        axes.set(xlabel=x_name)
        axes.margins(x=0.18, y=0.12)
        axes.set_title(y_name, loc="left", fontsize=10, color=MUTED, pad=8)
        return svg.inline(figure, f"{y_name} against {x_name}, {len(x)} configurations")


def _draw_axis(axes: "Axes", i: int, axis: Axis, winner: int) -> npt.NDArray[np.float64]:
    """Draw one vertical axis with its labels, and return the heights of the configurations."""
    heights, labels = _placed(axis.values)
    axes.axvline(i, color=LINE, linewidth=1.2, zorder=0)
    for height, label in _apart(labels, float(heights[winner])):
        axes.annotate(label, (i, height), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=8.5, color=MUTED, zorder=4,
                      bbox=_BEHIND_LABELS)  # fmt: skip
    return heights


def _apart(labels: Sequence[tuple[float, str]], first: float) -> list[tuple[float, str]]:
    """Labels that do not cover each other: that of the chosen one, the ends, and what fits."""
    ends = {min(labels)[0], max(labels)[0]}
    kept: list[tuple[float, str]] = []
    for height, label in sorted(labels, key=lambda p: (p[0] != first, p[0] not in ends)):
        if all(abs(height - other) >= _APART for other, _ in kept):
            kept.append((height, label))
    return kept


def _placed(values: Sequence[Any]) -> tuple[npt.NDArray[np.float64], list[tuple[float, str]]]:
    """Heights in [0, 1]: in proportion, in the logarithm over decades, one step per text."""
    missing = np.array([v is None for v in values])
    known = [v for v in values if v is not None]
    if not known:
        return np.zeros(len(values)), [(0.0, _MISSING)]
    heights, floor = np.zeros(len(values)), 0.15 if missing.any() else 0.0
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
    placed, labels = _numbers(known) if numbers else _names([str(v) for v in known])
    heights[~missing] = floor + (1 - floor) * placed
    shown = [(floor + (1 - floor) * height, label) for height, label in labels]
    return heights, [*([(0.0, _MISSING)] if missing.any() else []), *shown]


def _names(values: list[str]) -> tuple[npt.NDArray[np.float64], list[tuple[float, str]]]:
    names = sorted(set(values))
    place = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
    shown = names if len(names) <= MOST_LABELS else [names[0], names[-1]]
    return np.array([place[v] for v in values]), [(place[name], name) for name in shown]


def _numbers(values: list[float]) -> tuple[npt.NDArray[np.float64], list[tuple[float, str]]]:
    x = np.array(values, dtype=np.float64)
    z = np.log(x) if x.min() > 0 and x.max() / x.min() >= 20 else x
    heights = (z - z.min()) / ((z.max() - z.min()) or 1.0)
    distinct = np.unique(x)
    shown = distinct if len(distinct) <= MOST_LABELS else np.array([x.min(), x.max()])
    return heights, [(float(heights[x == v][0]), f"{v:.3g}") for v in shown]


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks in [0, 1], 0 for the smallest."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks / max(1, len(values) - 1)
