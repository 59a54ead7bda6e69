"""The winner of a sweep, judged on rows that it was not chosen by."""

from pathlib import Path

import numpy as np
import pytest

from selectkit.pipeline.criteria import criterion
from selectkit.pipeline.fit import FitSummary
from selectkit.pipeline.reestimate import Reestimate, reestimate, statistic
from selectkit.pipeline.trials import SweepSummary, Trial

NAMES = ("nll", "augrc", "coverage@fnr=0.2")


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("name", NAMES)
def test_a_statistic_is_the_criterion_of_the_materialised_resample(
    name: str, decimals: int
) -> None:
    rng = np.random.default_rng(decimals)
    z = rng.normal(size=(80, 2)).round(decimals)
    y = (z[:, 1] - z[:, 0] + rng.normal(size=80) > 0).astype(np.int64)
    weights = rng.multinomial(80, np.full(80, 1 / 80), size=20)
    found = statistic(name, z, y, 1)(weights)
    judge = criterion(name, 1)
    for w, value in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(80), w)
        assert value == pytest.approx(judge(z[rows], y[rows]), abs=1e-12)


def test_without_positives_a_coverage_is_undefined() -> None:
    z, y = np.zeros((4, 2)), np.array([0, 0, 0, 1])
    weights = np.array([[1, 1, 2, 0], [1, 1, 1, 1]])
    assert np.isnan(statistic("coverage@fnr=0.1", z, y, 1)(weights)).tolist() == [True, False]


def _noise(n: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """M configurations that know nothing: their accuracies differ by chance alone."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, n, 2)), rng.integers(0, 2, n)


@pytest.mark.parametrize("name", NAMES[:2])
def test_the_best_of_many_equal_ones_is_flattered_and_the_estimate_is_not(name: str) -> None:
    """The truth: the mean criterion of all, which are alike."""
    naive, honest, truth = [], [], []
    for seed in range(30):
        z, y = _noise(60, 20, seed)
        statistics = [statistic(name, one, y, None) for one in z]
        groups = np.arange(60).astype(object)
        found = reestimate(statistics, groups, n_replicates=60, rng=np.random.default_rng(seed))
        naive.append(found.naive)
        honest.append(found.value)
        big, labels = _noise(4000, 1, seed + 1000)
        truth.append(criterion(name, None)(big[0], labels))
    spread = float(np.std(honest) / np.sqrt(30))
    assert np.mean(naive) < np.mean(truth) - 5 * spread
    assert abs(np.mean(honest) - np.mean(truth)) < 5 * spread


def test_a_clear_winner_wins_every_resample_and_keeps_its_figure() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    good = np.where(np.arange(2) == y[:, np.newaxis], 2.0, 0.0) + rng.normal(size=(300, 2)) / 3
    z = np.stack([good, rng.normal(size=(300, 2))])
    statistics = [statistic("nll", one, y, None) for one in z]
    groups = np.arange(300).astype(object)
    found = reestimate(statistics, groups, rng=np.random.default_rng(0))
    assert found.won.tolist() == [1, 0]
    assert found.low < found.naive < found.high
    assert found.value == pytest.approx(found.naive, rel=0.02)


def test_groups_enter_and_leave_together() -> None:
    """Copies of rows change nothing: they do not vouch for each other."""
    z, y = _noise(40, 10, 5)
    groups = np.arange(40).astype(object)
    alone = reestimate(
        [statistic("nll", one, y, None) for one in z], groups, rng=np.random.default_rng(1)
    )
    copies = reestimate(
        [statistic("nll", np.repeat(one, 3, axis=0), np.repeat(y, 3), None) for one in z],
        np.repeat(groups, 3),
        rng=np.random.default_rng(1),
    )
    assert copies.value == pytest.approx(alone.value, rel=1e-12)
    assert copies.won.tolist() == alone.won.tolist()


def test_one_group_says_nothing() -> None:
    z, y = _noise(10, 3, 0)
    found = reestimate(
        [statistic("nll", one, y, None) for one in z],
        np.array(["a"] * 10, dtype=object),
        rng=np.random.default_rng(0),
    )
    assert np.isnan(found.value)
    assert found.n_replicates == 0


@pytest.mark.parametrize(
    ("by", "naive", "value", "words"),
    [
        ("nll", 0.3, 0.35, "is flattered (winner's curse): nll = 0.3."),
        ("nll", 0.3, 0.29, "can be flattered (winner's curse), which does not show here: nll = "),
        ("coverage@fnr=0.1", -0.8, -0.6, "is flattered (winner's curse): coverage@fnr=0.1 = 0.8."),
        ("nll", 0.3, np.nan, "too few groups to say by how much"),
    ],
)
def test_the_warning_says_what_the_estimate_shows(
    tmp_path: Path, by: str, naive: float, value: float, words: str
) -> None:
    fitted = FitSummary(tmp_path, "mlp", ("a", "b"), "b", 9, 9, 0.9, 0.3, 1.0, ())
    estimate = Reestimate(naive, value, value, value, np.array([0.5, 0.5]), 10)
    trials = tuple(Trial(i + 1, {"seed": i}, criterion=naive) for i in range(2))
    summary = SweepSummary(fitted, by, ("seed",), trials, 1, estimate, 1.0)
    (line,) = summary.warnings
    assert words in line
