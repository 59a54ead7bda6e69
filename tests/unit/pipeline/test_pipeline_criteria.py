import numpy as np
import pytest

from selectkit.arrays import softmax
from selectkit.errors import ConfigError
from selectkit.pipeline.criteria import criterion


def _coverage_at_fnr_naively(z: np.ndarray, y: np.ndarray, alpha: float) -> float:
    s, best = softmax(z).max(axis=1), 0.0
    for t in s:
        accepted = s >= t
        positives = accepted & (y == 1)
        missed = positives & (z.argmax(axis=1) != 1)
        if missed.sum() <= alpha * positives.sum():
            best = max(best, float(accepted.mean()))
    return best


@pytest.mark.parametrize("decimals", [1, 6])
def test_coverage_at_fnr_equals_the_naive_scan_with_and_without_ties(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    for alpha in (0.05, 0.3):
        z = rng.normal(size=(200, 2)).round(decimals)
        y = (z[:, 1] - z[:, 0] + rng.normal(size=200) > 0).astype(int)
        found = -criterion(f"coverage@fnr={alpha}", 1)(z, y)
        assert found == pytest.approx(_coverage_at_fnr_naively(z, y, alpha), abs=1e-12)


def test_nll_of_equal_logits_is_the_log_of_the_number_of_classes() -> None:
    assert criterion("nll", None)(np.zeros((5, 4)), np.arange(5) % 4) == pytest.approx(np.log(4))


def test_augrc_prefers_the_better_ranking() -> None:
    y = np.array([0, 0, 0, 1])
    sure_of_the_wrong_one = np.array([[1.0, 0], [1, 0], [1, 0], [3, 0]])
    unsure_of_it = np.array([[3.0, 0], [3, 0], [3, 0], [1, 0]])
    by = criterion("augrc", None)
    assert by(unsure_of_it, y) == pytest.approx((1 / 4) ** 2 / 2)  # a perfect ranking: e^2 / 2
    assert by(unsure_of_it, y) < by(sure_of_the_wrong_one, y)


@pytest.mark.parametrize("name", ["auc", "coverage@fnr", "coverage@fnr=2", "coverage@fpr=0.1"])
def test_unknown_criteria_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"use nll, augrc or coverage@fnr=0\.02"):
        criterion(name, 1)


def test_a_criterion_about_positives_needs_one() -> None:
    with pytest.raises(ConfigError, match="needs a positive class: give --positive LABEL"):
        criterion("coverage@fnr=0.1", None)
