"""Checks at the door of the heads, moments of columns, and answers that ignore their neighbours."""

import numpy as np
import pytest

from selectkit.arrays import Floats
from selectkit.errors import DataError
from selectkit.heads.rows import (
    ABSENT_LOGIT,
    all_classes,
    by_blocks,
    feature_rows,
    labelled_rows,
    moments,
    present_classes,
    select_rows,
    standardised,
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


def test_unlabelled_rows_are_left_out() -> None:
    x, y = labelled_rows(np.arange(6.0).reshape(3, 2), np.array([1, -1, 0]), 2, "train")
    assert x.tolist() == [[0, 1], [4, 5]]
    assert y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "n_classes", "message"),
    [
        ([-1, -1], 2, "train has 2 rows but no label: every label is -1."),
        ([0, 2], 2, r"train label 2 in row 1 is outside \[0, 2\)"),
        ([0, 1, 1], 2, r"train labels must have shape \(2,\) to match the rows, got \(3,\)"),
        ([0.0, 1.0], 2, "train labels must be integers"),
        ([0, 0], 1, "n_classes must be at least 2, got 1"),
    ],
)
def test_unusable_labels_are_refused(labels: list[float], n_classes: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelled_rows(np.zeros((2, 1)), np.array(labels), n_classes, "train")


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="train holds only class 3 in its 2 labelled rows; a head"):
        present_classes(np.array([3, 3]))


def test_select_rows_of_unseen_classes_are_left_out() -> None:
    x, y = np.array([[1.0], [2.0]]), np.array([0, 2])
    kept, labels = select_rows((x, y), np.array([0, 1]), n_features=1, n_classes=3)
    assert (kept.tolist(), labels.tolist()) == ([[1.0]], [0])
    with pytest.raises(DataError, match="select holds none of the classes in train"):
        select_rows((x, y), np.array([1]), n_features=1, n_classes=3)
    with pytest.raises(DataError, match="select features have 1 columns but train has 4"):
        select_rows((x, y), np.array([0]), n_features=4, n_classes=3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_moments_equal_those_of_numpy_across_blocks(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x: Floats = (rng.normal(size=(20_000, 3)) * [1, 10, 0.1] + [100, 0, -3]).astype(dtype)
    mean, scale = moments(x)
    np.testing.assert_allclose(mean, x.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scale, x.astype(np.float64).std(axis=0), rtol=1e-9)


def test_a_constant_column_has_scale_one_and_becomes_zero() -> None:
    x = np.full((10_000, 1), 0.1, dtype=np.float32)
    mean, scale = moments(x)
    assert scale.tolist() == [1.0]
    assert not standardised(x, mean, scale, np.float32).any()


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_blocks_cover_every_row_once(n: int) -> None:
    x = np.arange(float(2 * n)).reshape(n, 2)
    np.testing.assert_array_equal(by_blocks(x, lambda r: r[:, ::-1], 2), x[:, ::-1])


def test_absent_classes_get_a_low_finite_logit() -> None:
    weights, bias = all_classes(np.array([[1.0, 3.0]]), np.array([0.0, 2.0]), np.array([0, 2]), 3)
    assert weights.tolist() == [[-1.0, 0.0, 1.0]]
    assert bias.tolist() == [-1.0, ABSENT_LOGIT, 1.0]
