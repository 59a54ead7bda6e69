"""Rules that share one delta: known answers, relations between them, refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selectkit.errors import DataError, RiskError
from selectkit.stats.multiplicity import bonferroni, fixed_sequence, multi_start, split

P = np.array([0.01, 0.03, 0.2, 0.02, 0.04, 0.001])


def test_known_answers() -> None:
    assert bonferroni(P, 0.1).tolist() == [True, False, False, False, False, True]
    assert fixed_sequence(P, 0.1).tolist() == [True, True, False, False, False, False]
    assert split(P, 0.1, [0.5, 0, 0.1, 0, 0.4, 0]).tolist() == [True, *[False] * 3, True, False]
    assert multi_start(P, 0.1, [0, 3]).tolist() == [True, True, False, True, True, True]


def test_a_stretch_that_passed_hands_its_level_on() -> None:
    assert multi_start([0.05, 0.1], 0.1, [0, 1]).tolist() == [True, True]
    assert multi_start([0.06, 0.1], 0.1, [0, 1]).tolist() == [False, False]
    assert multi_start([0.06, 0.05, 0.09], 0.1, [0, 1]).tolist() == [False, True, False]
    assert multi_start([0.03, 0.06, 0.1], 0.1, [0, 1, 1]).tolist() == [True, True, True]


def test_special_cases_agree() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.random(8) ** 4
        assert (multi_start(p, 0.1, [0]) == fixed_sequence(p, 0.1)).all()
        assert (split(p, 0.1, np.full(8, 1 / 8)) == bonferroni(p, 0.1)).all()
        everywhere = multi_start(p, 0.1, np.arange(8))
        assert (everywhere | ~bonferroni(p, 0.1)).all()  # the fallback contains Bonferroni


def test_nothing_before_the_first_start_and_nothing_without_a_share() -> None:
    assert multi_start([0.0, 0.0], 0.1, [1]).tolist() == [False, True]
    assert split([0.0, 0.0], 0.1, [0, 1]).tolist() == [False, True]


@pytest.mark.parametrize(
    "rule",
    [
        bonferroni,
        fixed_sequence,
        lambda p, delta: split(p, delta, np.full(np.shape(p), 0.1)),
        lambda p, delta: multi_start(p, delta, [0]),
    ],
)
def test_refusals_of_every_rule(rule: Callable[[Any, float], Any]) -> None:
    for p, words in (
        ([0.5, np.nan], "nan at index 1"),
        ([-0.1], "index 0"),
        ([0.2, 1.1], "index 1"),
        ([], "M >= 1"),
        ([[0.1]], "shape"),
    ):
        with pytest.raises(DataError, match=words):
            rule(p, 0.1)
    for delta in (0.0, 1.0, np.nan):
        with pytest.raises(RiskError, match="delta"):
            rule([0.1], delta)


@pytest.mark.parametrize("shares", [[0.5], [0.9, 0.2], [-0.1, 0.5], [np.nan, 0.5]])
def test_shares_are_parts_of_a_whole(shares: list[float]) -> None:
    with pytest.raises(RiskError, match="sum to at most 1"):
        split([0.1, 0.2], 0.1, shares)


@pytest.mark.parametrize("starts", [[], [2], [-1], [0.0], [[0]], [True]])
def test_starts_are_indices(starts: list[Any]) -> None:
    with pytest.raises(RiskError, match="starts must be"):
        multi_start([0.1, 0.2], 0.1, starts)
