"""Levels next to 0 and 1: an answer that can be told, or one clear error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selectkit import risk, stats
from selectkit.errors import RiskError

RNG = np.random.default_rng(0)
S, WRONG = RNG.random(300), RNG.random(300) < 0.1
MISSES = risk.Misses.of(1.0 * WRONG)

ANSWERS: dict[str, Callable[[float, float], Any]] = {
    "certify": lambda a, d: risk.certify_threshold(S, WRONG, alpha=a, delta=d),
    "all": lambda a, d: risk.certify_threshold(S, WRONG, alpha=a, delta=d, denominator="all"),
    "betting": lambda a, d: risk.certify_threshold(S, WRONG / 2, alpha=a, delta=d),
    "sgr": lambda a, d: risk.sgr(S, WRONG, alpha=a, delta=d),
    "crc": lambda a, d: risk.crc_threshold(S, WRONG, alpha=a, delta=d),
    "scrc": lambda a, d: risk.scrc_t(S, MISSES, alpha=a, delta=d),
    "split": lambda a, d: risk.scrc_split_pac(S, MISSES, alpha=a, delta=d),
    "joint": lambda a, d: risk.joint_certificate(S, MISSES, alpha=a, delta=d),
    "singletons": lambda a, d: risk.certify_singletons(S, WRONG, alpha=a, delta=d),
}
SMALL, LARGE = (1e-290, 1e-18, 1e-9), (0.5, 1 - 1e-16)


@pytest.mark.parametrize("alpha", [*SMALL, *LARGE])
@pytest.mark.parametrize("name", ANSWERS)
def test_any_level_has_an_answer(name: str, alpha: float) -> None:
    for delta in (*SMALL, *LARGE):
        answer = ANSWERS[name](alpha, delta)
        if isinstance(answer, risk.Infeasible):
            assert answer.message().startswith("INFEASIBLE")
            assert answer.needs is None or answer.needs > answer.n


@pytest.mark.parametrize("name", ANSWERS)
def test_levels_that_a_float_can_hardly_hold_are_refused(name: str) -> None:
    with pytest.raises(RiskError, match=r"too small to compute with|strictly between"):
        ANSWERS[name](5e-324, 0.1)
    with pytest.raises(RiskError, match="too small to compute with"):
        ANSWERS[name](0.1, 5e-324)


def test_bounds_of_levels_next_to_0() -> None:
    for delta in (1e-10, 1e-17, 1e-300):  # without an error: 1 - delta^(1 / n)
        exact = -np.expm1(np.log(delta) / 3000)
        assert stats.clopper_pearson_upper(0, 3000, delta) == pytest.approx(exact, rel=1e-12)
    assert stats.hoeffding_bentkus_upper(0.01, 300, 1e-290) <= 1
    with pytest.raises(RiskError, match="delta = 5e-324 is too small"):
        stats.hoeffding_bentkus_upper(0.01, 300, 5e-324)
