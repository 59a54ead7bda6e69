import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr

from selectkit.cache import FeatureStore, HeadInfo, layout
from selectkit.errors import CacheError, ConfigError, DataError
from tests.unit.cache.cache_samples import FAILED, FEATURES, filled, part, values, write_shard


def test_zarr_reads_what_was_written(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.grow(37)
    for shard in (2, 3):
        write_shard(store, shard)
    store.write_logits("base", "h", values(37), classes=list("abcdef"), head_hash="sha256:0")
    views = zarr.open_group(tmp_path / "views", mode="r")
    assert [name for name, _ in views.groups()] == ["base"]
    cls = zarr.open_array(tmp_path / "views/base/features/cls", mode="r")
    np.testing.assert_array_equal(np.asarray(cls[:]), values(37).astype(np.float16))
    logits = zarr.open_array(tmp_path / "views/base/logits/h", mode="r")
    np.testing.assert_array_equal(np.asarray(logits[:]), values(37))
    assert logits.attrs["classes"] == list("abcdef")
    patch = zarr.open_array(tmp_path / "views/base/features/patch_mean", mode="r")
    bits = np.asarray(patch[:]).astype(np.uint32) << 16
    np.testing.assert_array_equal(bits.view(np.float32), store.array("base", "patch_mean").read())
    assert patch.attrs["selectkit_dtype"] == "bfloat16"


def test_zarr_sees_nan_where_nothing_is_written_yet(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.grow(40)
    for name, missing in (("cls", np.nan), ("patch_mean", 0x7FC0)):
        array = zarr.open_array(tmp_path / "views/base/features" / name, mode="r")
        np.testing.assert_array_equal(np.asarray(array[25:]), np.full((15, 6), missing))


def test_zarr_notices_a_flipped_bit(tmp_path: Path) -> None:
    filled(tmp_path)
    chunk = tmp_path / "views/base/features/cls/c/0/0"
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    array = zarr.open_array(tmp_path / "views/base/features/cls", mode="r")
    with pytest.raises(ValueError, match="checksum"):
        array[:]


def test_bfloat16_rounds_to_nearest_even(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    x = np.concatenate([
        np.random.default_rng(1).normal(size=1000).astype(np.float32)
        * 10.0 ** np.arange(-30, 30, 0.06),
        np.array([0.0, -0.0, 1e-45, 3.3895e38, np.nan, 1 + 2**-8, 1 + 3 * 2**-8]),
    ]).astype(np.float32)[:, None]
    store = FeatureStore.create(tmp_path, source={}, rows=len(x))
    store.create_view("v", fingerprint={}, features={"cls": (1, "bfloat16")})
    store.write_index(0, part(range(len(x))))
    store.write_features("v", 0, {"cls": x})
    expected = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(store.array("v", "cls").read(), expected)


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        (
            "float16",
            65520.0,
            "values up to 65520, but float16 ends at 65504: store them as float32 or bfloat16.",
        ),
        (
            "float16",
            -1e39,
            "values up to 1e+39, but float16 ends at 65504: no stored dtype holds them.",
        ),
        (
            "bfloat16",
            3.4e38,
            "values up to 3.4e+38, but bfloat16 ends at 3.38953e+38: store them as float32.",
        ),
        (
            "float32",
            np.inf,
            "values up to inf, but float32 ends at 3.40282e+38: no stored dtype holds them.",
        ),
    ],
)
def test_overflow_is_refused(tmp_path: Path, dtype: str, value: float, text: str) -> None:
    store = filled(tmp_path, features={"cls": (6, dtype)})
    x = values(10).astype(np.float64)
    x[3, 2] = value
    with pytest.raises(
        CacheError, match=re.escape(f"feature 'cls' of shard 0 of view 'base' holds {text}")
    ):
        store.write_features("base", 0, {"cls": x})
    assert store.verify() == []


def test_the_largest_float16_is_kept(tmp_path: Path) -> None:
    store = filled(tmp_path, features={"cls": (6, "float16")})
    x = values(10)
    x[3] = 65504
    store.write_features("base", 0, {"cls": x})
    assert store.array("base", "cls")[3:4].max() == 65504


def test_names_and_shapes_must_be_those_of_the_view(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(DataError, match=r"view 'base' holds cls, patch_mean; got cls\."):
        store.write_features("base", 0, {"cls": values(10)})
    with pytest.raises(DataError, match=re.escape("must have shape (5, 6), got (10, 6).")):
        store.write_features("base", 2, {"cls": values(10), "patch_mean": values(10)})


def test_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    array = filled(tmp_path).array("base", "cls")
    x = values(25).astype(np.float16)
    assert (array.shape, str(array.dtype), len(array)) == ((25, 6), "float16", 25)
    for rows in ([24, 0, 13, 13, -1], [], list(range(25))):
        np.testing.assert_array_equal(array[np.array(rows, dtype=np.int64)], x[rows])
    for span in (slice(None), slice(8, 21), slice(21, 8), slice(-3, None), slice(20, 2, -5)):
        np.testing.assert_array_equal(array[span], x[span])
    np.testing.assert_array_equal(array.read(), x)
    array[:][0] = 0  # a copy: the store does not change
    np.testing.assert_array_equal(array.read(), x)


def test_wrong_rows_are_refused(tmp_path: Path) -> None:
    array = filled(tmp_path).array("base", "cls")
    for rows in ([25], [-26]):
        with pytest.raises(IndexError, match="row outside an array of 25 rows"):
            array[np.array(rows)]
    with pytest.raises(TypeError, match="rows must be integers, got bool"):
        array[np.ones(25, dtype=bool)]


def test_uncommitted_rows_are_never_numbers(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / "commits/base/00001.json").unlink()
    store.grow(40)
    array = store.array("base", "cls")
    assert array.rows.tolist() == [*range(10), *range(20, 25)]
    cases: list[tuple[slice | npt.NDArray[np.int64], int]] = [
        (slice(None), 10),
        (slice(12, 14), 12),
        (slice(22, 30), 25),
        (np.array([3, 11, 12]), 11),
        (np.array([39]), 39),
    ]
    for rows, first in cases:
        with pytest.raises(
            CacheError, match=rf"row {first} \(shard {first // 10}\) of .* is not committed"
        ):
            array[rows]
    np.testing.assert_array_equal(array[array.rows], values(25).astype(np.float16)[array.rows])


def test_missing_and_cut_chunks_are_found_when_the_array_is_opened(tmp_path: Path) -> None:
    store = filled(tmp_path)
    chunk = tmp_path / "views/base/features/cls/c/1/0"
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1])
    with pytest.raises(CacheError, match=r"cls/c/1/0 has 123 bytes instead of 124"):
        store.array("base", "cls")
    chunk.unlink()
    with pytest.raises(CacheError, match=r"cls/c/1/0 is missing though its shard is committed"):
        store.read("base", "train")
    chunk.write_bytes(data)
    assert len(store.array("base", "cls").read()) == 25


