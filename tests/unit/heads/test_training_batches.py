"""Batches: every row once, in an order that is a function of seed and epoch, from any source."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from selectkit.errors import DataError
from selectkit.heads import LazyRows, MlpHead, Recipe
from selectkit.heads.training import batches as batches_module
from selectkit.heads.training.batches import (
    Batches,
    HeldOut,
    Scaling,
    batches,
    shuffled_blocks,
    steps_per_epoch,
)
from selectkit.heads.training.source import Source, checked_moments, labelled

N, D = 5000, 6
IN_MEMORY, STREAMED = 2**30, 2**15


def _features(n: int = N, dtype: npt.DTypeLike = np.float16) -> npt.NDArray[Any]:
    return np.random.default_rng(0).normal(1, 3, size=(n, D)).astype(dtype)


def _mapped(tmp_path: Path, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    path = tmp_path / "x.bin"
    x.tofile(path)
    return np.memmap(path, dtype=x.dtype, mode="r", shape=x.shape)


def _row_order(made: Batches, epoch: int) -> npt.NDArray[np.int64]:
    """Row numbers in the order in which an epoch visits them, (N,)."""
    return np.asarray(torch.cat([numbers for _, numbers in made.epoch(epoch)]).cpu().numpy())


class Stored:
    """Something with rows that is no array."""

    def __init__(self, x: npt.NDArray[Any]) -> None:
        self._x, self.shape, self.dtype = x, (x.shape[0], x.shape[1]), x.dtype
        self.asked: list[object] = []

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        self.asked.append(rows)
        chosen: npt.NDArray[Any] = self._x[rows].copy()
        return chosen


def _batches(
    source: Source, working_set: int, *, order_seed: int = 0, dtype: torch.dtype = torch.float32
) -> Batches:
    mean, scale = checked_moments(source)
    return batches(
        source, Scaling(mean, scale), batch_size=300, order_seed=order_seed, dtype=dtype,
        device="cpu", working_set=working_set, kept={},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "_BLOCK_ROWS", 64)


@pytest.mark.parametrize("working_set", [IN_MEMORY, STREAMED])
def test_every_epoch_has_every_row_once_and_its_own_order(working_set: int) -> None:
    made = _batches(Source(_features(), None, "x"), working_set)
    orders = [_row_order(made, epoch) for epoch in (1, 2, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(N))
    np.testing.assert_array_equal(orders[0], orders[2])
    assert (orders[0] != orders[1]).mean() > 0.9
    other = _batches(Source(_features(), None, "x"), working_set, order_seed=1)
    assert (_row_order(other, 1) != orders[0]).mean() > 0.9


@pytest.mark.parametrize("working_set", [IN_MEMORY, STREAMED])
def test_all_batches_but_the_last_are_full(working_set: int) -> None:
    made = _batches(Source(_features(), None, "x"), working_set)
    sizes = [len(rows) for rows, _ in made.epoch(3)]
    assert sizes == [300] * 16 + [200]
    assert len(sizes) == steps_per_epoch(N, 300)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("working_set", [IN_MEMORY, STREAMED])
def test_a_batch_holds_the_standardised_rows_it_names(
    working_set: int, dtype: npt.DTypeLike
) -> None:
    x = _features(dtype=dtype)
    z = (x - x.mean(axis=0, dtype=np.float64)) / x.std(axis=0, dtype=np.float64)
    for rows, numbers in _batches(Source(x, None, "x"), working_set).epoch(1):
        assert rows.dtype == torch.float32
        np.testing.assert_allclose(rows.numpy(), z[numbers.numpy()], rtol=1e-4, atol=1e-5)


def test_streaming_mixes_rows_from_far_apart() -> None:
    """A window holds blocks from everywhere, so the rows of a batch are nearly a fair sample."""
    order = _row_order(_batches(Source(_features(), None, "x"), STREAMED), 1)
    halves = [(order[i : i + 300] < N / 2).mean() for i in range(0, 4800, 300)]
    assert min(halves) > 0.1
    assert max(halves) < 0.9


def test_the_order_does_not_depend_on_where_the_rows_come_from(tmp_path: Path) -> None:
    x = _features()
    sources: list[Any] = [x, _mapped(tmp_path, x), Stored(x), LazyRows(x[:, :2], x[:, 2:])]
    made = [_batches(Source(s, None, "x"), STREAMED) for s in sources]
    first = [torch.cat([rows for rows, _ in m.epoch(1)]) for m in made]
    for other in first[1:]:
        assert torch.equal(first[0], other)


def test_blocks_cover_all_rows_once_whatever_the_offset() -> None:
    for n in (1, 5, 64, 65, 1000):
        for seed in range(20):
            spans = shuffled_blocks(n, np.random.default_rng(seed))
            rows = np.concatenate([np.arange(a, b) for a, b in spans])
            np.testing.assert_array_equal(np.sort(rows), np.arange(n))


def test_lazy_rows_read_what_indexing_would(tmp_path: Path) -> None:
    x = _features(200)
    wanted = np.array([3, 4, 9, 150, 151])
    lazy = LazyRows(Stored(x), _mapped(tmp_path, x), rows=wanted)
    both = np.concatenate([x, x], axis=1)
    assert lazy.shape == (5, 2 * D)
    assert lazy.dtype == np.float16
    np.testing.assert_array_equal(lazy[1:4], both[wanted[1:4]])
    np.testing.assert_array_equal(lazy[np.array([4, 0])], both[wanted[[4, 0]]])
    np.testing.assert_array_equal(LazyRows(x)[2:5], x[2:5])


def test_rows_close_together_are_read_as_one_span() -> None:
    stored = Stored(_features(200))
    lazy = LazyRows(stored, rows=np.arange(0, 200, 2))
    np.testing.assert_array_equal(lazy[:10], _features(200)[:20:2])
    assert stored.asked == [slice(0, 19)]


def test_unlabelled_rows_are_skipped_without_a_copy() -> None:
    stored = Stored(_features(50))
    y = np.arange(50) % 3 - 1
    source, labels = labelled(stored, y, 2, "train")
    assert stored.asked == []
    np.testing.assert_array_equal(labels, y[y >= 0])
    np.testing.assert_array_equal(source.read(0, source.n_rows), _features(50)[y >= 0])


def test_the_first_entry_that_is_not_finite_is_named_by_the_callers_row(tmp_path: Path) -> None:
    x = _features(3000)
    x[2500, 4] = np.inf
    y = np.where(np.arange(3000) % 2, 1, -1)
    y[2500] = 0
    for features in (x, _mapped(tmp_path, x), Stored(x)):
        source, _ = labelled(features, y, 2, "train")
        with pytest.raises(DataError, match="train features are inf in row 2500, column 4; every"):
            checked_moments(source)


def test_a_constant_column_is_zero_in_both_ways() -> None:
    x = _features()
    x[:, 2] = 7.7
    for working_set in (IN_MEMORY, STREAMED):
        rows, _ = next(iter(_batches(Source(x, None, "x"), working_set).epoch(1)))
        assert (rows[:, 2] == 0).all()


def test_held_out_rows_are_the_same_kept_or_streamed() -> None:
    source = Source(_features(), None, "x")
    scaling = Scaling(*checked_moments(source))
    kept, streamed = (
        torch.cat(list(HeldOut.of(source, scaling, "cpu", w).blocks())) for w in (2**30, 1)
    )
    torch.testing.assert_close(kept, streamed, rtol=1e-5, atol=1e-6)


def test_private_changes_of_a_mapped_array_survive_a_fit(tmp_path: Path) -> None:
    """Pages of a copy-on-write mapping must not be given back: they hold the only copy."""
    _mapped(tmp_path, _features(100))
    x = np.memmap(tmp_path / "x.bin", dtype=np.float16, mode="c", shape=(100, D))
    x[:] = 5
    Source(x, None, "x").read(0, 100)
    assert (np.asarray(x) == 5).all()


def test_a_streamed_fit_is_repeatable_and_as_good(tmp_path: Path) -> None:
    x = _mapped(tmp_path, _features())
    y = (np.asarray(x[:, 0], dtype=np.float64) + np.asarray(x[:, 1]) > 2).astype(np.int64)
    recipe = Recipe(hidden=8, epochs=4, batch_size=128, learning_rate=1e-2)
    fits = [
        MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=recipe, working_set=w)
        for w in (STREAMED, STREAMED, IN_MEMORY)
    ]
    np.testing.assert_array_equal(fits[0].logits(x), fits[1].logits(x))
    for head in fits:
        assert (head.logits(x).argmax(axis=1) == y).mean() > 0.97


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(3), r"x must have shape \(N, D\) with N, D >= 1, got \(3,\)"),
        (np.zeros((0, 3)), r"x must have shape"),
        (np.zeros((2, 2), dtype=complex), "x must be real numbers, got dtype complex128"),
        ([["a"]], "x must be real numbers"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(features: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Source(features, None, "x")
