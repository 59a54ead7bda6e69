"""The learning rate at its end points; averages of constant weights are these weights."""

from itertools import pairwise
from math import cos, pi
from typing import Literal

import numpy as np
import pytest
import torch

from selectkit.heads.training.averaging import MovingAverage
from selectkit.heads.training.schedule import average_decay, horizon_decay, learning_rate_at


def test_the_schedule_starts_peaks_and_ends_where_it_should() -> None:
    rates = [learning_rate_at(step, 100, 2.0) for step in range(100)]
    np.testing.assert_allclose(rates[:6], [0.4, 0.8, 1.2, 1.6, 2.0, 2.0])
    assert rates[-1] == pytest.approx(1 + cos(pi * 94 / 95))
    assert all(a > b for a, b in pairwise(rates[5:]))
    assert learning_rate_at(0, 1, 2.0) == 2.0
    assert [learning_rate_at(step, 2, 2.0) for step in range(2)] == [2.0, 2.0]


def test_the_warm_up_can_be_none_or_nearly_all() -> None:
    assert learning_rate_at(0, 10, 1.0, warm_up=0.0) == 1.0
    rates = [learning_rate_at(step, 10, 1.0, warm_up=1.0) for step in range(10)]
    np.testing.assert_allclose(rates, [*(np.arange(1, 10) / 9), 1.0])


def test_the_average_warms_up_to_a_tenth_of_the_training() -> None:
    assert [average_decay(step, 5) for step in range(5)] == [0.0] * 5
    assert average_decay(0, 1000) == 0.1
    assert average_decay(999, 1000) == 0.99
    assert average_decay(10**7, 10**7) == 0.9999
    assert horizon_decay(1000) == 0.99


Kind = Literal["warm-up", "bias-corrected"] | None


@pytest.mark.parametrize("kind", ["warm-up", "bias-corrected", None])
def test_constant_weights_are_their_own_average_from_the_first_step(kind: Kind) -> None:
    weights = [torch.randn(2, 3, generator=torch.Generator().manual_seed(0))]
    average = MovingAverage(weights, kind, total=500)
    for step in range(50):
        average.update(weights, step)
        torch.testing.assert_close(average.values()[0], weights[0])


def test_the_average_is_the_weighted_sum_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randn(1, 3, generator=generator, dtype=torch.float64) for _ in range(40)]
    warm, corrected, last = (
        MovingAverage([steps[0]], kind, total=200) for kind in ("warm-up", "bias-corrected", None)
    )
    expected_warm, summed, weight = steps[0], torch.zeros(1, 3, dtype=torch.float64), 0.0
    for t, w in enumerate(steps):
        for average in (warm, corrected, last):
            average.update([w], t)
        d = min(0.95, (1 + t) / (10 + t))
        expected_warm = d * expected_warm + (1 - d) * w
        summed, weight = 0.95 * summed + 0.05 * w, 0.95 * weight + 0.05
    torch.testing.assert_close(warm.values()[0], expected_warm)
    torch.testing.assert_close(corrected.values()[0], summed / weight)
    assert weight == pytest.approx(1 - 0.95**40)
    torch.testing.assert_close(last.values()[0], steps[-1])


@pytest.mark.parametrize("kind", ["warm-up", "bias-corrected", None])
def test_a_saved_average_goes_on_as_if_nothing_had_happened(kind: Kind) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randn(1, 3, generator=generator) for _ in range(6)]
    straight = MovingAverage([steps[0]], kind, total=50)
    for t in range(3):
        straight.update([steps[t]], t)
    resumed = MovingAverage([steps[5]], kind, total=50)
    resumed.load_state_dict({name: t.clone() for name, t in straight.state_dict().items()})
    for t in range(3, 6):
        straight.update([steps[t]], t)
        resumed.update([steps[t]], t)
    assert torch.equal(straight.values()[0], resumed.values()[0])
