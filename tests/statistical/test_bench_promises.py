"""`bench policies` tells rules that keep their promise from those that do not."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from selectkit.arrays import softmax
from selectkit.pipeline.bench import compare_policies
from selectkit.pipeline.bench_answer import PolicyBench
from selectkit.pipeline.bench_rows import Population
from selectkit.policies import Guide, Outputs, Targets

SPLITS, DELTA = 300, 0.1


def drawn(n: int, seed: int) -> Guide:
    """Two classes, one of them rarer, with probabilities that are right."""
    rng = np.random.default_rng(seed)
    z = np.stack([np.zeros(n), rng.normal(-1.0, 2.5, n)], axis=1)
    p = softmax(z)
    return Guide(Outputs(z, p), (rng.random(n) < p[:, 1]).astype(np.int64))


@pytest.fixture(scope="module")
def answer() -> PolicyBench:
    pool = drawn(8000, seed=0)
    gate = np.abs(pool.outputs.logits[:, 1]) + np.random.default_rng(1).normal(0, 0.5, 8000)
    rows = Population.of_arrays(pool.outputs, pool.labels, guide=drawn(1000, seed=2), gate=gate)
    asked = [Targets.parse("error=0.08"), Targets.parse("fnr=0.15,fpr=0.1")]
    return compare_policies(rows, asked, delta=DELTA, share=0.1, splits=SPLITS, seed=3)


def test_certified_policies_keep_their_promise(answer: PolicyBench) -> None:
    judged = [s for s in answer.standings if s.kind == "pac" and s.gave_up < 1]
    assert len(judged) >= 9
    for s in judged:
        assert scipy_stats.binom.sf(s.broken.count - 1, SPLITS, DELTA) >= 1e-6, s
        assert s.risk is not None
    assert not answer.refuted


def test_an_empirical_threshold_breaks_it(answer: PolicyBench) -> None:
    for s in answer.standings:
        if s.policy == "empirical threshold":
            assert scipy_stats.binom.sf(s.broken.count - 1, SPLITS, DELTA) < 1e-6
            assert s.refuted(DELTA) is False  # it never promised with confidence
            assert s.broken.low > DELTA


def test_promises_are_not_kept_by_doing_nothing(answer: PolicyBench) -> None:
    by_name = {(s.target, s.policy): s for s in answer.standings}
    sweep = by_name["error=0.08", "empirical threshold"].coverage
    for policy in ("one threshold", "two-sided", "scrc, singletons"):
        assert by_name["error=0.08", policy].coverage > 0.75 * sweep
    single, pair = (by_name["fnr=0.15,fpr=0.1", p] for p in ("one threshold", "two-sided"))
    assert pair.coverage > single.coverage + 0.1  # rare positives want two thresholds


def test_a_promise_on_average_is_kept_on_average(answer: PolicyBench) -> None:
    (sets,) = [s for s in answer.standings if s.kind == "expectation"]
    assert sets.risk == pytest.approx(0.08, abs=0.003)
    assert sets.broken.low > DELTA  # and says nothing about a single split
    assert sets.coverage == pytest.approx(0.8, abs=0.005)


def test_a_small_test_part_adds_chance_of_its_own() -> None:
    pool = drawn(2000, seed=5)
    rows = Population.of_arrays(pool.outputs, pool.labels)
    answer = compare_policies(
        rows, [Targets.parse("error=0.08")], delta=DELTA, share=0.85, splits=SPLITS, seed=6
    )
    for s in answer.standings:
        if s.policy == "one threshold":
            assert s.broken_test.rate > s.broken.rate + 0.05
