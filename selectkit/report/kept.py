"""The section that sets every promise beside what the test split shows."""

from math import isnan

from selectkit.report import wording
from selectkit.report.model import RunReport
from selectkit.report.parts import PromiseRow
from selectkit.report.wording import percent, text

MOST = 30
_HEAD = (
    '<th scope="col">Promise</th><th scope="col" class="number">On the test split</th>'
    '<th scope="col" class="interval">95 % interval</th>'
    '<th scope="col">Counted</th><th scope="col">Verdict</th>'
)


def section(report: RunReport) -> str:
    """Return the table of promises, or nothing when none was made."""
    if not report.promises:
        return ""
    shown = foremost(report.promises)
    rows = "".join(map(_row, shown))
    more = ""
    if len(shown) < len(report.promises):
        more = f" Shown are {len(shown)} of {len(report.promises)}, those that came off worst."
    groups = "" if report.group is None else " One image of each group counts, as when certifying."
    return (
        '<section id="promises"><h2>Promises, checked</h2>'
        f'<p class="lead">Each promise is about all images to come; {text(report.split)} is a '
        "sample of them, so a figure may lie a little above its limit while the promise is true: "
        f"then the interval still reaches the limit.{groups}{more}</p>"
        '<div class="scroll panel" role="region" aria-label="Promises" tabindex="0">'
        f'<table class="promises"><thead><tr>{_HEAD}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></section>"
    )


def foremost(promises: tuple[PromiseRow, ...]) -> tuple[PromiseRow, ...]:
    """Return the promises to be shown: all, or of very many those that came off worst."""
    if len(promises) <= MOST:
        return promises
    worst = sorted(range(len(promises)), key=lambda i: (_margin(promises[i]), i))[:MOST]
    return tuple(promises[i] for i in sorted(worst))


def figure(row: PromiseRow) -> tuple[str, str, str]:
    """Return the figure of a promise, its interval and what was counted, as text."""
    if row.held is None:
        return "–", "–", "–"
    counted = f"{row.trials:,} {row.unit}"
    if row.risk == "cost":
        return wording.cost(row.estimate[0]), wording.cost_interval(row.estimate), counted
    return (
        percent(row.estimate[0]),
        wording.interval(row.estimate, True),
        f"{row.events:,} of {counted}",
    )


def _row(row: PromiseRow) -> str:
    value, low, high = row.estimate
    shown, interval, counted = figure(row)
    return (
        f'<tr class="{_tone(row)}"><th scope="row">{text(row.promise[:1].upper())}'
        f'{text(row.promise[1:])}<span class="why">{_KINDS[row.kind]}</span></th>'
        f'<td class="number" data-label="On the test split"><data value="{value!r}">{shown}'
        "</data></td>"
        f'<td class="interval" data-label="95 % interval" data-low="{low!r}" '
        f'data-high="{high!r}">{interval}</td>'
        f'<td class="counted" data-label="Counted">{text(counted)}</td>'
        f'<td class="verdict-of" data-label="Verdict">{text(row.verdict)}</td></tr>'
    )


_KINDS = {"pac": "certified", "expectation": "on average", "none": "asked, not promised"}


def _tone(row: PromiseRow) -> str:
    if row.held is None or row.kind == "none":
        return "open"
    if row.held:
        return "held"
    return "exceeded" if row.verdict.startswith("exceeded") else "open"


def _margin(row: PromiseRow) -> float:
    """How far the figure stays within its limit; what is not measured comes last."""
    if isnan(row.estimate[0]):
        return float("inf")
    within = row.limit - row.estimate[0]
    return -within if row.risk == "coverage" else within