def test_read_checks_every_chunk_it_touches_once(tmp_path: Path) -> None:
    filled(tmp_path)
    chunk = tmp_path / "views/base/features/cls/c/1/0"
    data = chunk.read_bytes()
    damaged = data[:7] + bytes([data[7] ^ 16]) + data[8:]
    chunk.write_bytes(damaged)
    store = FeatureStore.open(tmp_path)
    with pytest.raises(CacheError, match=r"cls/c/1/0 is damaged: .* Run `selectkit verify`"):
        store.read("base", None)
    chunk.write_bytes(data)
    store.read("base", None)
    chunk.write_bytes(damaged)
    store.read("base", None)  # this handle has seen the chunk whole
    with pytest.raises(CacheError, match="is damaged"):
        FeatureStore.open(tmp_path).read("base", None)


def test_read_returns_ok_rows_of_the_split(tmp_path: Path) -> None:
    store = filled(tmp_path)
    found = store.read("base", None)
    labelled = [i for i in range(25) if i % 7 and i != FAILED]
    assert found.rows.tolist() == labelled
    assert found.ids.tolist() == [f"image-{i}" for i in labelled]
    assert found.classes == ("9", "10", "11")
    assert found.y.tolist() == [i % 3 for i in labelled]
    assert (found.split, str(found.x.dtype), str(found.y.dtype)) == ("all", "float32", "int64")
    np.testing.assert_array_equal(found.x, values(25).astype(np.float16)[labelled])
    everything = store.read("base", None, labelled=False)
    assert everything.y[[0, 1]].tolist() == [-1, 1]
    parts = [
        store.read("base", s, labelled=False)
        for s in ("train", "val_select", "val_calib", "val_test")
    ]
    assert sorted(np.concatenate([p.rows for p in parts])) == everything.rows.tolist()
    for p in parts:
        assert set(store.splits.assign(p.groups)) <= {p.split}


def test_cat_is_both_features_side_by_side(tmp_path: Path) -> None:
    store = filled(tmp_path)
    both = store.read("base", "train", feature="cat").x
    parts = [store.read("base", "train", feature=name).x for name in ("cls", "patch_mean")]
    np.testing.assert_array_equal(both, np.concatenate(parts, axis=1))


def test_read_refuses_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no split 'test': use one of train, val_select"):
        filled(tmp_path).read("base", "test")


def test_features_that_are_not_finite_name_their_image(tmp_path: Path) -> None:
    store = filled(tmp_path, features={"cls": (6, "float32")})
    x = values(10)
    x[8, 1] = np.nan
    store.write_features("base", 0, {"cls": x})
    with pytest.raises(DataError, match="the features of 'image-8' in view 'base' are not finite"):
        store.read("base", None)


def test_the_fingerprint_follows_rows_labels_and_scheme_only(tmp_path: Path) -> None:
    one = filled(tmp_path / "one")
    two = filled(tmp_path / "two", rows_per_shard=7, features={"cls": (6, "float32")})
    expected = one.read("base", "train").fingerprint
    assert two.read("base", "train").fingerprint == expected
    assert one.read("base", "val_calib").fingerprint != expected
    assert one.read("base", "train", labelled=False).fingerprint != expected
    two.set_splits(type(two.splits)(salt="other"))
    assert two.read("base", "train").fingerprint != expected


