"""Which exit policies keep their promise, what do they cover, and what does the comparison cost?

Run `python -m benchmarks.exit_policies > benchmarks/results/exit_policies.jsonl`; it looks for real
tables in `--data`, and writes `benchmarks/results/exit_policies.md` beside it. Populations are
drawn from known laws or are real tables; a table is its own population, of which every re-split
calibrates on 1,000 rows. A promise counts as broken when the risk on the whole population is above
it. MAPIE and TorchCP take part where they are installed (`benchmarks._exit_peers` says how).
`--speed` times all policies on 50,000 rows and 1,000 re-splits instead: on a quiet machine.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks._exit_peers import missing, peers
from benchmarks._exit_rows import BOTH, PLAIN, PRICES, Question, asked, questions, synthetic
from benchmarks._figures import commit, figure, machine
from selectkit.pipeline.bench import compare_policies
from selectkit.pipeline.bench_answer import PolicyBench, Standing
from selectkit.report import markdown

ROOT = Path(__file__).resolve().parents[1]
DELTA = 0.1
PEERS = {"MAPIE": "mapie", "TorchCP": "torchcp"}


def answered(question: Question, splits: int, workers: int | None) -> list[PolicyBench]:
    """Compare on one population, one answer for each target."""
    rows = question.rows
    return [
        compare_policies(
            rows,
            [targets],
            delta=DELTA,
            share=question.n_calib / len(rows),
            splits=splits,
            workers=workers,
            only=question.only,
            extra=peers(targets, rows.n_classes, DELTA, plain=question.only == PLAIN),
        )
        for targets in question.targets
    ]


def figures(name: str, standing: Standing, splits: int) -> None:
    """Print what came of one policy."""
    setting = f"{standing.target}, delta {DELTA}, {name}, {splits:,} re-splits: {standing.policy}"
    packages = ["numpy", *(p for start, p in PEERS.items() if standing.policy.startswith(start))]
    broken = standing.broken
    if standing.gave_up < 1:
        figure(f"promise broken, {setting}", broken.rate, "fraction",
               spread=(broken.low, broken.high), packages=packages)  # fmt: skip
    quantiles = standing.coverage_quantiles
    figure(f"mean coverage, {setting}", standing.coverage, "fraction",
           spread=(quantiles[0], quantiles[-1]), packages=packages)  # fmt: skip
    if standing.cost is not None:
        figure(f"mean cost, {setting}", standing.cost, PRICES.unit, packages=packages)
    if standing.slack is not None:
        figure(f"mean reported bound less true risk, {setting}", standing.slack, "fraction",
               packages=packages)  # fmt: skip


def speed(splits: int) -> None:
    """Time the comparison on 50,000 rows, half of them for calibration."""
    rows = synthetic(2, 50_000)
    for name, targets in (
        ("all eleven policies, error=0.05", asked("error=0.05")),
        (f"fifteen answers to error=0.05 and {BOTH}", asked("error=0.05", BOTH)),
    ):
        start = perf_counter()
        compare_policies(rows, targets, delta=DELTA, splits=splits)
        took = perf_counter() - start
        figure(f"bench policies, 50,000 rows, {splits:,} re-splits: {name}", took, "s",
               packages=("numpy", "scipy"))  # fmt: skip


def document(answers: Sequence[tuple[str, PolicyBench]], splits: int) -> str:
    """Return the tables as Markdown."""
    lacking = missing()
    parts = [
        "# Exit policies beside each other",
        f"`python -m benchmarks.exit_policies`, {splits:,} random re-splits each, delta = {DELTA}; "
        f"{machine()}; commit {commit()}."
        + (f" Not installed: {', '.join(lacking)}." if lacking else ""),
        ABOUT,
    ]
    for name, answer in answers:
        for title, header, rows in answer.tables():
            parts += [f"## {name}: {title}", markdown.table(header, rows)]
    return "\n\n".join(parts) + "\n"


ABOUT = """
Broken: the share of all re-splits in which the risk on the whole population is above the promise,
with its 95 % interval; where there is no rule (gave up) nothing is broken. On test: the same on the
rows that were not calibrated on; it is not what is promised. Risk: the target's, on the whole
population, a mean over re-splits; slack: the reported bound less that risk. Exit error and FNR: of
the rows that were decided. Times are of one thread and were not taken on a quiet machine.

What it shows, and what it does not. A threshold read off the calibration rows breaks its promise
about half of the time where the target is what holds it back. All that promises with confidence
stays below delta, and pays in coverage; most stay far below, as a walk over thresholds stops at its
first failed test, and drawing a part of a finite table is a little easier than drawing from the
world. Splitting rows, or delta, costs the most. What is promised on average is kept on average and
broken in up to half of the re-splits. Sets say nothing about the rows with a single class in
theirs: decided alone, these can be wrong more often than the target (two classes, reviews, persons,
jobs). MAPIE has the same idea on a grid and keeps its promise too: on 100 thresholds with less
coverage, where Holm's correction, or a start at a threshold that accepts too few rows, costs it the
test; on a grid of pairs with less coverage than two-sided thresholds. Tables come without other
rows to guide policies with several thresholds, which then give a third of their calibration rows
away. Neither MAPIE nor TorchCP was made for this question; what they were given to do is said
in `benchmarks/_exit_peers.py`. The drawn gate is a noisy copy of the confidence, so it cannot win
here, and a table of one confidence says nothing about sets.

Cascades: a drawn population, whose second stage knows the right probabilities and whose first does
not, and two networks of others on the same test images. Their prices are made up (1 and 4 for each
image that reaches a stage, 50 for a person), so costs say how policies compare at these prices, and
nothing about the networks. All policies but the cascade run the first stage alone, and the one that
is named after the last stage that stage alone.

How a guide expects wrong labels was chosen among seven variants by the coverage of two-sided
thresholds on cleanlab_imdb_dev, on persons and on the drawn two classes: their figures flatter it,
those of the other tables do not. Cascades expect errors in the same way, so the drawn one, whose
second stage is the drawn two classes, is flattered, too; that they do, and start where it is safest
with all of delta, was chosen on other cascades (`selectkit.policies.cascade.search` says which).
The promises do not depend on the guide. With a target on one side only, two-sided thresholds may
call every image one class: their coverage says nothing then, and `calibrate --policy auto` does not
try them.
""".strip()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--only", default="", help="part of a population's name")
    parser.add_argument("--speed", action="store_true", help="time it, and nothing else")
    arguments = parser.parse_args()
    if arguments.speed:
        speed(arguments.splits)
        return
    for package in missing():
        print(f"{package} is not installed and is left out", file=sys.stderr)
    answers = []
    for name, question in questions(arguments.data):
        if arguments.only not in name:
            continue
        for answer in answered(question, arguments.splits, arguments.workers):
            answers.append((name, answer))
            for standing in answer.standings:
                figures(name, standing, arguments.splits)
        if not arguments.only:
            path = ROOT / "benchmarks/results/exit_policies.md"
            path.write_text(document(answers, arguments.splits), encoding="utf-8")


if __name__ == "__main__":
    main()
