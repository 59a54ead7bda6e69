import re
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import FeatureStore, IndexPart
from selectkit.errors import CacheError, ConfigError, DataError
from tests.unit.cache.cache_samples import FEATURES, FINGERPRINT, filled, part, values, write_shard


def refuses(text: str, error: type[Exception] = CacheError) -> pytest.RaisesExc[Exception]:
    return pytest.raises(error, match=re.escape(text))


def test_a_store_opens_as_it_was_made(tmp_path: Path) -> None:
    made = filled(tmp_path / "store.zarr")
    store = FeatureStore.open(tmp_path / "store.zarr")
    assert (store.rows, store.rows_per_shard, store.n_shards) == (25, 10, 3)
    assert store.source == {"folder": "images"}
    assert [store.shard_rows(k) for k in range(3)] == [range(10), range(10, 20), range(20, 25)]
    assert store.committed() == store.committed("base") == {0: 10, 1: 10, 2: 5}
    assert store.view("base").hash == made.view("base").hash
    assert store.verify() == store.leftovers() == []


def test_no_store_no_answer(tmp_path: Path) -> None:
    with refuses(f"no feature store at {tmp_path / 'x'}: run `selectkit extract` first."):
        FeatureStore.open(tmp_path / "x")


def test_another_format_version_is_named(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "zarr.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 7'))
    with refuses("is a store of format version 7; this release reads version 1"):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"rows": 25', '"rows": 26', "is damaged: its checksum does not match"),
        ('"kind": "store"', '"kind": "shop"', "no feature store: its manifest is absent"),
        ("{", "", "is damaged: not readable as JSON"),
        ("", "", ""),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, old: str, new: str, text: str) -> None:
    filled(tmp_path)
    file = tmp_path / "zarr.json"
    if not text:
        file.write_text("[]")
        text = "is damaged: it holds no JSON object"
    else:
        file.write_text(file.read_text().replace(old, new, 1))
    with refuses(text):
        FeatureStore.open(tmp_path)


def test_create_takes_no_folder_in_use(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with refuses("already holds a store: open it, or choose another path."):
        FeatureStore.create(tmp_path / "store", source={}, rows=1)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with refuses("is not empty ('a.jpg' lies in it)"):
        FeatureStore.create(tmp_path / "photos", source={}, rows=1)
    (tmp_path / "file").touch()
    with refuses("cannot be used for a store: File exists."):
        FeatureStore.create(tmp_path / "file", source={}, rows=1)


def test_create_takes_over_an_interrupted_attempt(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / "zarr.json").unlink()
    store = FeatureStore.create(tmp_path, source={}, rows=3)
    assert store.rows == 3


@pytest.mark.parametrize(("rows", "rows_per_shard"), [(0, 10), (10, 0)])
def test_create_needs_rows(tmp_path: Path, rows: int, rows_per_shard: int) -> None:
    with refuses("a store needs rows >= 1 and rows_per_shard >= 1", ConfigError):
        FeatureStore.create(tmp_path, source={}, rows=rows, rows_per_shard=rows_per_shard)


def test_source_must_be_json(tmp_path: Path) -> None:
    with refuses("source must hold JSON values only", ConfigError):
        FeatureStore.create(tmp_path, source={"folder": tmp_path}, rows=1)


def test_shard_out_of_range(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with refuses("shard 3 is outside the 3 shards of", ConfigError):
        store.shard_rows(3)


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "-x", "a b", "x" * 101, "é"])
def test_names_become_folders_and_are_checked(tmp_path: Path, name: str) -> None:
    store = filled(tmp_path)
    with refuses("is not usable: use letters, digits", ConfigError):
        store.create_view(name, fingerprint={}, features=FEATURES)
    with refuses("feature name", ConfigError):
        store.create_view("v", fingerprint={}, features={name: (2, "float16")})
    with refuses("head name", ConfigError):
        store.write_logits("base", name, values(25), classes=["a"], head_hash="h")
    assert store.views() == ("base",)


@pytest.mark.parametrize("name", ["index", "base.logits.x"])
def test_names_of_ledger_scopes_are_reserved(tmp_path: Path, name: str) -> None:
    with refuses(f"view name {name!r} is reserved", ConfigError):
        filled(tmp_path).create_view(name, fingerprint={}, features=FEATURES)


