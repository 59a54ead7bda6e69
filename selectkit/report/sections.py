"""The sections of the page in reading order: the answer first, its evidence below."""

from math import isinf, isnan

import numpy as np

from selectkit.arrays import Ints
from selectkit.report import figures as draw
from selectkit.report import sets, stages, wording
from selectkit.report.model import GroupRow, PolicyRow, RunReport
from selectkit.report.parts import Estimate
from selectkit.report.svg import Drawing
from selectkit.report.wording import number, percent, prose, text
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper

TITLES = {
    "risk": "Risk and coverage",
    "generalized": "Generalized risk",
    "reliability": "Reliability",
    "scores": "Scores of right and wrong predictions",
    "set-sizes": "How large sets are",
    "stages": "Images through the stages",
    "front": "Cost against risk",
    "confusion": "Confusion among decided",
}


def policies(report: RunReport) -> str:
    """Return the table of the compared policies, or nothing."""
    if not report.policies:
        return ""
    priced = any(row.cost is not None for row in report.policies)
    head = (
        '<th scope="col">Policy</th><th scope="col" class="number">Coverage</th>'
        '<th scope="col" class="number">Wrong among decided</th>'
        + ('<th scope="col" class="number">Mean cost</th>' if priced else "")
        + '<th scope="col" class="number">Deferred</th><th scope="col">Promised</th>'
    )
    rows = "".join(_policy(row, priced) for row in report.policies)
    of_sets = ""
    if report.answers_with_sets:
        of_sets = " Of the policy that answers with sets, the most probable class is judged here."
    about = (
        "This policy beside others. All but the last column is measured on "
        f"{report.split}; below each share stands its 95 % interval. The last column is what other "
        "images, val_calib, prove: each line holds on its own, so to choose one after seeing "
        f"several, ask for a smaller delta.{of_sets}"
    )
    return (
        f'<section><h2>Policies</h2><p class="lead">{prose(about)}</p>'
        f"{_table('Policies', head, rows)}</section>"
    )


def drawings(report: RunReport) -> dict[str, Drawing]:
    """Return the figures that a report has, by the name of their section."""
    found = {}
    if report.curve is not None and len(report.curve.coverage):
        area = report.metrics.get("augrc", (float("nan"),))[0]
        found["risk"] = draw.risk_coverage(report.curve)
        found["generalized"] = draw.generalized(report.curve, area)
    if report.reliability is not None:
        found["reliability"] = draw.reliability(report.reliability)
    if len(report.labels):
        found["scores"] = draw.scores(
            report.confidence, report.correct, report.accepted, report.threshold, report.score
        )
    if report.sets is not None and report.sets.passed:
        found["set-sizes"] = sets.sizes(report.sets)
    if report.flow is not None:
        found["stages"] = stages.flow(report.flow)
        if report.flow.front:
            found["front"] = stages.front(report.flow)
    if report.accepted.any():
        found["confusion"] = draw.confusion(confusion_matrix(report), report.classes)
    return found


def figures(report: RunReport) -> str:
    """Return the figures with their captions."""
    drawn = drawings(report)
    captions = {
        "risk": _about_risk,
        "generalized": _about_generalized,
        "reliability": _about_reliability,
        "scores": _about_scores,
        "confusion": _about_confusion,
    }
    parts = [
        _figure(TITLES[name], text(about(report)), drawn[name].inline())
        for name, about in captions.items()
        if name in drawn
    ]
    if "confusion" not in drawn:
        empty = '<p class="empty">No matrix to show.</p>'
        parts.append(_figure(TITLES["confusion"], "Nothing was decided.", empty))
    return f'<div class="figures">{"".join(parts)}</div>'


def groups(report: RunReport) -> str:
    """Return the table of groups, or nothing."""
    if not report.groups:
        return ""
    head = (
        '<th scope="col">Group</th><th scope="col" class="number">Images</th>'
        '<th scope="col" class="number">Decided</th>'
        f'<th scope="col" class="number">{_mistake(report)}</th>'
        '<th scope="col">95 % interval</th>'
    )
    if report.positive is not None:
        head += '<th scope="col" class="number">Missed positives</th>'
    rows = "".join(
        _group(row, _mistake(report), report.positive is not None) for row in report.groups
    )
    which = "Every group of the test split, most wrong decisions first"
    if len(report.groups) < report.n_groups:
        which = (
            f"{len(report.groups)} of {report.n_groups:,} groups: those with the most wrong "
            "decisions, then the largest, which is no fair sample of them"
        )
    return (
        f'<section><h2>Groups</h2><p class="lead">{which}. The interval takes the images of a '
        "group as independent draws from it; the certificate does not, and promises nothing about "
        f"a single group.</p>{_table('Groups', head, rows)}</section>"
    )


