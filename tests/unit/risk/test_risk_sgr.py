"""SGR: only a threshold whose own bound passed is returned."""

import numpy as np
import pytest

from selectkit.errors import DataError
from selectkit.risk import Certificate, Infeasible, certify_threshold, labels_needed, sgr
from selectkit.stats import binomial_pvalue, clopper_pearson_upper


def test_the_own_bound_of_the_answer_passes_at_its_share() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        u = rng.random(1000)
        wrong = rng.random(1000) < 0.26 * u**2
        found = sgr(1 - u, wrong, alpha=0.05)
        assert isinstance(found, Certificate)
        accepted = 1 - u >= found.threshold
        assert (found.n_accepted, found.errors) == (accepted.sum(), wrong[accepted].sum())
        assert binomial_pvalue(found.errors, found.n_accepted, 0.05) <= 0.1 / 10
        assert clopper_pearson_upper(found.errors, found.n_accepted, 0.1 / 10) <= 0.05
        assert "union over 10 steps" in found.method
        assert "never falls" in found.assumptions[-1]


def test_a_search_without_success_promises_nothing() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):  # no signal: the published code returns its last probe
        answer = sgr(rng.random(1000), rng.random(1000) < 0.2, alpha=0.05)
        assert isinstance(answer, Infeasible)
        assert answer.delta == 0.1
        assert answer.needs is None


def test_too_few_samples_say_how_many() -> None:
    answer = sgr(np.arange(40), np.zeros(40), alpha=0.05)
    assert isinstance(answer, Infeasible)
    assert answer.needs == labels_needed(0.05, 0.1)


def test_ends_and_ties() -> None:
    everything = sgr(np.append(np.arange(500), -np.inf), np.zeros(501), alpha=0.05)
    assert isinstance(everything, Certificate)
    assert everything.n_accepted == 500
    tied = sgr(np.ones(500), np.arange(500) < 5, alpha=0.05)
    assert isinstance(tied, Certificate)
    assert (tied.n_accepted, tied.errors) == (500, 5)
    assert not sgr([-np.inf] * 500, np.zeros(500), alpha=0.05).feasible


def test_certify_threshold_accepts_more() -> None:
    rng = np.random.default_rng(2)
    more = []
    for _ in range(50):
        u = rng.random(1000)
        wrong = rng.random(1000) < 0.26 * u**2
        both = [rule(1 - u, wrong, alpha=0.05) for rule in (certify_threshold, sgr)]
        more.append([a.coverage if isinstance(a, Certificate) else 0.0 for a in both])
    walk, search = np.mean(more, axis=0)
    assert walk > search


def test_fractional_losses_are_refused() -> None:
    with pytest.raises(DataError, match="loss must be 0 or 1 in every row"):
        sgr([1, 2], [0, 0.5], alpha=0.1)
