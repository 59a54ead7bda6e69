"""Scores against a reference: hand-made answers, and the paired comparison of the metrics."""

import numpy as np
import pytest

from selectkit import metrics
from selectkit.metrics import holm
from selectkit.pipeline.ranking import ranked


def test_holm_is_the_step_down_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    with_hole = holm([0.02, float("nan")])
    assert with_hole[0] == pytest.approx(0.02)
    assert np.isnan(with_hole[1])
    assert holm([]) == []


def _sample() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    quality = rng.random(600)
    wrong = rng.random(600) < 0.4 * (1 - quality) ** 2
    msp = quality + 0.3 * rng.normal(size=600)
    noise = rng.normal(size=600)
    return {"msp": msp, "good": quality, "alike": 3 * msp + 1, "noise": noise}, wrong


def test_verdicts_say_what_the_sample_shows() -> None:
    scores, wrong = _sample()
    rows = ranked(scores, wrong, n_replicates=500, seed=0)
    assert [row.score for row in rows][:1] == ["good"]
    said = {row.score: row.verdict for row in rows}
    assert said == {
        "msp": "reference", "good": "better", "alike": "ranks as msp", "noise": "worse",
    }  # fmt: skip
    assert [row.score for row in rows].index("msp") < [row.score for row in rows].index("alike")


def test_figures_are_those_of_the_paired_comparison() -> None:
    scores, wrong = _sample()
    groups = np.arange(600) // 3
    rows = ranked(scores, wrong, groups=groups, n_replicates=300, seed=4)
    noise = next(row for row in rows if row.score == "noise")
    pair = metrics.compare_paired(
        "augrc", scores["noise"], wrong, scores["msp"], wrong,
        n_replicates=300, groups=groups, rng=np.random.default_rng(4),
    )  # fmt: skip
    assert noise.augrc.value == pytest.approx(pair.a)
    np.testing.assert_allclose(
        [noise.difference.low, noise.difference.high],
        [pair.difference.low, pair.difference.high],
    )
    assert noise.p == pair.p_value
    assert noise.auroc_failure == pytest.approx(metrics.auroc_failure(scores["noise"], wrong))


def test_a_score_that_ranks_alike_is_no_further_question() -> None:
    scores, wrong = _sample()
    with_alike = ranked(scores, wrong, n_replicates=200, seed=0)
    del scores["alike"]
    without = ranked(scores, wrong, n_replicates=200, seed=0)
    p = {row.score: row.p_holm for row in with_alike}
    assert p.pop("alike") == 1.0
    assert p == {row.score: row.p_holm for row in without}


def test_without_errors_nothing_can_be_told() -> None:
    scores, wrong = _sample()
    rows = ranked(scores, np.zeros_like(wrong), n_replicates=100, seed=0)
    assert {row.augrc.value for row in rows} == {0.0}
    assert {row.verdict for row in rows} == {"reference", "not told from msp"}
    assert rows[0].score == "msp"