def test_logits_come_back_and_follow_their_head(tmp_path: Path) -> None:
    store = filled(tmp_path)
    z = np.random.default_rng(2).normal(size=(25, 3))
    store.write_logits("base", "linear", z, classes=["9", "10", "11"], head_hash="sha256:1")
    got = store.logits("base", "linear").read()
    assert np.isnan(got[FAILED]).all()
    keep = np.arange(25) != FAILED
    np.testing.assert_array_equal(got[keep], z.astype(np.float32)[keep])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    store.write_logits("base", "linear", z, classes=["9", "10", "11"], head_hash="sha256:1")
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    store.write_logits("base", "linear", z[:, :2], classes=["a", "b"], head_hash="sha256:2")
    assert store.heads("base")["linear"].classes == ("a", "b")
    assert store.logits("base", "linear").shape == (25, 2)
    assert store.verify() == store.leftovers() == []


def test_logits_know_how_the_store_was_split(tmp_path: Path) -> None:
    store, z = filled(tmp_path), np.zeros((25, 2))
    store.write_logits("base", "h", z, classes=["a", "b"], head_hash="h")
    before = store.splits.to_dict()
    store.set_splits(type(store.splits)(salt="other"))
    store.grow(30)
    assert store.heads("base")["h"].splits == before != store.splits.to_dict()
    assert store.verify() == []
    document = HeadInfo(("a", "b"), "h").document(30, store.rows_per_shard)  # of an older store
    layout.write_zarr(store.files, layout.logits_folder("base", "h"), document)
    assert store.heads("base")["h"].splits is None
    assert store.verify() == []


def test_logits_are_checked(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(
        DataError,
        match=re.escape(
            "logits must have shape (25, 3) (rows of the store, classes), got (24, 3)."
        ),
    ):
        store.write_logits("base", "h", np.zeros((24, 3)), classes=list("abc"), head_hash="h")
    z = np.zeros((25, 3))
    z[6, 1] = np.nan
    with pytest.raises(DataError, match="the logits of 'image-6' are not finite"):
        store.write_logits("base", "h", z, classes=list("abc"), head_hash="h")
    assert store.heads("base") == {}


def test_logits_of_a_view_that_lags_are_those_of_its_rows(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / "commits/base/00001.json").unlink()
    z = np.ones((25, 2))
    z[10:20] = np.nan
    store.write_logits("base", "h", z, classes=["a", "b"], head_hash="h")
    assert store.logits("base", "h").rows.tolist() == [*range(10), *range(20, 25)]
    write_shard(store, 1)
    store.grow(30)
    assert store.committed("base.logits.h") == {0: 10, 2: 5}
    assert store.verify() == []


def test_one_feature_view_reads_like_two(tmp_path: Path) -> None:
    store = filled(tmp_path, features={"cls": FEATURES["cls"]})
    with pytest.raises(CacheError, match=r"has no feature 'patch_mean'; it has: cls\."):
        store.read("base", None, feature="cat")


def test_few_mappings_at_once_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectkit.cache.sharded._MAPPED_AT_ONCE", 2)
    array = filled(tmp_path, rows=60).array("base", "cls")
    rows = np.random.default_rng(3).integers(0, 60, size=500)
    np.testing.assert_array_equal(array[rows], values(60).astype(np.float16)[rows])
    assert len(array._maps) == 2


def test_a_chunk_that_shrinks_while_it_is_read_is_no_row_of_zeros(tmp_path: Path) -> None:
    array = filled(tmp_path).array("base", "cls")
    chunk = tmp_path / "views/base/features/cls/c/2/0"
    chunk.write_bytes(chunk.read_bytes()[:30])
    with pytest.raises(CacheError, match=r"cls/c/2/0 was cut short while it was read\."):
        array.read()


def test_logits_are_removed_without_a_trace(tmp_path: Path) -> None:
    store = filled(tmp_path)
    files = sorted(tmp_path.rglob("*"))
    z = np.zeros((store.rows, 2))
    store.write_logits("base", "other", z, classes=["a", "b"], head_hash="h")
    assert "other" in store.heads("base")
    for _ in range(2):
        store.remove_logits("base", "other")
        assert "other" not in store.heads("base")
        assert store.verify() == store.leftovers() == []
    left = [p for p in sorted(tmp_path.rglob("*")) if p.name != "logits"]
    assert left == [p for p in files if p.name != "logits"]


def test_writers_of_logits_wait_for_one_another(tmp_path: Path) -> None:
    path = filled(tmp_path).path
    first, second = FeatureStore.open(path), FeatureStore.open(path)
    z = np.zeros((first.rows, 2))
    with ThreadPoolExecutor(1) as other:
        with first.writing():
            found = other.submit(
                second.write_logits, "base", "h", z, classes=["a", "b"], head_hash="h"
            )
            with pytest.raises(TimeoutError):
                found.result(0.2)
        found.result(10)
    assert "h" in first.heads("base")
