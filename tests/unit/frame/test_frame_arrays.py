import numpy as np
import pytest
import torch

from selectkit import arrays
from selectkit.errors import DataError


def test_a_matrix_with_nan_names_the_first_place() -> None:
    x = np.zeros((3, 2))
    x[1, 1] = np.nan
    with pytest.raises(DataError, match=r"features is nan in row 1, column 1 \(1 such entries\)"):
        arrays.finite_matrix(x, "features")


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (2,), (2, 2, 2)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="must have shape"):
        arrays.finite_matrix(np.zeros(shape), "features")


def test_complex_and_text_are_refused() -> None:
    with pytest.raises(DataError, match="real numbers, got dtype complex128"):
        arrays.finite_vector(np.zeros(3, dtype=complex), "score")
    with pytest.raises(DataError, match="real numbers, got dtype <U1"):
        arrays.finite_vector(np.array(["a"]), "score")


def test_masked_entries_are_refused_and_named() -> None:
    x = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(DataError, match="score has masked entries: leave their rows out"):
        arrays.finite_vector(x, "score")
    x.mask = False
    assert arrays.finite_vector(x, "score").tolist() == [1, 2]


def test_a_tensor_that_needs_a_gradient_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"score cannot be read as an array: .*detach\(\)"):
        arrays.finite_vector(torch.zeros(2, requires_grad=True), "score")


def test_inputs_are_copied() -> None:
    x = np.zeros((2, 2))
    arrays.finite_matrix(x, "features")[:] = 1
    assert not x.any()


def test_labels_out_of_range_name_the_row() -> None:
    with pytest.raises(DataError, match=r"label 2 in row 1 is outside \[0, 2\)"):
        arrays.class_labels([0, 2], 2, 2)
    with pytest.raises(DataError, match="must be integers"):
        arrays.class_labels([0.0, 1.0], 2, 2)
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        arrays.class_labels([0, 1], 3, 2)


def test_logits_need_two_classes() -> None:
    with pytest.raises(DataError, match="at least 2 columns"):
        arrays.labelled_logits([[1.0]], [0])


def test_probabilities_must_be_a_distribution() -> None:
    arrays.labelled_probabilities(np.array([[0.333, 0.667]], dtype=np.float16), [0])
    with pytest.raises(DataError, match="row 0 are not a distribution: smallest -1, sum 1"):
        arrays.labelled_probabilities([[-1.0, 2.0]], [0])
    with pytest.raises(DataError, match="sum 4"):
        arrays.labelled_probabilities([[1.0, 3.0]], [0])


def test_confidence_may_say_never_but_not_nan() -> None:
    s, _ = arrays.confidence_and_loss([-np.inf, 0.5], [0, 1])
    assert s[0] == -np.inf
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match=r"confidence is (nan|inf) in row 1"):
            arrays.confidence_and_loss([0.1, bad], [0, 1])
    with pytest.raises(DataError, match=r"shape \(2,\) but loss has shape \(1,\)"):
        arrays.confidence_and_loss([0.1, 0.2], [0])


def test_softmax_survives_extreme_logits() -> None:
    z = np.array([[1e4, -1e4], [-1e300, 1e300]])
    np.testing.assert_array_equal(arrays.softmax(z), [[1, 0], [0, 1]])
    assert np.isfinite(arrays.log_softmax(z[:1])).all()
