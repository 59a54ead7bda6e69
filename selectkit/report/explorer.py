"""The threshold explorer: what other thresholds would have done on the test split.

The page carries a table of thresholds, each with exact counts; a slider goes from one to the next.
A sample with more distinct scores than fit is thinned evenly in coverage, so the page stays small
for any N; what is shown remains exact at every threshold that can be chosen.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from selectkit.arrays import Floats, Ints
from selectkit.report import wording
from selectkit.report.model import RunReport
from selectkit.report.wording import number, text
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper

MOST = 400  # thresholds in a page


@dataclass(frozen=True, slots=True)
class Stops:
    """Places of the slider, strictest first; all arrays have shape (G,).

    Attributes:
        threshold: Accept iff confidence >= threshold; inf at the first, which accepts nothing.
        accepted: Images decided.
        wrong: Wrong decisions among them.
        positives: Decided images of the positive class; zeros when there is none.
        missed: Those of them that were missed.
        policy: Place of the active policy, -1 when it has no single threshold.
    """

    threshold: Floats
    accepted: Ints
    wrong: Ints
    positives: Ints
    missed: Ints
    policy: int


def stops(report: RunReport, most: int = MOST) -> Stops:
    """Return the thresholds that the explorer offers.

    Args:
        report: The run.
        most: Largest number of thresholds, besides the first and the policy's.

    Returns:
        One stop per distinct score, or an even choice of `most` of them.
    """
    usable = np.flatnonzero(report.confidence > -np.inf)
    order = usable[np.argsort(-report.confidence[usable], kind="stable")]
    score = report.confidence[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else order
    decided = int(report.accepted.sum())
    kept = _thinned(last, most, decided)
    positive = report.labels == (-1 if report.positive is None else report.positive)
    ends = np.append(0, kept + 1)
    wrong, positives, missed = (
        np.append(0, np.cumsum(marked[order]))[ends]
        for marked in (~report.correct, positive, positive & ~report.correct)
    )
    threshold = np.append(np.inf, score[kept])
    by_threshold = np.array_equal(report.accepted, report.confidence >= report.threshold)
    at = np.flatnonzero(ends == decided) if by_threshold else np.array([], dtype=np.int64)
    if at.size and np.isfinite(report.threshold):
        threshold[at[0]] = report.threshold
    policy = int(at[0]) if at.size else -1
    return Stops(threshold, ends, wrong, positives, missed, policy)


def _thinned(last: Ints, most: int, decided: int) -> Ints:
    if len(last) <= most:
        return last
    wanted = np.linspace(last[0], last[-1], most)
    places = np.minimum(np.searchsorted(last, wanted), len(last) - 1)
    own = np.flatnonzero(last + 1 == decided)
    return np.asarray(last[np.unique(np.append(places, own))])


def data(report: RunReport) -> dict[str, Any]:
    """Return what the script of the page reads, as plain values.

    Args:
        report: The run.

    Returns:
        Counts per stop and the totals; interval ends of the error in 1e-4, where images are
        independent.
    """
    found = stops(report)
    positives = 0
    if report.positive is not None:
        positives = int((report.labels == report.positive).sum())
    result: dict[str, Any] = {
        "n": len(report.labels),
        "nPositive": positives,
        "hasPositive": report.positive is not None,
        "policy": found.policy,
        "threshold": [None if np.isinf(t) else float(t) for t in found.threshold],
        "accepted": found.accepted.tolist(),
        "wrong": found.wrong.tolist(),
    }
    if report.positive is not None:
        result |= {"positives": found.positives.tolist(), "missed": found.missed.tolist()}
    if _two_kinds(report):
        result["alarms"] = (found.wrong - found.missed).tolist()
    if report.group is None:
        ends = (clopper_pearson_lower, clopper_pearson_upper)
        low, high = (end(found.wrong, found.accepted, 0.025) for end in ends)
        result |= {"low": _basis_points(low), "high": _basis_points(high)}
    return result


def section(report: RunReport) -> str:
    """Return the explorer as HTML with its data; nothing when there is no threshold to move."""
    if not len(report.labels) or not report.tunable:
        return ""
    table = json.dumps(data(report), separators=(",", ":"), allow_nan=False)
    about = f", class {report.classes[report.positive]}" if report.positive is not None else ""
    readouts = [("coverage", "Decided automatically"), ("error", "Wrong among decided")]
    if report.positive is not None:
        readouts += [("fnr", f"FNR among decided{about}"), ("miss", "Missed, of all positives")]
    readouts.append(("deferred", "Deferred per day"))
    if _two_kinds(report):
        readouts += [("misses", "Missed per day"), ("alarms", "False alarms per day")]
    else:
        readouts.append(("errors", "Wrong per day"))
    readouts.append(("cost", "Cost per day"))
    tiles = "".join(
        f"<div><dt>{text(name)}</dt><dd><data data-of='{key}'>–</data></dd>"
        f"<dd data-note='{key}'></dd></div>"
        for key, name in readouts
    ).replace("'", '"')
    return (
        '<section id="explorer" aria-labelledby="explorer-title">'
        '<h2 id="explorer-title">Threshold explorer</h2>'
        f'<p class="lead">What other thresholds would have done on the {len(report.labels):,} '
        f"images of {text(report.split)}. {text(report.ranked_by)}{_intervals(report)}</p>"
        '<p class="caution"><strong>A threshold chosen here carries no certificate:</strong> it '
        "would be picked by looking at the test images. For a promise, ask for a target instead: "
        "<code>selectkit calibrate RUN --target error=0.05</code></p>"
        '<noscript><p class="lead">The slider needs JavaScript; it asks no server for anything.'
        "</p></noscript>"
        f'<div class="panel explorer" hidden>{_controls(report)}'
        '<div class="shares" aria-hidden="true"><i class="was-right"></i><i class="was-wrong"></i>'
        '<i class="handed-on"></i></div>'
        '<p class="key" aria-hidden="true"><span class="was-right">decided, right</span> '
        '<span class="was-wrong">decided, wrong</span> '
        '<span class="handed-on">deferred</span></p>'
        f'<dl class="tiles">{tiles}</dl>'
        '<p class="ask">The cheapest rule at these costs, with a certificate: '
        "<code data-command></code></p></div>"
        f'<script type="application/json" id="explorer-data">{_harmless(table)}</script>'
        f"<script>{_script()}</script></section>"
    )


def _intervals(report: RunReport) -> str:
    """Why the interval at the policy's threshold is not exactly that above."""
    if report.group is not None:
        return ""
    return " Intervals here are exact binomial ones; most others come from the bootstrap."