def test_a_view_opens_again_only_with_equal_fingerprint(tmp_path: Path) -> None:
    store = filled(tmp_path)
    again = store.create_view("base", fingerprint=FINGERPRINT, features=FEATURES, drift={"a": 1})
    assert again.drift is None
    changed = {"backbone": "tiny", "preprocessing": {"size": 64, "mode": "squash"}}
    expected = (
        f"view 'base' of {tmp_path} was made with preprocessing.mode not there, now squash; "
        "preprocessing.size 224, now 64: use another --view name or another store."
    )
    with refuses(expected):
        store.create_view("base", fingerprint=changed, features=FEATURES)
    with refuses("was made with features.cls.dim 6, now 7"):
        wider = {**FEATURES, "cls": (7, "float16")}
        store.create_view("base", fingerprint=FINGERPRINT, features=wider)


def test_a_null_in_the_fingerprint_is_not_absence(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.create_view("other", fingerprint={"adapter": None}, features=FEATURES)
    with refuses("adapter None, now not there"):
        store.create_view("other", fingerprint={}, features=FEATURES)


def test_view_arguments_are_checked(tmp_path: Path) -> None:
    store = filled(tmp_path)
    for features, text in [
        ({}, "needs at least one feature"),
        ({"cls": (0, "float16")}, "needs a dimension >= 1, got 0"),
        ({"cls": (3, "float64")}, "dtype 'float64' cannot be stored: use one of float16, float32"),
    ]:
        with refuses(text, ConfigError):
            store.create_view("new", fingerprint={}, features=features)
    with refuses("fingerprint must hold JSON values only", ConfigError):
        store.create_view("new", fingerprint={"x": float("nan")}, features=FEATURES)


def test_unknown_view_feature_and_head_list_what_there_is(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with refuses("has no view 'lora'; it has: base."):
        store.array("lora", "cls")
    with refuses("has no feature 'pooled'; it has: cls, patch_mean."):
        store.array("base", "pooled")
    with refuses("has no logits of 'linear'; it has: none yet, run `selectkit fit`."):
        store.logits("base", "linear")


def test_a_damaged_view_manifest_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path)
    file = tmp_path / "views/base/zarr.json"
    file.write_text(file.read_text().replace("224", "225"))
    with refuses("views/base/zarr.json is damaged: its checksum does not match."):
        store.view("base")


def change(of: IndexPart, column: str, row: int, value: object) -> IndexPart:
    columns = {name: list(getattr(of, name)) for name in IndexPart.__dataclass_fields__}
    columns[column][row] = value
    return IndexPart(**columns)


def test_index_parts_are_checked(tmp_path: Path) -> None:
    store = filled(tmp_path)
    good = part(range(10))
    for bad, text in [
        (part(range(9)), "index column 'id' has 9 entries for 10 rows."),
        (change(good, "id", 3, "image-2"), "id 'image-2' in row 3 is there twice"),
        (change(good, "id", 3, ""), "id '' in row 3 is empty"),
        (change(good, "path", 3, "\udcff.jpg"), r"path '\udcff.jpg' in row 3 is no valid text"),
        (change(good, "status", 3, "broken"), "status 'broken' of 'image-3' is neither"),
        (change(good, "content_hash", 3, ""), "'image-3' has status 'ok' but no content hash."),
    ]:
        with refuses(text, DataError):
            store.write_index(0, bad)


def test_index_returns_what_was_written(tmp_path: Path) -> None:
    store = filled(tmp_path)
    index, expected = store.index(), part(range(25))
    assert len(index) == 25
    assert index.row.tolist() == list(range(25))
    for column in IndexPart.__dataclass_fields__:
        assert getattr(index, column).tolist() == list(getattr(expected, column))
    assert index.classes == ("9", "10", "11")
    assert index.key[:3].tolist() == ["site-0", "sha256:0001", "site-0"]
    assert store.index() is index


def test_index_is_read_again_when_a_part_changed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.index().label[1] == "10"
    FeatureStore.open(tmp_path).write_index(0, change(part(range(10)), "label", 1, "fixed"))
    assert store.index().label[1] == "fixed"
    assert store.committed("base") == {0: 10, 1: 10, 2: 5}  # a label is no image


def test_an_empty_store_has_an_empty_index(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, source={}, rows=9)
    assert len(store.index()) == 0
    assert store.index().classes == ()
    assert store.info().statuses == {}


def test_features_need_their_index_first(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, source={}, rows=3)
    store.create_view("base", fingerprint={}, features={"cls": (6, "float32")})
    with refuses("the index of shard 0 of"):
        store.write_features("base", 0, {"cls": values(3)})


def test_features_of_another_image_stop_to_exist(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.write_index(1, change(part(range(10, 20)), "content_hash", 4, "sha256:other"))
    assert store.committed("base") == {0: 10, 2: 5}
    assert 14 not in store.read("base", None).rows
    assert store.verify() == []
    assert [p.path for p in store.leftovers()] == ["commits/base/00001.json"]
    write_shard(store, 1)
    assert store.committed("base") == {0: 10, 1: 10, 2: 5}


def test_growing_keeps_rows_and_lets_the_last_shard_be_written_again(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.create_view("late", fingerprint={}, features={"cls": (6, "float16")})
    store.grow(37, source={"folder": "more"})
    assert (store.n_shards, store.source) == (4, {"folder": "more"})
    assert len(store.read("base", None, labelled=False).rows) == 24
    for shard in (2, 3):
        write_shard(store, shard)
    assert store.committed("base") == {0: 10, 1: 10, 2: 10, 3: 7}
    rows = store.array("base", "cls").rows
    np.testing.assert_array_equal(
        store.array("base", "cls")[rows], values(37).astype(np.float16)[rows]
    )
    assert store.committed("late") == {}
    assert store.verify() == store.leftovers() == []


def test_a_view_behind_a_grown_index_keeps_its_rows(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.grow(28)
    store.write_index(2, part(range(20, 28)))
    assert store.committed("base") == {0: 10, 1: 10, 2: 5}
    store.write_index(2, change(part(range(20, 28)), "id", 7, "new"))
    assert store.committed("base")[2] == 5
    store.write_index(2, change(part(range(20, 28)), "id", 0, "changed"))
    assert 2 not in store.committed("base")


def test_a_store_does_not_shrink(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with refuses("has 25 rows; it cannot shrink to 24.", ConfigError):
        store.grow(24)


def test_equal_input_gives_equal_bytes_in_any_order(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one"), tmp_path / "two"
    other = FeatureStore.create(two, source={"folder": "images"}, rows=5, rows_per_shard=10)
    other.create_view("base", fingerprint=FINGERPRINT, features=FEATURES)
    write_shard(other, 0)
    other.grow(25)
    for shard in (2, 0, 1):
        write_shard(other, shard)
    for store in (one, other):
        store.write_logits("base", "h", values(25), classes=list("abcdef"), head_hash="sha256:0")

    def content(root: Path) -> dict[str, bytes]:
        files = (p for p in root.rglob("*") if p.is_file())
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}

    assert content(tmp_path / "one") == content(two)


def test_info_counts(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.write_logits("base", "h", values(25), classes=list("abcdef"), head_hash="sha256:0")
    info = store.info()
    assert (info.rows, info.rows_committed, info.rows_per_shard) == (25, 25, 10)
    assert info.statuses == {"failed:truncated": 1, "ok": 24}
    assert list(info.labels.items()) == [("9", 7), ("10", 7), ("11", 6)]
    assert info.unlabelled == 4
    assert sum(sum(split.values()) for split in info.splits.values()) == 24
    assert info.groups == len({*store.index().key[store.index().ok]})
    (view,) = info.views
    assert (view.name, view.rows, view.logits) == ("base", 25, {"h": 25})
    assert view.features == FEATURES
    assert info.bytes == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())


def test_drift_numbers_and_names_of_any_script_are_kept(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.create_view("new", fingerprint={}, features=FEATURES, drift={"cls": [0.1, 2]})
    assert FeatureStore.open(tmp_path).view("new").drift == {"cls": [0.1, 2]}
    assert store.view("base").drift is None
    columns = change(change(part(range(10)), "id", 1, "Straße/猫.jpg"), "label", 1, "Zürich")
    store.write_index(0, columns)
    assert store.index().id[1] == "Straße/猫.jpg"
    assert store.index().classes == ("10", "11", "9", "Zürich")
    assert store.verify() == []
