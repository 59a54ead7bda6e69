"""The heading of the page and the card with the answer: promise, target, the big numbers."""

from math import isnan

from selectkit.report import wording
from selectkit.report.model import RunReport
from selectkit.report.parts import Estimate, Sets
from selectkit.report.wording import percent, prose, text

NOTHING = "Nothing is promised, and every image is deferred."


def verdict(report: RunReport) -> str:
    """Return the heading and the card with the answer: promise, target and the big numbers."""
    first, *more = report.certificate or ("No certificate was asked for.",)
    if report.promise == "infeasible":
        first, more = NOTHING, [first, *more, *wording.risks_named(report.target)]
    tiles = "".join(
        f"<div><dt>{text(name)}</dt>{big}<dd>{text(small)}</dd></div>"
        for name, big, small in _tiles(report)
    )
    return (
        f"<header><h1>{text(report.title)}</h1>"
        f'<p class="byline">Run {text(report.run)}, evaluated {text(report.created)}</p></header>\n'
        f'<div class="verdict panel {report.promise}">'
        f'<p class="asked"><span class="badge">{wording.PROMISES[report.promise]}</span> '
        f"Target: {prose(report.target)}</p>"
        f'<p class="promise">{prose(first)}</p>'
        + "".join(f'<p class="more">{prose(sentence)}</p>' for sentence in more)
        + f'<p class="measured">{_measured(report)}</p>'
        f'<dl class="tiles">{tiles}</dl></div>'
    )


def warnings(report: RunReport) -> str:
    """Return what the reader must know first, or nothing."""
    if not report.warnings:
        return ""
    items = "".join(f"<li>{prose(warning)}</li>" for warning in report.warnings)
    return f'<div class="warnings panel"><h2>Before you rely on this</h2><ul>{items}</ul></div>'


def _measured(report: RunReport) -> str:
    """Where the big numbers come from, so that nobody takes them for the promise."""
    if not len(report.labels):
        return "Nothing was measured."
    found = f"What this policy did with the {len(report.labels):,} test images ({report.split})"
    return text(f"{found}. These figures are measured, not promised.")


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """The big numbers: name, value as HTML, small print."""
    n, accepted, row = len(report.labels), report.accepted, report.active
    decided = int(accepted.sum())
    noise = _interval(row.error) if row and decided else ""
    tiles = [
        ("Decided automatically", *_share(decided, n, "images")),
        ("Deferred", _big(n - decided, f"{n - decided:,}"), "images handed on"),
        (
            "Wrong among decided",
            *_share(int((accepted & ~report.correct).sum()), decided, "", noise),
        ),
    ]
    if report.answers_with_sets and report.sets is not None:
        answered = ("Answered with a set", *_share(decided, n, "images"))
        return [answered, tiles[1], *_about_sets(report.sets)]
    if report.positive is None:
        wrong = int((~report.correct).sum())
        return [*tiles, ("Wrong if nothing were deferred", *_share(wrong, n, "images"))]
    positives = accepted & (report.labels == report.positive)
    missed = int((positives & (report.predictions != report.positive)).sum())
    name = report.classes[report.positive]
    return [
        *tiles,
        (
            f"Missed of class {wording.shorten(name, 20)}",
            *_share(missed, int(positives.sum()), "that were decided", _noise(report, "fnr")),
        ),
    ]


def _noise(report: RunReport, name: str) -> str:
    return _interval(report.metrics[name]) if name in report.metrics else ""


def _interval(rate: Estimate) -> str:
    if isnan(rate[1]):
        return ""
    return f"; 95{wording.UNIT} interval {wording.interval(rate, True)}"


def _about_sets(found: Sets) -> list[tuple[str, str, str]]:
    size, inside = found.metrics["mean_set_size"], found.metrics["set_coverage"]
    outside = (1 - inside[0], 1 - inside[2], 1 - inside[1])
    noise = f"; 95 % interval {wording.interval(outside, True)}" if found.passed else ""
    return [
        ("True class not in the set", *_share(found.missed, found.passed, "", noise)),
        ("Classes in a set", _big(size[0], f"{size[0]:.2f}"), "on average"),
    ]


def _share(count: int, total: int, unit: str, more: str = "") -> tuple[str, str]:
    if not total:
        return _big(float("nan"), "–"), "nothing to count"
    share = count / total
    return _big(share, percent(share)), f"{count:,} of {total:,} {unit}".strip() + more


def _big(value: float, shown: str) -> str:
    return f'<dd><data value="{value!r}">{shown}</data></dd>'
