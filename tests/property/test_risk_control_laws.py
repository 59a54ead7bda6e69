"""Laws of risk control that hold for every sample: walks, budgets, groups, grids."""

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit.risk import (
    Certificate,
    certify_by_group,
    certify_pvalues,
    certify_threshold,
    crc_threshold,
    sgr,
)
from selectkit.stats import binomial_pvalue, wsr_pvalues

laws = settings(derandomize=True, deadline=None, max_examples=60)
SAMPLES = st.tuples(
    st.integers(1, 20_000), st.integers(1, 30_000), st.floats(0, 0.4), st.integers(0, 10_000)
)
ALPHAS = st.sampled_from([0.01, 0.05, 0.2])
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Spec = tuple[int, int, float, int]


def draw(spec: Spec) -> tuple[Floats, Bools]:
    """Scores with ties and some that are always deferred; errors that depend on them."""
    n, levels, slope, seed = spec
    rng = np.random.default_rng(seed)
    s = rng.integers(0, levels, n).astype(float)
    wrong = rng.random(n) < slope * (1 - s / levels) ** rng.integers(0, 3)
    return np.where(rng.random(n) < 0.05, -np.inf, s), wrong


@laws
@given(SAMPLES, ALPHAS, st.sampled_from(["accepted", "all"]))
def test_walking_over_errors_is_walking_over_all_scores(
    spec: Spec, alpha: float, denominator: str
) -> None:
    s, wrong = draw(spec)
    grid = np.append(np.unique(s[s > -np.inf]), 1e9)
    if denominator == "accepted":
        free = certify_threshold(s, wrong, alpha=alpha)
        plain = certify_threshold(s, wrong, alpha=alpha, candidates=grid)
    else:
        free = certify_threshold(s, wrong, alpha=alpha, denominator="all")
        plain = certify_threshold(s, wrong, alpha=alpha, denominator="all", candidates=grid)
        if isinstance(plain, Certificate) and plain.n_accepted == 0:
            assert not free.feasible  # only a grid can lie above all scores
            return
    assert free.feasible == plain.feasible
    if isinstance(free, Certificate) and isinstance(plain, Certificate):
        assert (free.n_accepted, free.errors) == (plain.n_accepted, plain.errors)
        assert free.risk_upper == plain.risk_upper <= alpha


@laws
@given(SAMPLES, ALPHAS)
def test_conformal_risk_control_fills_its_budget(spec: Spec, alpha: float) -> None:
    s, wrong = draw(spec)
    found = crc_threshold(s, wrong, alpha=alpha)
    budget = int(np.floor(alpha * (len(s) + 1) - 1 + 1e-9))
    assert found.feasible == (budget >= 0)
    if isinstance(found, Certificate):
        accepted = s >= found.threshold
        assert (found.n_accepted, found.errors) == (accepted.sum(), wrong[accepted].sum())
        assert found.errors <= budget
        laxer = s[(s < found.threshold) & (s > -np.inf)]
        assert laxer.size == 0 or wrong[s >= laxer.max()].sum() > budget


@laws
@given(SAMPLES, ALPHAS)
def test_binary_search_never_goes_beyond_its_own_bound(spec: Spec, alpha: float) -> None:
    s, wrong = draw(spec)
    found = sgr(s, wrong, alpha=alpha)
    if isinstance(found, Certificate):
        accepted = s >= found.threshold
        assert (found.n_accepted, found.errors) == (accepted.sum(), wrong[accepted].sum())
        assert binomial_pvalue(found.errors, found.n_accepted, alpha) <= 0.1
    else:
        assert found.needs is None or found.needs > 0


@laws
@given(SAMPLES, st.integers(1, 5))
def test_a_single_group_is_everyone_and_rows_may_come_in_any_order(spec: Spec, parts: int) -> None:
    s, wrong = draw(spec)
    groups = np.arange(len(s)) % parts
    order = np.random.default_rng(0).permutation(len(s))
    found = certify_by_group(s, wrong, groups, alpha=0.05)
    assert found == certify_by_group(s[order], wrong[order], groups[order], alpha=0.05)
    if parts == 1:
        alone, (grouped,) = certify_threshold(s, wrong, alpha=0.05), found.answers.values()
        assert grouped.to_dict() | {"about": None} == alone.to_dict() | {"about": None}


@laws
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_procedures_certify_more_with_smaller_pvalues(p: list[float], delta: float) -> None:
    smaller = np.array(p) / 2
    for procedure in ("bonferroni", "fixed_sequence", "multi_start"):
        starts = [0] if procedure == "multi_start" else None
        less, more = (
            certify_pvalues(x, delta, procedure=procedure, starts=starts) for x in (p, smaller)
        )
        assert not (less.certified & ~more.certified).any()
    single = certify_pvalues(p, delta, procedure="multi_start", starts=[0])
    walk = certify_pvalues(p, delta, procedure="fixed_sequence")
    assert (single.certified == walk.certified).all()


@laws
@given(st.integers(1, 200), st.integers(1, 20), st.floats(0.01, 0.9), st.integers(0, 999))
def test_betting_against_a_larger_mean_wins_more(n: int, m: int, alpha: float, seed: int) -> None:
    x = np.random.default_rng(seed).random((n, m)) ** 3
    low, high = (
        wsr_pvalues(x, a, np.random.default_rng(0)) for a in (alpha, alpha + (1 - alpha) / 2)
    )
    assert (high <= low).all()
    assert ((low > 0) & (low <= 1)).all()
