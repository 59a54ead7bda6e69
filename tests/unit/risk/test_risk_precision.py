"""A threshold decides the same on scores of half, single and double precision, before and after
it is written to a file."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from selectkit.risk import (
    Certificate,
    Infeasible,
    Misses,
    SelectiveSets,
    certify_by_group,
    certify_threshold,
    crc_threshold,
    scrc_split_pac,
    sgr,
)

Answer = Certificate | Infeasible
DTYPES = [np.float16, np.float32, np.float64]


def by_group(confidence: Any, loss: Any, alpha: float) -> Answer:
    return certify_by_group(confidence, loss, np.zeros(len(loss), int), alpha=alpha).answers[0]


METHODS: dict[str, Callable[..., Answer]] = {
    "certify": certify_threshold,
    "all": partial(certify_threshold, denominator="all"),
    "grid": partial(certify_threshold, candidates=np.linspace(0, 1, 101)),
    "sgr": sgr,
    "crc": crc_threshold,
    "group": by_group,
}


def sample(dtype: type, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    s: npt.NDArray[Any] = rng.random(2000).astype(dtype)
    return s, rng.random(2000) < 0.6 * (1 - s.astype(np.float64)) ** 2


def decides_alike(answer: Answer, s: npt.NDArray[Any]) -> None:
    assert isinstance(answer, Certificate)
    stored = Certificate.from_dict(json.loads(json.dumps(answer.to_dict())))
    assert stored == answer
    in_float64 = s.astype(np.float64) >= stored.threshold
    assert in_float64.sum() == answer.n_accepted
    np.testing.assert_array_equal(s >= stored.threshold, in_float64)
    np.testing.assert_array_equal((torch.tensor(s) >= stored.threshold).numpy(), in_float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_decisions_do_not_depend_on_the_precision_of_the_comparison(
    method: str, dtype: type, seed: int
) -> None:
    s, wrong = sample(dtype, seed)
    decides_alike(METHODS[method](s, wrong, alpha=0.05), s)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_between_0_and_1(dtype: type) -> None:
    s, wrong = sample(dtype, 0)
    decides_alike(certify_threshold(s, 0.7 * wrong, alpha=0.05), s)


@pytest.mark.parametrize("dtype", DTYPES)
def test_accepting_all_accepts_nobody_who_is_always_deferred(dtype: type) -> None:
    s: npt.NDArray[Any] = np.append(np.linspace(0, 1, 200), [-np.inf] * 3).astype(dtype)
    answer = certify_threshold(s, np.zeros(203), alpha=0.05)
    assert isinstance(answer, Certificate)
    assert answer.n_accepted == (s >= answer.threshold).sum() == 200


@pytest.mark.parametrize("dtype", DTYPES)
def test_sets_accept_who_ties_with_the_threshold(dtype: type) -> None:
    s, wrong = sample(dtype, 0)
    found = scrc_split_pac(s, Misses.of(1.0 * wrong), xi=0.5, alpha=0.3)
    assert isinstance(found, SelectiveSets)
    np.testing.assert_array_equal(found.accepts(s), found.accepts(s.astype(np.float64)))


def test_double_precision_is_left_alone() -> None:
    s, wrong = sample(np.float64, 0)
    answer = certify_threshold(s, wrong, alpha=0.05)
    assert isinstance(answer, Certificate)
    assert np.nextafter(answer.threshold, -np.inf) in s
