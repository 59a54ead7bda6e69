"""The promise of a cascade is about the whole cascade, over draws of the calibration rows.

Rows are drawn with replacement from a finite population, so the true risk of every tuple of
thresholds is a mean over that population. A promise counts as broken only if so many misses are a
one-in-a-million event where it holds.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from selectkit.policies import Outputs
from selectkit.policies.cascade import grid as grids
from selectkit.policies.cascade.expected import ExpectedRows
from selectkit.policies.cascade.grid import Grid
from selectkit.policies.cascade.rows import CascadeRows, StageCosts, measured
from selectkit.policies.cascade.search import searched
from selectkit.policies.constraints import Constraint
from selectkit.risk import Certificate, certify_threshold

DELTA, POPULATION = 0.1, 20_000
COSTS = StageCosts((0.1, 1.0, 3.0), human=20.0)
COSTS_OF_TWO = StageCosts((0.1, 1.0), human=20.0)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "_TUPLES", 225)


def population(noise: Sequence[float]) -> CascadeRows:
    """Stages that see the log-odds of a label through more or less noise."""
    rng = np.random.default_rng(0)
    z = rng.normal(-0.3, 3, POPULATION)
    y = (rng.random(POPULATION) < 1 / (1 + np.exp(-2 * z))).astype(np.int64)
    seen = [2 * z + rng.normal(0, s, POPULATION) for s in noise]
    return CascadeRows(
        tuple(np.abs(u) for u in seen), tuple((u > 0).astype(np.int64) for u in seen), y
    )


def expected(rows: CascadeRows) -> ExpectedRows:
    """The same rows as a guide: each stage's score is the log-odds of its prediction."""
    stages = []
    for score, said in zip(rows.scores, rows.predictions, strict=True):
        z = np.where(said == 1, score, -score)
        p = 1 / (1 + np.exp(-z))
        stages.append(Outputs(np.stack([0 * z, z], axis=1), np.stack([1 - p, p], axis=1)))
    return ExpectedRows.of(rows.scores, stages, np.asarray(rows.labels), 1)


def some(rows: CascadeRows, rng: np.random.Generator, n: int) -> CascadeRows:
    i = rng.integers(0, POPULATION, n)
    assert rows.labels is not None
    return CascadeRows(
        tuple(s[i] for s in rows.scores), tuple(p[i] for p in rows.predictions), rows.labels[i]
    )


def truth(
    rows: CascadeRows, thresholds: Sequence[float], wanted: Sequence[Constraint]
) -> npt.NDArray[np.float64]:
    """The true rates of one tuple."""
    one = Grid(tuple(np.array([t]) for t in thresholds))
    found = measured(rows, one, wanted, StageCosts(COSTS.stages[: len(thresholds)]), 1)
    return np.asarray(found.errors[0] / np.maximum(found.n[0], 1))


def broken(misses: int, runs: int) -> bool:
    return bool(binom.sf(misses - 1, runs, DELTA) < 1e-6)


@pytest.mark.parametrize(
    ("noise", "wanted", "last_decides", "ordered", "runs", "floor"),
    [
        ((4.0, 1.0), [Constraint("error", 0.06)], False, True, 2000, 0.9),
        ((4.0, 1.0), [Constraint("error", 0.06)], False, False, 500, 0.3),
        ((4.0, 2.0, 0.5), [Constraint("error", 0.06)], False, True, 2000, 0.9),
        ((4.0, 1.0), [Constraint("error", 0.15)], True, True, 500, 0.9),
        ((4.0, 1.0), [Constraint("fnr", 0.08), Constraint("deferral", 0.5)], False, True, 500, 0.6),
    ],
)
def test_the_whole_cascade_keeps_its_promise(
    noise: tuple[float, ...],
    wanted: list[Constraint],
    last_decides: bool,
    ordered: bool,
    runs: int,
    floor: float,
) -> None:
    """For the tuple that is chosen, and for all that are certified at once."""
    rows, rng = population(noise), np.random.default_rng(1)
    costs = StageCosts(COSTS.stages[: len(noise)], COSTS.human)
    grid = Grid.of(some(rows, rng, 2000).scores, last_decides=last_decides)
    known = measured(rows, grid, wanted, costs, 1)
    rates = known.errors / np.maximum(known.n, 1)
    unsafe = np.any(rates > np.array([c.alpha for c in wanted]), axis=1)
    certified = chosen = anywhere = 0
    guides = [expected(some(rows, rng, 300)) if ordered else None for _ in range(50)]
    for run in range(runs):  # the promise holds whatever the guide is
        calib, guide = some(rows, rng, 500), guides[run % len(guides)]
        found = searched(
            calib, guide, grid, tuple(wanted), costs, 1, DELTA, last_decides=last_decides
        )
        certified += found.best is not None
        chosen += found.best is not None and bool(unsafe[found.best])
        anywhere += bool((found.tested.certified & unsafe).any())
    assert not broken(chosen, runs)
    assert not broken(anywhere, runs)
    assert certified > floor * runs


