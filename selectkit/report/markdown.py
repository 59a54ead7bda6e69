"""The report as Markdown: the same tables, figures beside it."""

import re
from collections.abc import Sequence
from math import isnan

from selectkit.report import kept, wording
from selectkit.report.card import NOTHING
from selectkit.report.model import RunReport
from selectkit.report.parts import Estimate, Flow, Sets
from selectkit.report.sections import TITLES, drawings
from selectkit.report.wording import number, percent


def document(report: RunReport, figures: str) -> str:
    """Return the report as Markdown.

    Args:
        report: The run.
        figures: Folder of the PNG figures, relative to the document.

    Returns:
        The document.
    """
    parts = [
        f"# {cell(report.title)}",
        f"Run {cell(report.run)}, evaluated {cell(report.created)}",
        f"**{wording.PROMISES[report.promise]}.** Target: {cell(report.target)}",
        *([NOTHING] if report.promise == "infeasible" else []),
        *map(cell, report.certificate),
    ]
    if report.warnings:
        parts += ["## Before you rely on this", _list(report.warnings)]
    if report.promises:
        parts += ["## Promises, checked", _promises(report)]
    if report.policies:
        parts += ["## Policies", _policies(report)]
    if report.sets is not None and report.sets.passed:
        parts += ["## Prediction sets", _sets(report.sets)]
    if report.flow is not None:
        parts += ["## Stages", _stages(report.flow)]
    parts += ["## Figures"]
    parts += [cell(report.ranked_by)] if report.ranked_by else []
    for name, drawn in drawings(report).items():
        parts += [f"### {TITLES[name]}", f"![{cell(drawn.alt)}]({figures}/{drawn.name}.png)"]
    if report.groups:
        parts += ["## Groups", _groups(report)]
    if report.metrics:
        parts += ["## All metrics", _metrics(report)]
    if report.provenance:
        parts += ["## Provenance", _list([f"{k}: {v}" for k, v in report.provenance.items()])]
    if report.commands:
        parts += ["## Reproduce", "\n".join(f"    {line}" for line in report.commands)]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; columns of figures are aligned right, the first never.

    Args:
        header: Names of the columns.
        rows: Cells as plain text.

    Returns:
        The table, without a line break at its end.
    """
    marks = ["---:" if i and _of_figures(rows, i) else "---" for i in range(len(header))]
    lines = [header, marks, *rows]
    return "\n".join(
        "| " + " | ".join(c if i == 1 else cell(c) for c in line) + " |"
        for i, line in enumerate(lines)
    )


def _of_figures(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(re.match(r"[-+±<>]?\s?[\d–∞-]", row[column]) for row in rows if row[column])


def cell(words: str) -> str:
    """Return text of which Markdown makes nothing but text, on one line."""
    for mark in "\\`*_[]<>|#!":
        words = words.replace(mark, "&lt;" if mark == "<" else f"\\{mark}")
    return " ".join(words.split())


def _policies(report: RunReport) -> str:
    rows = [
        [
            row.policy + (" (this report)" if row.active else ""),
            _rate(row.coverage),
            _rate(row.error),
            f"{row.deferred:,}",
            row.bound,
        ]
        for row in report.policies
    ]
    header = ["Policy", "Coverage", "Wrong among decided", "Deferred", "Promised"]
    if any(row.cost is not None for row in report.policies):
        header.append("Mean cost")
        for line, row in zip(rows, report.policies, strict=True):
            line.append("–" if row.cost is None else wording.cost(row.cost[0]))
    return table(header, rows)


def _promises(report: RunReport) -> str:
    rows = [
        [row.promise[:1].upper() + row.promise[1:], *kept.figure(row), row.verdict]
        for row in kept.foremost(report.promises)
    ]
    return table(["Promise", "On the test split", "95 % interval", "Counted", "Verdict"], rows)


def _sets(found: Sets) -> str:
    rows = [
        [str(row.size), f"{row.n:,}", f"{row.n - row.inside:,}", percent(1 - row.inside / row.n)]
        for row in found.sizes
    ]
    return table(["Classes in the set", "Images", "Without the true class", "Share"], rows)


def _stages(cascade: Flow) -> str:
    rows = [
        [row.name, row.rule, f"{wording.cost(row.cost)} {cascade.unit}", f"{row.reached:,}",
         f"{row.decided:,}", f"{row.wrong:,}", _rate(row.error)]
        for row in cascade.stages
    ]  # fmt: skip
    cost = (
        f"Mean cost {wording.cost(cascade.cost[0])} {cascade.unit}; {cascade.deferred:,} deferred."
    )
    header = ["Stage", "Decides if", "Cost", "Reached by", "Decides", "Wrong", "Error"]
    return f"{table(header, rows)}\n\n{cell(cost)}"


def _groups(report: RunReport) -> str:
    rows = [
        [row.name, f"{row.n:,}", f"{row.accepted:,}", f"{row.wrong:,}"]
        + ([f"{row.missed:,} of {row.positives:,}"] if report.positive is not None else [])
        for row in report.groups
    ]
    header = ["Group", "Images", "Decided", "Wrong"]
    return table(header + (["Missed positives"] if report.positive is not None else []), rows)


def _metrics(report: RunReport) -> str:
    rows = []
    for name in (name for _, names in wording.parted(report.metrics) for name in names):
        estimate = report.metrics[name]
        label, _, rate = wording.metric(name)
        shown = percent(estimate[0]) if rate else number(estimate[0])
        rows.append([label, shown, wording.interval(estimate, rate)])
    return table(["Metric", "Value", "95 % interval"], rows)


def _rate(estimate: Estimate) -> str:
    if isnan(estimate[1]):
        return percent(estimate[0])
    return f"{percent(estimate[0])} ({wording.interval(estimate, True)})"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"* {cell(line)}" for line in lines)
