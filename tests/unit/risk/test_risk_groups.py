"""One threshold per group: each as if alone, delta shared when the promise is joint."""

from collections.abc import Callable

import numpy as np
import pytest

from selectkit.errors import DataError, RiskError
from selectkit.risk import (
    Certificate,
    Infeasible,
    certify_by_group,
    certify_threshold,
    labels_needed,
)


def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    u, groups = rng.random(3000), rng.choice(["a", "b", "c"], 3000, p=[0.6, 0.39, 0.01])
    return 1 - u, rng.random(3000) < 0.2 * u**2, groups


@pytest.mark.parametrize(("joint", "share"), [(True, 0.1 / 3), (False, 0.1)])
def test_each_group_is_certified_alone_with_its_share(joint: bool, share: float) -> None:
    s, wrong, groups = sample()
    found = certify_by_group(s, wrong, groups, alpha=0.05, joint=joint)
    assert list(found.answers) == ["a", "b", "c"]
    for name, answer in found.answers.items():
        mine = groups == name
        alone = certify_threshold(s[mine], wrong[mine], alpha=0.05, delta=share)
        if isinstance(answer, Certificate):
            assert isinstance(alone, Certificate)
            assert answer.threshold == alone.threshold
            assert (answer.delta, answer.about) == (share, f"group {name}")
        else:
            assert answer == alone
    small = found.answers["c"]
    assert isinstance(small, Infeasible)
    assert small.needs is not None
    assert small.needs >= labels_needed(0.05, share)
    assert not found.feasible


def test_thresholds_of_rows_defer_what_is_not_certified_or_unknown() -> None:
    s, wrong, groups = sample()
    found = certify_by_group(s, wrong, groups, alpha=0.05)
    a, b = (found.answers[g] for g in "ab")
    assert isinstance(a, Certificate)
    assert isinstance(b, Certificate)
    assert found.thresholds(["b", "a", "c", "new"]).tolist() == [
        b.threshold, a.threshold, np.inf, np.inf,
    ]  # fmt: skip
    assert found.thresholds([1, 2]).tolist() == [np.inf, np.inf]


def test_sentences_say_what_holds_together() -> None:
    s, wrong, groups = sample()
    said = certify_by_group(s, wrong, groups, alpha=0.05).sentences()
    assert "(group a)" in said[0]
    assert said[2].startswith("c: INFEASIBLE: error <= 0.05 with confidence 96.66 %")
    assert said[3] == (
        "All promises hold together with 90 % confidence; each one alone was tested at 96.66 %."
    )
    assert len(certify_by_group(s, wrong, groups, alpha=0.05, joint=False).sentences()) == 3


def test_classes_with_levels_of_their_own() -> None:
    s, wrong, groups = sample()
    classes = (groups == "a").astype(int)
    found = certify_by_group(
        s,
        wrong,
        classes,
        alpha={0: 0.2, 1: 0.05},
        kind="class",
        denominator="all",
        risk="miss_rate",
    )
    assert found.feasible
    assert [a.alpha for a in found.answers.values()] == [0.2, 0.05]
    first = found.answers[0]
    assert isinstance(first, Certificate)
    assert first.about == "class 0"
    assert first.n == (classes == 0).sum()


def test_losses_between_zero_and_one() -> None:
    s, wrong, groups = sample()
    found = certify_by_group(s, wrong * 0.4, groups, alpha=0.05)
    first = found.answers["a"]
    assert isinstance(first, Certificate)
    assert first.method.endswith("betting")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: certify_by_group([1, 2], [0, 1], ["a"], alpha=0.1),
            DataError,
            "groups have shape",
        ),
        (lambda: certify_by_group([1], [0], [0.5], alpha=0.1), DataError, "integers or strings"),
        (lambda: certify_by_group([1], [0], ["a"], alpha={"b": 0.1}), RiskError, "group 'a'"),
        (lambda: certify_by_group([1], [0], ["a"], alpha=0.1, delta=1), RiskError, "delta must be"),
        (lambda: certify_by_group([1], [np.nan], ["a"], alpha=0.1), DataError, "loss is nan"),
    ],
)
def test_refusals(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
