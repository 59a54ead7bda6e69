"""What metrics hold beside their inputs at the worst moment, in bytes per sample."""

import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from selectkit import metrics as m

N = 200_000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def peak(action: Callable[[], object]) -> float:
    tracemalloc.start()
    action()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / N


def evaluated(make: Callable[[], m.Statistics], weights: npt.NDArray[np.uint8]) -> object:
    return make()(weights)


@pytest.fixture(scope="module", params=[2, 10])
def sample(request: pytest.FixtureRequest) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(request.param, 0.3), N)
    drawn = (np.cumsum(0.9 * p + 0.1 / request.param, axis=1) < rng.random((N, 1))).sum(axis=1)
    return p, np.minimum(drawn, request.param - 1)


@pytest.mark.parametrize(
    ("metric", "most"),
    [
        (m.nll, 20),
        (m.brier, 20),
        (m.ece, 20),
        (partial(m.ece, scheme="mass"), 30),
        (m.mce, 20),
        (partial(m.debiased_squared_ece, scheme="mass"), 30),
        (m.smooth_ece, 30),
        (m.smooth_reliability, 30),
        (m.classwise_ece, 20),
        (partial(m.classwise_ece, scheme="mass"), 30),
        (m.adaptive_ece, 30),
        (partial(m.brier_parts, n_bins=15), 30),
    ],
)
def test_metrics_of_probabilities(
    sample: tuple[Floats, Ints], metric: Callable[..., object], most: float
) -> None:
    """A copy of ten columns alone would be 80 bytes per sample."""
    p, y = sample
    single = p.astype(np.float32)
    assert peak(lambda: metric(p, y)) < most
    assert peak(lambda: metric(single, y)) < most


@pytest.mark.parametrize("digits", [3, 16])
def test_metrics_of_ranks(sample: tuple[Floats, Ints], digits: int) -> None:
    p, y = sample
    s, guess = np.round(p.max(axis=1), digits), p.argmax(axis=1)
    wrong = guess != y
    assert peak(lambda: m.selective_metrics(["aurc", "augrc"], s, wrong)) < 55
    assert peak(lambda: m.working_points(s, wrong, coverages=[0.8], risks=[0.1])) < 55
    assert peak(lambda: m.delong(["augrc", "auroc_failure"], s, wrong)) < 50
    assert peak(lambda: m.augrc_balanced(s, wrong, y)) < 65
    assert peak(lambda: m.auroc(s, wrong)) < 50


def test_statistics_and_what_they_hold(sample: tuple[Floats, Ints]) -> None:
    p, y = sample
    guess, once = p.argmax(axis=1), np.ones((1, N), dtype=np.uint8)
    makers: list[tuple[Callable[[], m.Statistics], float]] = [
        (partial(m.label_statistics, ["mcc", "fnr"], y, guess), 25),
        (partial(m.probability_statistics, ["nll", "brier", "ece"], p, y), 60),
        (partial(m.curve_statistics, ["aurc", "augrc"], p.max(axis=1), guess != y), 90),
    ]
    for make, most in makers:
        assert peak(partial(evaluated, make, once)) < most
