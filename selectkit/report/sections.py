"""The sections of the page in reading order: the answer first, its evidence below."""

from math import isinf, isnan

import numpy as np

from selectkit.arrays import Ints
from selectkit.report import figures as draw
from selectkit.report import wording
from selectkit.report.model import Estimate, PolicyRow, RunReport
from selectkit.report.wording import number, percent, text


def verdict(report: RunReport) -> str:
    """Return the heading and the card with the answer: promise, target and the big numbers."""
    first, *more = report.certificate or ("No certificate was asked for.",)
    tiles = "".join(
        f"<div><dt>{text(name)}</dt>{big}<dd>{text(small)}</dd></div>"
        for name, big, small in _tiles(report)
    )
    return (
        f"<header><h1>{text(report.title)}</h1>"
        f'<p class="byline">Run {text(report.run)}, evaluated {text(report.created)}</p></header>\n'
        f'<div class="verdict panel {report.promise}">'
        f'<p class="asked"><span class="badge">{wording.PROMISES[report.promise]}</span> '
        f"Target: {text(report.target)}</p>"
        f'<p class="promise">{text(first)}</p>'
        + "".join(f'<p class="more">{text(sentence)}</p>' for sentence in more)
        + f'<dl class="tiles">{tiles}</dl></div>'
    )


def warnings(report: RunReport) -> str:
    """Return what the reader must know first, or nothing."""
    if not report.warnings:
        return ""
    items = "".join(f"<li>{text(warning)}</li>" for warning in report.warnings)
    return f'<div class="warnings panel"><h2>Before you rely on this</h2><ul>{items}</ul></div>'


def policies(report: RunReport) -> str:
    """Return the table of the compared policies, or nothing."""
    if not report.policies:
        return ""
    head = (
        '<th scope="col">Policy</th><th scope="col" class="number">Coverage</th>'
        '<th scope="col" class="number">Wrong among accepted</th>'
        '<th scope="col" class="number">Deferred</th><th scope="col">Certified</th>'
    )
    rows = "".join(_policy(row) for row in report.policies)
    return (
        "<section><h2>Policies</h2>"
        f'<p class="lead">Measured on the test split {text(report.split)}: '
        f"{len(report.labels):,} images that no choice was made on. Below each share stands its "
        "95 % interval. Each certificate holds on its own; to choose one after seeing several, ask "
        "for a smaller delta.</p>"
        f"{_table('Policies', head, rows)}</section>"
    )


def figures(report: RunReport) -> str:
    """Return the four figures."""
    parts = [_curve(report), _reliability(report), _scores(report), _confusion(report)]
    return f'<div class="figures">{"".join(parts)}</div>'


def metrics(report: RunReport) -> str:
    """Return the table of all metrics with their intervals, or nothing."""
    if not report.metrics:
        return ""
    head = (
        '<th scope="col">Metric</th><th scope="col" class="number">Value</th>'
        '<th scope="col">95 % interval</th><th scope="col" class="broad">What it says</th>'
    )
    rows = "".join(_metric(name, estimate) for name, estimate in report.metrics.items())
    return (
        "<section><h2>All metrics</h2>"
        '<p class="lead">With 95 % bootstrap intervals over the test split. An interval describes '
        "the noise of the test split; it is no promise.</p>"
        f"{_table('Metrics', head, rows)}</section>"
    )


def provenance(report: RunReport) -> str:
    """Return where the numbers come from and how to make them again."""
    facts = "".join(
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in report.provenance.items()
    )
    page = ""
    if facts:
        page += f'<section><h2>Provenance</h2><dl class="facts panel">{facts}</dl></section>'
    if report.commands:
        lines = text("\n".join(report.commands))
        page += (
            "<section><h2>Reproduce</h2>"
            f'<pre class="panel" tabindex="0"><code>{lines}</code></pre></section>'
        )
    return page


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """The big numbers: name, value as HTML, small print."""
    n, accepted, row = len(report.labels), report.accepted, report.active
    decided = int(accepted.sum())
    noise = f"; 95 % interval {wording.interval(row.error, True)}" if row and decided else ""
    tiles = [
        ("Decided automatically", *_share(decided, n, "images")),
        ("Deferred", _big(n - decided, f"{n - decided:,}"), "images handed on"),
        (
            "Wrong among decided",
            *_share(int((accepted & ~report.correct).sum()), decided, "", noise),
        ),
    ]
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
            *_share(missed, int(positives.sum()), "that were decided"),
        ),
    ]


