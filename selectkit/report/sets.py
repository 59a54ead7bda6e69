"""The section on prediction sets: how large they are and how often the true class is in them."""

from math import isnan

import numpy as np

from selectkit.report import svg, wording
from selectkit.report.model import RunReport
from selectkit.report.parts import ClassSets, Estimate, Sets
from selectkit.report.svg import Drawing
from selectkit.report.wording import percent, text

INK, MUTED, LINE, PAPER, ACCENT, WRONG = svg.PALETTE.values()
MOST_BARS = 12


def sizes(sets: Sets) -> Drawing:
    """Draw how many sets there are of each size, with and without the true class.

    Args:
        sets: The sets; at least one.

    Returns:
        The figure; sizes from the twelfth on share one bar.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    names, inside, outside = _bars(sets)
    with svg.theme("set-sizes"):
        figure = Figure(figsize=(svg.WIDTH, 3.4), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(names))
        width = min(0.72, 0.16 * len(names) + 0.2)
        axes.bar(places, inside, width, color=ACCENT, alpha=0.78)
        axes.bar(places, outside, width, bottom=inside, color=WRONG, alpha=0.78)
        axes.set_xticks(places, names)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_xlabel("Classes in the set")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_title("Images; red: the true class is not in the set", loc="left", fontsize=10,
                       color=MUTED, pad=8)  # fmt: skip
        for place, right, missed in zip(places, inside, outside, strict=True):
            if missed:
                share = missed / (right + missed)
                axes.annotate(
                    wording.percent(float(share)), (float(place), float(right + missed)), (0, 3),
                    textcoords="offset points", ha="center", fontsize=9, color=WRONG,
                )  # fmt: skip
        return Drawing("set-sizes", figure, _alt(names, inside, outside))


def section(report: RunReport) -> str:
    """Return the section, or nothing for policies without sets."""
    sets = report.sets
    if sets is None:
        return ""
    how = (
        "Every image that passes the score is answered with its set."
        if sets.decides == "accepted"
        else "An image that passes the score is decided only if its set is a single class."
    )
    lead = (
        f"{how} {sets.passed:,} of {len(report.labels):,} images of {text(report.split)} pass; "
        "the figures here are about them."
    )
    if not sets.passed:
        return f'<section id="sets"><h2>Prediction sets</h2><p class="lead">{lead}</p></section>'
    picture = (
        '<div class="figures"><figure class="panel"><figcaption><h2>How large sets are</h2>'
        "<p>Small sets say more. Above each bar stands the share of its sets that lack the true "
        f"class.</p></figcaption>{sizes(sets).inline()}</figure></div>"
    )
    return (
        f'<section id="sets"><h2>Prediction sets</h2><p class="lead">{lead}</p>'
        f"{_tiles(sets)}{picture}{_by_class(sets)}</section>"
    )


def _tiles(sets: Sets) -> str:
    singles = sum(row.n for row in sets.sizes if row.size == 1)
    tiles = [
        ("Classes in a set, on average", "mean_set_size", False, "fewer is better"),
        ("True class in the set", "set_coverage", True,
         f"{sets.passed - sets.missed:,} of {sets.passed:,}"),
        ("Sets of a single class", "singleton_share", True, f"{singles:,} of {sets.passed:,}"),
        ("Wrong among single classes", "singleton_error", True,
         "certified on its own" if sets.decides == "singletons" else "nothing is promised of it"),
    ]  # fmt: skip
    cells = "".join(
        f"<div><dt>{name}</dt>"
        f'<dd><data value="{sets.metrics[key][0]!r}">'
        f"{percent(sets.metrics[key][0]) if rate else _size(sets.metrics[key][0])}</data></dd>"
        f"<dd>{note}; 95 % interval {_interval(sets.metrics[key], rate)}</dd></div>"
        for key, name, rate, note in ((key, name, rate, note) for name, key, rate, note in tiles)
    )
    return f'<div class="panel of-sets"><dl class="tiles">{cells}</dl></div>'


def _by_class(sets: Sets) -> str:
    head = (
        '<th scope="col">True class</th><th scope="col" class="number">Images</th>'
        '<th scope="col" class="number">Pass the score</th>'
        '<th scope="col" class="number">True class in the set</th>'
        '<th scope="col" class="number">Mean size</th>'
        '<th scope="col" class="number">Wrong among single classes</th>'
    )
    which = "By class"
    if len(sets.classes) < sets.n_classes:
        which = f"The {len(sets.classes)} of {sets.n_classes:,} classes that are missed most often"
    rows = "".join(map(_class, sets.classes))
    return (
        f"<h3>{which}</h3>"
        '<div class="scroll panel" role="region" aria-label="Sets by class" tabindex="0">'
        f'<table class="sets"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _class(row: ClassSets) -> str:
    return (
        f'<tr><th scope="row">{text(row.name)}</th>'
        f'<td class="number" data-label="Images">{row.n:,}</td>'
        f'<td class="number" data-label="Pass the score">{_share(row.passed, row.n)}</td>'
        f'<td class="number" data-label="True class in the set">{_share(row.inside, row.passed)}'
        "</td>"
        f'<td class="number" data-label="Mean size">{_size(row.mean_size)}</td>'
        '<td class="number" data-label="Wrong among single classes">'
        f"{_share(row.wrong, row.singletons)}</td></tr>"
    )


def _size(mean: float) -> str:
    return "–" if isnan(mean) else f"{mean:.2f}"


def _interval(estimate: Estimate, rate: bool) -> str:
    if rate or isnan(estimate[1]):
        return wording.interval(estimate, rate)
    return f"{_size(estimate[1])} to {_size(estimate[2])}"


def _share(count: int, total: int) -> str:
    return f"{percent(count / total)} ({count:,} of {total:,})" if total else "–"


def _bars(sets: Sets) -> tuple[list[str], list[int], list[int]]:
    """Names, sets with and sets without the true class; large sizes share the last bar."""
    largest = max(row.size for row in sets.sizes)
    shown = largest if largest <= MOST_BARS else MOST_BARS - 1
    with_it, without = [0] * (shown + 1), [0] * (shown + 1)
    for row in sets.sizes:
        place = min(row.size, shown + 1) - 1
        with_it[place] += row.inside
        without[place] += row.n - row.inside
    names = [str(i + 1) for i in range(shown)]
    if largest == shown:
        return names, with_it[:shown], without[:shown]
    return [*names, f"{shown + 1}+"], with_it, without


def _alt(names: list[str], inside: list[int], outside: list[int]) -> str:
    parts = [
        f"{name}: {a + b:,}, {b:,} without the true class"
        for name, a, b in zip(names, inside, outside, strict=True)
        if a + b
    ]
    return f"Prediction sets by number of classes. {'; '.join(parts)}."