def test_what_is_certified_is_most_of_what_is_possible() -> None:
    rows, rng = population((4.0, 1.0)), np.random.default_rng(2)
    wanted = (Constraint("error", 0.06),)
    free = StageCosts(COSTS.stages[:2])
    grid = Grid.of(rows.scores, last_decides=False)
    known = measured(rows, grid, wanted, free, None)
    best = known.coverage[known.errors[:, 0] <= 0.06 * known.n[:, 0]].max()
    reached = []
    for _ in range(200):
        select, calib = some(rows, rng, 1000), some(rows, rng, 2000)
        found = searched(
            calib, expected(select), grid, wanted, free, None, DELTA, last_decides=False
        )  # fmt: skip
        reached.append(0.0 if found.best is None else float(known.coverage[found.best]))
    assert np.mean(reached) > 0.9 * best


def test_expecting_errors_finds_a_start_where_counting_them_gives_up() -> None:
    """Of many tuples those that happen to accept no error of the guide look safest to a count."""
    rows, rng = population((4.0, 0.5)), np.random.default_rng(5)
    wanted = (Constraint("error", 0.03),)
    by_count = by_expectation = 0
    for _ in range(200):
        select, calib = some(rows, rng, 200), some(rows, rng, 400)
        grid = Grid.of(select.scores, last_decides=False)
        counted, guided = (
            searched(calib, guide, grid, wanted, COSTS_OF_TWO, None, DELTA, last_decides=False)
            for guide in (select, expected(select))
        )
        by_count += counted.best is None
        by_expectation += guided.best is None
    assert by_count > 40
    assert by_expectation < by_count / 2


def test_an_order_from_the_rows_that_certify_breaks_the_promise() -> None:
    """The broken twin: the calibration rows say themselves what to test first.

    A twelfth of the labels is wrong at random: there every tuple errs more often than promised.
    """
    clean, rng = population((4.0, 1.0)), np.random.default_rng(6)
    assert clean.labels is not None
    flipped = clean.labels ^ (rng.random(POPULATION) < 1 / 12)
    rows = replace(clean, labels=flipped)
    wanted, runs = (Constraint("error", 0.08),), 500
    grid = Grid.of(rows.scores, last_decides=False)
    known = measured(rows, grid, wanted, COSTS_OF_TWO, None)
    unsafe = known.errors[:, 0] > 0.08 * known.n[:, 0]
    guides = [expected(some(rows, rng, 200)) for _ in range(50)]
    misses, twin = 0, 0
    for run in range(runs):
        calib = some(rows, rng, 200)
        found, peeked = (
            searched(calib, guide, grid, wanted, COSTS_OF_TWO, None, DELTA, last_decides=False)
            for guide in (guides[run % len(guides)], calib)
        )
        misses += found.best is not None and bool(unsafe[found.best])
        twin += peeked.best is not None and bool(unsafe[peeked.best])
    assert not broken(misses, runs)
    assert broken(twin, runs)


def test_a_certificate_of_the_first_stage_says_nothing_about_the_cascade() -> None:
    """The broken twin: stage A is certified, stage B decides the rest because it looks good."""
    rows, rng = population((4.0, 1.0)), np.random.default_rng(3)
    assert rows.labels is not None
    marginal = (rows.predictions[1] != rows.labels).mean()
    alpha = float(marginal) * 1.1  # B errs less than alpha on all rows, not on those it is given
    misses = of_first = 0
    runs = 500
    for _ in range(runs):
        calib = some(rows, rng, 500)
        wrong = calib.predictions[0] != calib.labels
        found = certify_threshold(calib.scores[0], wrong, alpha=alpha, delta=DELTA)
        if isinstance(found, Certificate):
            wanted = [Constraint("error", alpha)]
            misses += truth(rows, (found.threshold, -np.inf), wanted)[0] > alpha
            of_first += truth(rows, (found.threshold, np.inf), wanted)[0] > alpha
    assert not broken(of_first, runs)
    assert broken(misses, runs)


def test_choosing_on_the_rows_that_certify_breaks_the_promise() -> None:
    """The broken twin: of all tuples that look good on the calibration rows, the best."""
    rows, rng = population((4.0, 1.0)), np.random.default_rng(4)
    wanted, costs = [Constraint("error", 0.06)], StageCosts((0.1, 1.0))
    misses, runs = 0, 500
    for _ in range(runs):
        calib = some(rows, rng, 500)
        grid = Grid.of(calib.scores, last_decides=False)
        found = measured(calib, grid, wanted, costs, None)
        k, n = found.errors[:, 0], found.n[:, 0]
        looks = np.flatnonzero((n > 0) & (k <= 0.06 * n))
        best = int(looks[np.argmax(found.coverage[looks])])
        misses += truth(rows, grid.thresholds(best), wanted)[0] > 0.06
    assert broken(misses, runs)
