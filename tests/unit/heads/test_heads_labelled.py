"""Rows that a fit starts from: checks, moments, and passes from memory or from a file."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.arrays import Floats
from selectkit.errors import DataError
from selectkit.heads import LinearHead, labelled
from selectkit.heads.labelled import TrainSelect
from selectkit.heads.passes import Standardised
from selectkit.heads.training.source import LazyRows, Source


def test_unlabelled_rows_are_left_out() -> None:
    x = np.arange(8.0).reshape(4, 2)
    data = TrainSelect.of(x, np.array([1, -1, 0, 1]), (x, np.array([0, 1, -1, -1])), 2)
    assert data.train.shape == (3, 2)
    assert data.labels.tolist() == [1, 0, 1]
    assert data.select_labels.tolist() == [0, 1]
    np.testing.assert_allclose(data.mean, x[[0, 2, 3]].mean(axis=0))


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
    x = np.zeros((2, 1))
    with pytest.raises(DataError, match=message):
        TrainSelect.of(x, np.array(labels), (x, np.array([0, 1])), n_classes)


def test_select_rows_of_unseen_classes_are_left_out() -> None:
    x, y = np.array([[1.0], [2.0]]), np.array([0, 2])
    train = np.array([[1.0], [2.0]]), np.array([0, 1])
    data = TrainSelect.of(*train, (x, y), 3)
    assert data.select.shape == (1, 1)
    assert data.select_labels.tolist() == [0]
    with pytest.raises(DataError, match="select holds none of the classes in train"):
        TrainSelect.of(*train, (x, np.array([2, 2])), 3)
    with pytest.raises(DataError, match="select features have 4 columns but train has 1"):
        TrainSelect.of(*train, (np.zeros((2, 4)), y), 3)


@pytest.mark.parametrize("bad", ["train", "select"])
def test_what_is_not_finite_is_named(bad: str) -> None:
    x, y = np.zeros((3, 2)), np.array([0, 1, 1])
    broken = x.copy()
    broken[2, 1] = np.nan
    train, select = (broken, x) if bad == "train" else (x, broken)
    with pytest.raises(DataError, match=f"{bad} features are nan in row 2, column 1"):
        TrainSelect.of(train, y, (select, y), 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_standardised_by_the_moments_of_train(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x: Floats = (rng.normal(size=(20_000, 3)) * [1, 10, 0.1] + [100, 0, -3]).astype(dtype)
    y = np.arange(len(x)) % 2
    data = TrainSelect.of(x, y, (x, y), 2)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(data.mean, wide.mean(axis=0), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(data.scale, wide.std(axis=0), rtol=1e-7)
    assert data.train.kept is not None
    assert data.train.dtype == (np.float64 if dtype == np.float64 else np.float32)
    expected = (wide - data.mean) / data.scale
    np.testing.assert_allclose(data.train.kept, expected, rtol=1e-6, atol=1e-6)


def test_a_constant_column_has_scale_one_and_becomes_zero() -> None:
    x, y = np.full((10_000, 1), 0.1, dtype=np.float32), np.arange(10_000) % 2
    data = TrainSelect.of(x, y, (x, y), 2)
    assert data.scale.tolist() == [1.0]
    assert data.train.kept is not None
    assert not data.train.kept.any()


@pytest.mark.parametrize("height", [1, 7, 100, 1000])
def test_kept_and_passing_rows_are_the_same(height: int) -> None:
    x = np.random.default_rng(1).normal(size=(300, 5)).astype(np.float16)
    source = Source(x, None, "x").chosen(np.arange(0, 300, 3))
    mean, scale = np.full(5, 0.25), np.full(5, 3.0)
    kept, passing = (Standardised.of(source, mean, scale, size) for size in (10**6, 0))
    assert kept.kept is not None
    assert passing.kept is None
    blocks = [(start, block.copy()) for start, block in passing.blocks(height)]
    assert [start for start, _ in blocks] == list(range(0, 100, height))
    np.testing.assert_array_equal(np.concatenate([b for _, b in blocks]), kept.kept)
    np.testing.assert_array_equal(passing.sample(9), kept.sample(9))


def test_a_memory_mapped_fit_is_the_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 20)).astype(np.float16)
    y: npt.NDArray[np.int64] = (x @ rng.normal(size=(20, 3))).argmax(axis=1)
    y[::7] = -1
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    in_memory = LinearHead.fit(x, y, select=(x[:500], y[:500]), n_classes=3)
    monkeypatch.setattr(labelled, "WORKING_SET", 0)
    for features in (mapped, LazyRows(mapped[:, :12], mapped[:, 12:])):
        streamed = LinearHead.fit(features, y, select=(x[:500], y[:500]), n_classes=3)
        assert streamed.strength == in_memory.strength
        np.testing.assert_allclose(streamed.logits(x), in_memory.logits(x), atol=1e-4)
