"""The Markdown page of `heads_table`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks._heads_statistics import interval

if TYPE_CHECKING:
    from benchmarks.heads_table import Data, Question, Row

Answer = tuple["Question", float]
FAMILIES = {
    "losses": "losses against cross-entropy, both ranked by msp",
    "gates": "trained gates against msp of the same head",
    "scores": "scores against msp, on the cross-entropy head",
}
LEVEL = 0.05
READING = (
    "**How to read it.** AUGRC mixes accuracy and ranking, so between losses a difference may be "
    "one of accuracy; between scores of one head it is ranking alone. Scores by distance to train "
    "are made for foreign images, and these test sets hold none. Not told apart does not mean "
    "equal: most intervals are wider than any difference one would care for. Coverage at 1 % or "
    "2 % risk is read off the test curve, promises nothing, and is zero where already the most "
    "confident rows hold an error. All trained losses have the same hidden layer, batch and number "
    "of epochs; only the learning rate was chosen. A first run with one learning rate for all "
    "(3e-3) was thrown away: on road work its reference kept the weights of its second epoch, and "
    "everything beat it."
)


def document(data: Sequence["Data"], rows: Sequence["Row"], answers: Sequence[Answer]) -> str:
    """Return the page.

    Args:
        data: The data sets.
        rows: Every cell with its figures.
        answers: Every question with its p-value after Holm.

    Returns:
        Markdown.
    """
    parts = [
        "# Losses and scores",
        "<!-- generated: python -m benchmarks.heads_table -->",
        "Features of the embedded `tiny` backbone (a random network), class token and mean of "
        "patches side by side; fitted on train, chosen on val_select by NLL, judged once on "
        "val_test. Trained heads: means over five seeds, at the best of three learning rates on "
        "val_select. AUGRC in thousandths, lower is better; "
        "95 % intervals resample groups of rows, and seeds.",
        *_sizes(data),
        "## What is real",
        *(_family(name, [a for a in answers if a[0].family == name]) for name in FAMILIES),
        READING,
        *(_section(d.name, [r for r in rows if r.data == d.name]) for d in data),
    ]
    return "\n\n".join(parts) + "\n"


def _sizes(data: Sequence["Data"]) -> list[str]:
    lines = ["| | classes | train | val_select | val_test | groups in val_test |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    lines += [
        f"| {d.name} | {len(d.train.classes)} | {len(d.train.y):,} | {len(d.select.y):,} | "
        f"{len(d.test.y):,} | {len(set(d.test.groups)):,} |"
        for d in data
    ]
    return ["\n".join(lines)]


def _family(name: str, answers: Sequence[Answer]) -> str:
    real = [(q, p) for q, p in answers if p < LEVEL]
    better = [(q, p) for q, p in real if q.value < 0]
    lines = [
        f"**{FAMILIES[name][0].upper()}{FAMILIES[name][1:]}** ({len(answers)} questions, paired "
        f"bootstrap of 10,000, Holm over all of them): {len(better)} better, "
        f"{len(real) - len(better)} worse, {len(answers) - len(real)} not told apart."
    ]
    lines += [
        f"* {q.data}: {q.what}: {1000 * q.value:+.1f} ({1000 * q.low:+.1f} to "
        f"{1000 * q.high:+.1f}), p = {p:.2g}"
        for q, p in sorted(real, key=lambda a: (a[0].data, a[0].value))
    ]
    return lines[0] + ("\n\n" + "\n".join(lines[1:]) if real else "")


def _section(name: str, rows: Sequence["Row"]) -> str:
    losses = list(dict.fromkeys(r.cell.loss for r in rows))
    scores = list(dict.fromkeys(r.cell.score for r in rows))
    scores = [s for s in scores if s != "gate"] + ["gate"]
    of = {(r.cell.loss, r.cell.score): r for r in rows}
    lines = [f"| AUGRC x 1e-3 | accuracy | {' | '.join(scores)} |",
             "|---|---:|" + "---:|" * len(scores)]  # fmt: skip
    for loss in losses:
        accuracy = f"{of[loss, 'msp'].draws['accuracy'][0]:.3f}"
        areas = [
            f"{1000 * of[loss, s].draws['augrc'][0]:.1f}" if (loss, s) in of else "" for s in scores
        ]
        least = min(float(a) for a in areas if a)
        areas = [f"**{a}**" if a and float(a) == least else a for a in areas]
        lines.append(f"| {loss} | {accuracy} | {' | '.join(areas)} |")
    full = ["| loss | score | AUGRC x 1e-3 | coverage at 1 % risk | coverage at 2 % risk |",
            "|---|---|---:|---:|---:|"]  # fmt: skip
    for row in rows:
        area = _shown(row, "augrc", 1000, ".1f")
        one, two = (_shown(row, f"coverage_at_risk@{r}", 1, ".3f") for r in ("0.01", "0.02"))
        full.append(f"| {row.cell.loss} | {row.cell.score} | {area} | {one} | {two} |")
    table, details = "\n".join(lines), "\n".join(full)
    return (
        f"## {name}\n\n{table}\n\n<details><summary>All figures with intervals</summary>\n\n"
        f"{details}\n\n</details>"
    )


def _shown(row: "Row", metric: str, scale: float, form: str) -> str:
    found = interval(*row.draws[metric])
    value, low, high = (format(scale * v, form) for v in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"
