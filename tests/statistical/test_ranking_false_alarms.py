"""Scores that are no better than msp are seldom called better, however many there are."""

import numpy as np
from scipy.stats import binom

from selectkit.pipeline.ranking import LEVEL, ranked

RUNS, ROWS, SCORES = 150, 400, 6


def test_false_alarms_of_all_scores_together_stay_near_the_level() -> None:
    rng = np.random.default_rng(0)
    alarms, uncorrected = 0, 0
    for seed in range(RUNS):
        quality = rng.random(ROWS)
        wrong = rng.random(ROWS) < 0.5 * (1 - quality)
        names = ["msp", *(f"score{i}" for i in range(SCORES))]
        scores = {name: quality + 0.4 * rng.normal(size=ROWS) for name in names}
        rows = ranked(scores, wrong, n_replicates=400, seed=seed)
        alarms += any(row.verdict in {"better", "worse"} for row in rows)
        uncorrected += any(row.p < LEVEL for row in rows if row.score != "msp")
    # Bootstrap p-values are approximate: half as much again is allowed for.
    assert binom.sf(alarms - 1, RUNS, 1.5 * LEVEL) >= 1e-6
    # The broken twin, without correction, is found out by the same rule.
    assert binom.sf(uncorrected - 1, RUNS, 1.5 * LEVEL) < 1e-6


def test_a_score_that_is_better_is_found() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for seed in range(20):
        quality = rng.random(ROWS)
        wrong = rng.random(ROWS) < 0.5 * (1 - quality)
        scores = {"msp": quality + 0.6 * rng.normal(size=ROWS), "good": quality}
        scores |= {f"score{i}": scores["msp"] + 0.1 * rng.normal(size=ROWS) for i in range(3)}
        rows = ranked(scores, wrong, n_replicates=400, seed=seed)
        found += next(row for row in rows if row.score == "good").verdict == "better"
    assert found >= 15