def metrics(report: RunReport) -> str:
    """Return the table of all metrics with their intervals, or nothing."""
    if not report.metrics:
        return ""
    head = (
        '<th scope="col">Metric</th><th scope="col" class="number">Value</th>'
        '<th scope="col">95 % interval</th><th scope="col" class="broad">What it says</th>'
    )
    rows = "".join(
        f'<tr class="part"><th scope="colgroup" colspan="4">{text(part)}</th></tr>'
        + "".join(_metric(name, report.metrics[name]) for name in names)
        for part, names in wording.parted(report.metrics)
    )
    return (
        "<section><h2>All metrics</h2>"
        f'<p class="lead">Measured on {text(report.split)}, with 95\u00a0% bootstrap intervals; '
        "those of rates with few events are at least the exact binomial ones. An interval "
        "describes the noise of the test split; nothing in this table is certified.</p>"
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


def _policy(row: PolicyRow, priced: bool) -> str:
    kind = ' class="active"' if row.active else ""
    mark = ' <span class="mark">this report</span>' if row.active else ""
    return (
        f"<tr{kind}>"
        f'<th scope="row">{text(row.policy)}{mark}</th>'
        f"{_stacked('Coverage', row.coverage)}{_stacked('Wrong among decided', row.error)}"
        f"{_cost(row) if priced else ''}"
        '<td class="number" data-label="Deferred">'
        f'<data value="{row.deferred}">{row.deferred:,}</data></td>'
        f'<td data-label="Promised">{prose(row.bound)}</td></tr>'
    )


def _cost(row: PolicyRow) -> str:
    value, low, high = row.cost or (float("nan"),) * 3
    below = "" if isnan(low) else wording.cost_interval((value, low, high))
    return (
        f'<td class="number" data-label="Mean cost"><data value="{value!r}">{wording.cost(value)}'
        f'</data><span class="interval" data-low="{low!r}" data-high="{high!r}">{below}</span></td>'
    )


def _mistake(report: RunReport) -> str:
    """What a wrong answer is called."""
    return "True class not in the set" if report.answers_with_sets else "Wrong among decided"


def _group(row: GroupRow, mistake: str, with_positives: bool) -> str:
    error = row.wrong / row.accepted if row.accepted else float("nan")
    bounds = (clopper_pearson_lower, clopper_pearson_upper)
    low, high = (float(bound(row.wrong, row.accepted, 0.025)) for bound in bounds)
    shown = wording.interval((error, low, high), True) if row.accepted else "–"
    counted = f" ({row.wrong:,} of {row.accepted:,})" if row.accepted else ""
    cells = (
        f'<td class="number" data-label="Images">{row.n:,}</td>'
        f'<td class="number" data-label="Decided">{percent(row.accepted / row.n)}</td>'
        f'<td class="number" data-label="{mistake}"><data value="{error!r}">'
        f"{percent(error)}</data>{counted}</td>"
        f'<td class="interval" data-label="95 % interval">{shown}</td>'
    )
    if with_positives:
        missed = f"{row.missed:,} of {row.positives:,}" if row.positives else "–"
        cells += f'<td class="number" data-label="Missed positives">{missed}</td>'
    return f'<tr><th scope="row">{text(row.name)}</th>{cells}</tr>'


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


def _about_risk(report: RunReport) -> str:
    dot = report.curve is not None and report.curve.point is not None
    return (
        "Deferring more leaves fewer mistakes. The band is the 95 % interval at each coverage"
        + ("; the dot is where this policy works." if dot else ".")
        + (f" {report.ranked_by}" if report.ranked_by else "")
    )


def _about_generalized(report: RunReport) -> str:
    return (
        "Wrong decisions among all images, deferred ones included: what slips through. The area "
        "below the curve is AUGRC; less is better."
    )


def _about_reliability(report: RunReport) -> str:
    bins = report.reliability
    if bins is None:
        return ""
    marks = (
        "The marks show how often the most probable class was right; red is the gap to its "
        "probability. "
    )
    line = "The line is the same without bins. " if bins.smooth is not None else ""
    return marks + line + wording.calibration_error(bins)


def _about_scores(report: RunReport) -> str:
    where = "this policy is no threshold on it"
    if isinf(report.threshold):
        where = "every image deferred" if report.threshold > 0 else "every image accepted"
    elif not isnan(report.threshold):
        where = f"the line is the threshold, {number(report.threshold)}"
    return f"A good score puts the right ones to the right of the wrong ones; {where}."


def _about_confusion(report: RunReport) -> str:
    caption = (
        "Rows are true classes, columns predictions. Red cells are mistakes, on a scale that "
        "keeps rare ones visible."
    )
    if report.answers_with_sets:
        caption += " Of each set the most probable class counts."
    if report.positive is not None:
        caption += f" Positive class: {report.classes[report.positive]}."
    return caption


def confusion_matrix(report: RunReport) -> Ints:
    """Return the (K, K) counts of the accepted samples: rows true, columns predicted."""
    k = len(report.classes)
    pairs = report.labels[report.accepted] * k + report.predictions[report.accepted]
    return np.bincount(pairs, minlength=k * k).reshape(k, k)