def _share(count: int, total: int, unit: str, more: str = "") -> tuple[str, str]:
    share = count / total if total else float("nan")
    return _big(share, percent(share)), f"{count:,} of {total:,} {unit}".strip() + more


def _big(value: float, shown: str) -> str:
    return f'<dd><data value="{value!r}">{shown}</data></dd>'


def _policy(row: PolicyRow) -> str:
    kind = ' class="active"' if row.active else ""
    mark = ' <span class="mark">this report</span>' if row.active else ""
    return (
        f"<tr{kind}>"
        f'<th scope="row">{text(row.policy)}{mark}</th>'
        f"{_stacked('Coverage', row.coverage)}{_stacked('Wrong among accepted', row.error)}"
        '<td class="number" data-label="Deferred">'
        f'<data value="{row.deferred}">{row.deferred:,}</data></td>'
        f'<td data-label="Certified">{text(row.bound)}</td></tr>'
    )


def _metric(name: str, estimate: Estimate) -> str:
    label, why, rate = wording.metric(name)
    return (
        f'<tr data-metric="{text(name)}"><th scope="row">{text(label)}'
        f'<span class="why narrow">{text(why)}</span></th>'
        f'{_cells(estimate, rate)}<td class="why broad">{text(why)}</td></tr>'
    )


def _cells(estimate: Estimate, rate: bool) -> str:
    value, low, high = estimate
    shown = percent(value) if rate else number(value)
    return (
        f'<td class="number"><data value="{value!r}">{shown}</data></td>'
        f'<td class="interval" data-low="{low!r}" data-high="{high!r}">'
        f"{wording.interval(estimate, rate)}</td>"
    )


def _stacked(label: str, rate: Estimate) -> str:
    value, low, high = rate
    below = "" if isnan(low) else wording.interval(rate, True)
    return (
        f'<td class="number" data-label="{label}">'
        f'<data value="{value!r}">{percent(value)}</data>'
        f'<span class="interval" data-low="{low!r}" data-high="{high!r}">{below}</span></td>'
    )


def _table(name: str, head: str, rows: str) -> str:
    return (
        f'<div class="scroll panel" role="region" aria-label="{name}" tabindex="0">'
        f'<table class="{name.lower()}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _figure(title: str, caption: str, body: str) -> str:
    return (
        f'<figure class="panel"><figcaption><h2>{title}</h2>'
        f"<p>{caption}</p></figcaption>{body}</figure>"
    )


def _curve(report: RunReport) -> str:
    if report.curve is None or not len(report.curve.coverage):
        return ""
    caption = (
        "Deferring more leaves fewer mistakes. The band is the 95 % interval at each coverage"
        + ("." if report.curve.point is None else "; the dot is where this policy works.")
    )
    return _figure("Risk and coverage", caption, draw.risk_coverage(report.curve))


def _reliability(report: RunReport) -> str:
    if report.reliability is None:
        return ""
    caption = (
        "The marks show how often the prediction was right; red is the gap to its probability. "
        + wording.calibration_error(report.reliability)
    )
    return _figure("Reliability", text(caption), draw.reliability(report.reliability))


def _scores(report: RunReport) -> str:
    if not len(report.labels):
        return ""
    where = "no single threshold"
    if isinf(report.threshold):
        where = "every image deferred" if report.threshold > 0 else "every image accepted"
    elif not isnan(report.threshold):
        where = f"the line is the threshold, {number(report.threshold)}"
    caption = f"A good score puts the right ones to the right of the wrong ones; {where}."
    svg = draw.scores(
        report.confidence, report.correct, report.accepted, report.threshold, report.score
    )
    return _figure("Scores of right and wrong predictions", caption, svg)


def _confusion(report: RunReport) -> str:
    title = "Confusion among accepted"
    if not report.accepted.any():
        return _figure(title, "Nothing was accepted.", '<p class="empty">No matrix to show.</p>')
    caption = (
        "Rows are true classes, columns predictions. Red cells are mistakes, on a scale that "
        "keeps rare ones visible."
    )
    if report.positive is not None:
        caption += f" Positive class: {text(report.classes[report.positive])}."
    svg = draw.confusion(confusion_matrix(report), report.classes)
    return _figure(title, caption, svg)


def confusion_matrix(report: RunReport) -> Ints:
    """Return the (K, K) counts of the accepted samples: rows true, columns predicted."""
    k = len(report.classes)
    pairs = report.labels[report.accepted] * k + report.predictions[report.accepted]
    return np.bincount(pairs, minlength=k * k).reshape(k, k)
