"""Laws of certified thresholds that hold for every sample, ties included."""

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit.risk import Certificate, certify_threshold, labels_needed
from selectkit.stats import binomial_pvalue

laws = settings(derandomize=True, deadline=None, max_examples=150)
SAMPLES = st.tuples(
    st.integers(1, 400), st.integers(1, 60), st.floats(0, 0.2), st.integers(0, 10_000)
)
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Spec = tuple[int, int, float, int]


def draw(spec: Spec) -> tuple[Floats, Bools]:
    n, levels, slope, seed = spec
    rng = np.random.default_rng(seed)
    s = rng.integers(0, levels, n).astype(float)
    return s, rng.random(n) < slope * (1 - s / levels)


@laws
@given(SAMPLES, st.sampled_from([0.02, 0.05, 0.2]))
def test_what_is_certified_passes_its_own_test(spec: Spec, alpha: float) -> None:
    s, wrong = draw(spec)
    found = certify_threshold(s, wrong, alpha=alpha)
    if isinstance(found, Certificate):
        accepted = s >= found.threshold
        assert (found.n_accepted, found.errors) == (accepted.sum(), wrong[accepted].sum())
        assert binomial_pvalue(found.errors, found.n_accepted, alpha) <= 0.1
        assert found.errors / found.n_accepted <= found.risk_upper <= alpha
        assert 0 <= found.coverage_lower < found.coverage
    else:
        assert found.needs is None or found.needs > 0
        assert found.message().startswith(f"INFEASIBLE: error <= {alpha:g} with confidence 90 %")


@laws
@given(SAMPLES)
def test_row_order_does_not_matter(spec: Spec) -> None:
    s, wrong = draw(spec)
    order = np.random.default_rng(0).permutation(len(s))
    assert certify_threshold(s[order], wrong[order], alpha=0.1) == certify_threshold(
        s, wrong, alpha=0.1
    )


@laws
@given(SAMPLES)
def test_distinct_scores_as_a_grid_accept_the_same(spec: Spec) -> None:
    s, wrong = draw(spec)
    s = np.argsort(np.argsort(s, kind="stable")).astype(float)  # equal ones only start elsewhere
    free = certify_threshold(s, wrong, alpha=0.1)
    grid = certify_threshold(s, wrong, alpha=0.1, candidates=s)
    assert free.feasible == grid.feasible
    if isinstance(free, Certificate) and isinstance(grid, Certificate):
        assert free.n_accepted == grid.n_accepted
        assert free.threshold <= grid.threshold


@laws
@given(SAMPLES)
def test_one_start_on_all_samples_equals_a_plain_walk(spec: Spec) -> None:
    s, wrong = draw(spec)
    found = certify_threshold(s, wrong, alpha=0.1, denominator="all", risk="miss_rate")
    n, last = len(s), None
    for t in np.unique(s)[::-1]:
        if binomial_pvalue(int(wrong[s >= t].sum()), n, 0.1) > 0.1:
            break
        last = int((s >= t).sum())
    assert last == (found.n_accepted if isinstance(found, Certificate) else None)


@laws
@given(st.integers(0, 30), st.sampled_from([0.01, 0.05, 0.3]), st.sampled_from([0.01, 0.1, 0.5]))
def test_label_budget_grows_with_the_errors(errors: int, alpha: float, delta: float) -> None:
    n = labels_needed(alpha, delta, errors)
    assert binomial_pvalue(errors, n, alpha) <= delta
    assert n < labels_needed(alpha, delta, errors + 1)