def _controls(report: RunReport) -> str:
    score = text(report.score if report.ranked_by else wording.about_score(report.score))
    everyone = "every image that it may decide" if _never_decided(report) else "everything"
    return (
        f'<div class="slide"><label for="explorer-threshold">Threshold on the score {score}: '
        '<output for="explorer-threshold">–</output></label>'
        '<input type="range" id="explorer-threshold" min="0" max="0" step="1" value="0">'
        '<p class="ends" aria-hidden="true"><span>defer everything</span>'
        f"<span>decide {everyone}</span></p></div>"
        '<div class="inputs">'
        f"{_field('volume', 'Images per day', report.volume)}"
        f'<div class="costs" role="group" aria-label="Costs">{_costs(report)}</div>'
        '<span class="buttons">'
        '<button type="button" id="explorer-policy">This policy</button>'
        '<button type="button" id="explorer-cheapest">Cheapest on these images</button>'
        "</span></div>"
    )


def prices(report: RunReport) -> dict[str, float]:
    """Return the costs that the explorer starts with, by name, deferring last.

    Args:
        report: The run.

    Returns:
        Those that the policy was chosen by, else deferrals as the unit. Of two classes miss,
        false_alarm and defer, of more error and defer.
    """
    given = report.costs or {"error": report.error_cost, "defer": 1.0}
    names = ("miss", "false_alarm") if _two_kinds(report) else ("error",)
    return {name: given.get(name, given.get("error", 0.0)) for name in names} | {
        "defer": given["defer"]
    }


def _costs(report: RunReport) -> str:
    named = {
        "error": "A wrong decision costs",
        "false_alarm": "a false alarm",
        "defer": "a deferral",
    }
    if report.positive is not None:
        missed = wording.shorten(report.classes[report.positive], 24)
        named["miss"] = f"A missed image of class {missed} costs"
    return "".join(_field(name, named[name], price) for name, price in prices(report).items())


def _field(name: str, label: str, value: float) -> str:
    cost = "" if name == "volume" else f' data-cost="{name}"'
    return (
        f'<label>{text(label)} <input type="number" id="explorer-{name}"{cost} min="0" step="any" '
        f'value="{number_field(value)}"></label>'
    )


def _two_kinds(report: RunReport) -> bool:
    """Whether a wrong decision is either a miss or a false alarm."""
    return report.positive is not None and len(report.classes) == 2


def _never_decided(report: RunReport) -> bool:
    """Whether there are images that no threshold on the score decides."""
    return bool((report.confidence == -np.inf).any())


def number_field(value: float) -> str:
    """Return a number as an input field of a page takes it, for instance "10" or "2.5"."""
    return f"{value:g}" if value < 1e6 else number(value).replace(",", "")


@cache
def _script() -> str:
    return (files("selectkit.report") / "explorer.js").read_text(encoding="utf-8").strip()


def _harmless(table: str) -> str:
    return table.replace("<", "\\u003c")


def _basis_points(shares: Floats) -> list[int]:
    return [round(1e4 * float(share)) for share in np.nan_to_num(shares, nan=1.0)]
