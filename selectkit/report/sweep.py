"""The page of a sweep: parallel coordinates of all configurations, a scatter plot, the table."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selectkit.report import svg
from selectkit.report.wording import text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()
MOST_LABELS = 8
_WIDE = """
.wide { max-width: none; }
.wide svg { width: 100%; max-width: none; min-width: 44rem; }
.note { margin-bottom: 0.8rem; max-width: 48rem; }
"""
_MISSING = "-"
_BEHIND_LABELS = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}


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
    header, rows = picture.table
    body = [
        f"<h1>{text(picture.title)}</h1>",
        *(f'<p class="note">{text(note)}</p>' for note in picture.notes),
        f'<div class="scroll"><figure class="wide">{parallel(picture)}</figure></div>',
        f"<figure>{scatter(picture)}</figure>",
        '<div class="scroll"><table><thead><tr>',
        *(f"<th>{text(name)}</th>" for name in header),
        "</tr></thead><tbody>",
        *("<tr>" + "".join(f"<td>{text(v)}</td>" for v in row) + "</tr>" for row in rows),
        "</tbody></table></div>",
    ]
    folder = files("selectkit.report")
    template = (folder / "template.html").read_text(encoding="utf-8")
    style = (folder / "style.css").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=text(picture.title), style=style.strip() + _WIDE, body="\n".join(body)
    )


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
        heights = np.stack([_draw_axis(axes, i, axis) for i, axis in enumerate(picture.axes)])
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


def _draw_axis(axes: "Axes", i: int, axis: Axis) -> npt.NDArray[np.float64]:
    """Draw one vertical axis with its labels, and return the heights of the configurations."""
    heights, labels = _placed(axis.values)
    axes.axvline(i, color=LINE, linewidth=1.2, zorder=0)
    for height, label in labels:
        axes.annotate(label, (i, height), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=8.5, color=MUTED, zorder=4,
                      bbox=_BEHIND_LABELS)  # fmt: skip
    return heights


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
