"""Label metrics against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from selectkit.errors import DataError
from selectkit.metrics import accuracy, auroc, balanced_accuracy, fnr, fpr, mcc, miss_rate


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_scikit_learn_agrees(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    y = rng.integers(0, n_classes, 200)
    guess = np.where(rng.random(200) < 0.6, y, rng.integers(0, n_classes, 200))
    assert accuracy(y, guess) == pytest.approx(sk.accuracy_score(y, guess), abs=1e-12)
    expected = sk.balanced_accuracy_score(y, guess)
    assert balanced_accuracy(y, guess) == pytest.approx(expected, abs=1e-12)
    assert mcc(y, guess) == pytest.approx(sk.matthews_corrcoef(y, guess), abs=1e-12)
    score = np.round(rng.normal(size=200) + (y == 1), 1)
    assert auroc(score, y == 1) == pytest.approx(sk.roc_auc_score(y == 1, score), abs=1e-12)


def test_only_accepted_samples_count() -> None:
    rng = np.random.default_rng(0)
    y, guess, taken = rng.integers(0, 3, 99), rng.integers(0, 3, 99), rng.random(99) < 0.5
    for metric in (accuracy, balanced_accuracy, mcc, fnr, fpr):
        assert metric(y, guess, taken) == pytest.approx(metric(y[taken], guess[taken]))


def test_the_two_false_negative_rates() -> None:
    y = np.array([1, 1, 1, 1, 0, 0, 2])
    guess = np.array([1, 0, 0, 2, 1, 0, 1])
    taken = np.array([True, True, False, True, True, True, False])
    assert fnr(y, guess, taken) == pytest.approx(2 / 3)
    assert miss_rate(y, guess, taken) == pytest.approx(2 / 4)
    assert fpr(y, guess, taken) == pytest.approx(1 / 2)
    assert fnr(y, guess) == miss_rate(y, guess) == pytest.approx(3 / 4)
    assert fnr(y, guess, taken, positive=0) == 0.5


def test_undefined_rates_are_nan() -> None:
    y, guess, none = np.array([0, 0]), np.array([0, 1]), np.zeros(2, dtype=bool)
    assert math.isnan(fnr(y, guess))
    assert math.isnan(miss_rate(y, guess))
    assert math.isnan(fpr(y, guess, none))
    assert math.isnan(accuracy(y, guess, none))
    assert math.isnan(mcc(y, guess, none))
    assert math.isnan(auroc([0.1, 0.2], [1, 1]))
    assert math.isnan(fnr(y, guess, positive=9))


def test_mcc_of_one_class_is_zero() -> None:
    assert mcc([0, 1, 1], [1, 1, 1]) == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: accuracy([0.5], [1]), "labels must be integers of shape .* float64"),
        (lambda: accuracy([], []), "labels must be integers"),
        (lambda: accuracy([1, 0], [1]), r"one shape, got \(2,\), \(1,\)"),
        (lambda: fnr([1], [1], [1]), "accepted must be booleans, got dtype int64"),
        (lambda: auroc([0.1, 0.2], [0, 3]), "positive must be 0 or 1"),
        (lambda: auroc([0.1, math.nan], [0, 1]), "score is nan in row 1"),
    ],
)
def test_refusals(call: object, text: str) -> None:
    assert callable(call)
    with pytest.raises(DataError, match=text):
        call()
