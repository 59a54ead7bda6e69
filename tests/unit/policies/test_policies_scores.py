"""Scores of known outputs, and the checks of `Outputs`."""

from math import log

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.arrays import softmax
from selectkit.errors import DataError
from selectkit.policies import SCORES, Outputs, scores


def _outputs(logits: npt.ArrayLike) -> Outputs:
    z = np.asarray(logits, dtype=np.float64)
    return Outputs(z, softmax(z))


def test_known_values() -> None:
    outputs = Outputs(
        np.log([[0.5, 0.25, 0.25], [2.0, 8.0, 6.0]]),
        np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]),
    )
    np.testing.assert_allclose(scores.msp(outputs), [0.5, 1.0])
    np.testing.assert_allclose(scores.margin(outputs), [log(2), log(8 / 6)])
    np.testing.assert_allclose(scores.neg_entropy(outputs), [-1.5 * log(2), 0.0], atol=1e-15)
    np.testing.assert_allclose(scores.energy(outputs), [0.0, log(16)], atol=1e-15)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_every_score_is_finite_ordered_and_row_by_row(name: str) -> None:
    z = np.random.default_rng(0).normal(size=(300, 5)) * 50
    z[0], z[1] = [60, 0, 0, 0, 0], [0, 0, 0, 0, 0]
    s = SCORES[name](_outputs(z))
    assert s.shape == (300,)
    assert s.dtype == np.float64
    assert np.isfinite(s).all()
    assert s[0] > s[1]
    np.testing.assert_array_equal(s[7:8], SCORES[name](_outputs(z[7:8])))


def test_for_two_classes_three_scores_rank_alike() -> None:
    outputs = _outputs(np.random.default_rng(1).normal(size=(200, 2)))
    orders = [np.argsort(SCORES[name](outputs)) for name in ("msp", "margin", "neg_entropy")]
    np.testing.assert_array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


def test_the_margin_does_not_saturate_where_the_probability_does() -> None:
    outputs = _outputs([[100.0, 0.0], [200.0, 0.0]])
    assert len(set(scores.msp(outputs))) == 1
    assert scores.margin(outputs).tolist() == [100.0, 200.0]


@pytest.mark.parametrize(
    ("logits", "probabilities", "message"),
    [
        (np.zeros((2, 2)), np.full((2, 3), 1 / 3), r"share one shape \(N, K\) with K >= 2, got"),
        (np.zeros((2, 1)), np.ones((2, 1)), r"share one shape \(N, K\) with K >= 2"),
        (np.zeros((1, 2)), np.array([[0.5, 0.6]]), r"row 0 are not a distribution \(sum 1.1\)"),
        (np.zeros((1, 2)), np.array([[-0.5, 1.5]]), "Pass a calibrator's output, not logits"),
        (np.zeros((1, 2)), np.array([[np.nan, 1.0]]), "probabilities is nan in row 0"),
        (np.array([[np.inf, 0]]), np.array([[1.0, 0.0]]), "logits is inf in row 0"),
    ],
)
def test_unusable_outputs_are_refused(
    logits: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Outputs(logits, probabilities)


def test_features_must_have_as_many_rows() -> None:
    with pytest.raises(DataError, match="features have 3 rows but logits have 2"):
        Outputs(np.zeros((2, 2)), np.full((2, 2), 0.5), np.zeros((3, 4)))


def test_outputs_know_their_length_and_prediction() -> None:
    outputs = _outputs([[0.0, 1.0, 1.0], [2.0, 0.0, 1.0]])
    assert len(outputs) == 2
    assert outputs.prediction.tolist() == [1, 0]
    assert outputs.prediction.dtype == np.int64
