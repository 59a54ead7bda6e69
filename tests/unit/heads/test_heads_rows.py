"""Rows that a head is asked about: their checks, and answers that ignore their neighbours."""

import numpy as np
import pytest

from selectkit.errors import DataError
from selectkit.heads.rows import (
    ABSENT_LOGIT,
    all_classes,
    by_blocks,
    feature_rows,
    present_classes,
)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.array(["a"]), "x must be real numbers, got dtype <U1."),
        (np.zeros(3), "x must have shape (N, D) with N, D >= 1, got (3,)."),
        (np.zeros((0, 3)), "x must have shape (N, D) with N, D >= 1, got (0, 3)."),
        (np.array([[0.0, 1.0], [2.0, np.inf]]), "x are inf in row 1, column 1; every entry"),
        (np.zeros((2, 3)), "x have 3 columns but the head was fitted on 2. Use the view"),
    ],
)
def test_unusable_features_are_refused_with_the_place(features: np.ndarray, message: str) -> None:
    with pytest.raises(DataError) as error:
        feature_rows(features, "x", 2)
    assert str(error.value).startswith(message)


def test_a_bad_entry_in_a_later_block_is_named_by_its_own_row() -> None:
    x = np.zeros((9000, 2), dtype=np.float16)
    x[8500, 1] = np.nan
    with pytest.raises(DataError, match="x are nan in row 8500, column 1"):
        feature_rows(x, "x")


def test_checked_features_are_not_copied() -> None:
    x = np.zeros((4, 2), dtype=np.float16)
    assert feature_rows(x, "x") is x


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="train holds only class 3 in its 2 labelled rows; a head"):
        present_classes(np.array([3, 3]))


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_blocks_cover_every_row_once(n: int) -> None:
    x = np.arange(float(2 * n)).reshape(n, 2)
    np.testing.assert_array_equal(by_blocks(x, lambda r: r[:, ::-1], 2), x[:, ::-1])


def test_absent_classes_get_a_low_finite_logit() -> None:
    weights, bias = all_classes(np.array([[1.0, 3.0]]), np.array([0.0, 2.0]), np.array([0, 2]), 3)
    assert weights.tolist() == [[-1.0, 0.0, 1.0]]
    assert bias.tolist() == [-1.0, ABSENT_LOGIT, 1.0]
