"""What does fine-tuning through the conformal step change, before and after, on rows of a test?

Run `python -m benchmarks.conformal_training --data ../shared/data`. Both heads are
`MlpHead`s; epochs of the fine-tuning are chosen on val_select, figures are of other rows: the false
positive rate at the threshold where the false negative rate of the test rows is the target, which
is a point of the ROC curve and no promise, or the mean size of sets. The synthetic rows are those
of `tests/statistical/test_conformal_training.py`, where cross-entropy is the wrong aim; hpc_cv is a
second stage on the log-odds of a published classifier ("L", 6 % of the rows, and all classes), with
its resamples dealt out to the splits.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from selectkit.heads import ConformalRisk, ConformalSets, MlpHead, Recipe, starting_network
from selectkit.pipeline.conformal import Conformal, objective

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = tuple[Floats, Ints]
SEEDS = 10
PLAIN = Recipe(hidden=None, epochs=60, learning_rate=1e-2)


class Problem(NamedTuple):
    """Rows of three splits, how many classes they have, and what is aimed at."""

    name: str
    train: Rows
    select: Rows
    test: Rows
    n_classes: int
    loss: Conformal


def synthetic(seed: int) -> Problem:
    """Return rows whose positives are of two kinds, one of them rare."""

    def rows(n: int, offset: int) -> Rows:
        rng = np.random.default_rng(offset + seed)
        y = (rng.random(n) < 0.3).astype(np.int64)
        x = rng.normal(size=(n, 4))
        few = (rng.random(n) < 0.08) & (y == 1)
        x[(y == 1) & ~few, 0] += 4
        x[few, 1] += 3
        return x, y

    splits = rows(4000, 0), rows(2000, 100), rows(40_000, 300)
    return Problem("synthetic, fnr=0.02", *splits, 2, ConformalRisk(0.02))


def hpc(folder: Path, seed: int) -> Iterator[Problem]:
    """Yield questions about hpc_cv, its ten resamples dealt out anew for every seed."""
    with (folder / "hpc_cv" / "hpc_cv.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    names = ["VF", "F", "M", "L"]
    x = np.log(np.clip([[float(r[name]) for name in names] for r in found], 1e-6, 1))
    y = np.array([names.index(r["obs"]) for r in found])
    folds = np.array([r["Resample"] for r in found])
    order = np.random.default_rng(seed).permutation(np.unique(folds))
    parts = [np.isin(folds, order[cut]) for cut in (slice(5), slice(5, 7), slice(7, 10))]
    x = np.asarray(x)
    rare = (y == names.index("L")).astype(np.int64)
    train, select, test = ((x[p], rare[p]) for p in parts)
    yield Problem("hpc_cv, L, fnr=0.1", train, select, test, 2, ConformalRisk(0.1))
    train, select, test = ((x[p], y[p]) for p in parts)
    loss = ConformalSets(0.1, temperature=0.5)
    yield Problem("hpc_cv, sets, error=0.1", train, select, test, 4, loss)


def before_and_after(problem: Problem, seed: int) -> tuple[float, float, float]:
    """Return the figure on test rows before and after, and the seconds of the fine-tuning."""
    judge = objective(problem.loss)
    weighted = isinstance(problem.loss, ConformalRisk)
    plain = replace(PLAIN, seed=seed, class_weights="balanced" if weighted else None)
    fit = partial(MlpHead.fit, *problem.train, select=problem.select, n_classes=problem.n_classes)
    before = fit(recipe=plain)
    begin = perf_counter()
    after = fit(
        start=starting_network(before),
        criterion=judge,
        recipe=replace(PLAIN, epochs=100, patience=30, batch_size=1024, loss=problem.loss),
    )
    took = perf_counter() - begin
    x, y = problem.test
    return judge(before.logits(x), y), judge(after.logits(x), y), took


def main() -> None:
    """Print the figures, medians over seeds; the difference is paired."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(SEEDS):
        problems = [synthetic(seed)]
        if (data / "hpc_cv").is_dir():
            problems += hpc(data, seed)
        for problem in problems:
            found.setdefault(problem.name, []).append(before_and_after(problem, seed))
    for name, figures in found.items():
        before, after, took = np.array(figures).T
        unit = "classes" if "sets" in name else "share of negatives"
        for what, values, of in (
            ("before fine-tuning", before, unit),
            ("after fine-tuning", after, unit),
            ("after - before", after - before, unit),
            ("fine-tuning", took, "s"),
        ):
            number, spread = middle(values.tolist())
            figure(f"{name}: {what}", number, of, spread=spread, packages=("numpy", "torch"))


if __name__ == "__main__":
    main()
