"""Laws of policies with several thresholds, for any rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit.policies import ClasswisePolicy, Guide, Target, Targets, TwoSidedPolicy
from selectkit.policies.outputs import Outputs
from selectkit.risk import Infeasible


def _rows(rng: np.random.Generator, n: int, values: int) -> Guide:
    p = rng.integers(0, values + 1, n) / values
    both = np.stack([1 - p, p], axis=1)
    return Guide(Outputs(both, both), (rng.random(n) < p).astype(np.int64))


ROWS = {"seed": st.integers(0, 10**6), "n": st.integers(2, 400), "values": st.integers(1, 50)}
ASKED = st.sampled_from(["error=0.1", "fnr=0.1,fpr=0.2", "miss_rate=0.05,error=0.2,deferral=0.7"])


@settings(max_examples=60, deadline=None)
@given(asked=ASKED, **ROWS)
def test_the_order_of_the_rows_does_not_matter(seed: int, n: int, values: int, asked: str) -> None:
    rng = np.random.default_rng(seed)
    calib, guide = _rows(rng, n, values), _rows(rng, n, values)
    shuffle, again = rng.permutation(n), rng.permutation(n)
    answers = [
        TwoSidedPolicy.fit(c.outputs, c.labels, targets=Targets.parse(asked), positive=1, guide=g)
        for c, g in ((calib, guide), (calib.take(shuffle), guide.take(again)))
    ]
    assert answers[0] == answers[1]
    whole = [
        ClasswisePolicy.fit(c.outputs, c.labels, target=Target("error", 0.2))
        for c in (calib, calib.take(shuffle))
    ]
    assert whole[0] == whole[1]


@settings(max_examples=60, deadline=None)
@given(asked=ASKED, **ROWS)
def test_what_is_certified_passes_its_own_tests_and_is_kept_by_the_decisions(
    seed: int, n: int, values: int, asked: str
) -> None:
    rng = np.random.default_rng(seed)
    calib, guide = _rows(rng, n, values), _rows(rng, n, values)
    policy = TwoSidedPolicy.fit(
        calib.outputs, calib.labels, targets=Targets.parse(asked), positive=1, guide=guide
    )
    if isinstance(policy, Infeasible):
        assert policy.needs is None or policy.needs > 0
        return
    d = policy.decide(calib.outputs)
    np.testing.assert_array_equal(d.accepted, d.score >= policy.threshold)
    assert policy.t0 <= policy.t1
    for c in policy.certificates:
        assert c.risk_upper <= c.alpha + 1e-12
        assert c.coverage == d.accepted.mean() >= c.coverage_lower
    assert TwoSidedPolicy.from_dict(policy.to_dict()) == policy
