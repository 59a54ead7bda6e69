import errno
import os
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.errors import BackboneError, CacheError, ConfigError
from selectkit.extract import (
    Preprocessing,
    Progress,
    Record,
    begun_with,
    extract,
    load_backbone,
    open_source,
)
from tests.unit.extract.extract_tools import (
    Pixels,
    StubBackbone,
    broken_files,
    content,
    image_folder,
    noise,
)

STUB = StubBackbone()


def features(store: Path, view: str = "base") -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    opened = FeatureStore.open(store)
    return {name: np.asarray(opened.array(view, name)[:]) for name in ("cls", "patch_mean")}


def test_features_are_those_of_the_backbone(tmp_path: Path) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 5, "b": 4}))
    seen: list[Progress] = []
    store = tmp_path / "s.zarr"
    summary = extract(
        source,
        store,
        backbone=STUB,
        dtype="float32",
        batch_size=2,
        rows_per_shard=5,
        progress=seen.append,
    )
    assert (summary.rows, summary.done_now, summary.skipped) == (9, 9, 0)
    assert (summary.failed, summary.interrupted) == ({}, False)
    assert summary.images_per_second == summary.done_now / summary.seconds
    assert [(p.done, p.total, p.failed) for p in seen] == [(n, 9, 0) for n in (2, 4, 5, 7, 9)]
    pixels = np.stack([
        STUB.preprocessing.apply(noise(10, 12, 100 * (r.label == "b") + int(r.id[2:5])))
        for r in source.records()
    ])
    got = features(store)
    for name, expected in STUB(pixels).items():
        assert np.abs(got[name] - expected).max() < 1e-5
    index = FeatureStore.open(store).index()
    assert index.id.tolist() == [r.id for r in source.records()]
    assert set(zip(index.width.tolist(), index.height.tolist(), strict=True)) == {(12, 10)}
    assert FeatureStore.open(store).verify() == []
    assert FeatureStore.open(store).source == source.describe()


def _image(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def test_a_store_that_cannot_be_written_needs_no_writing_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = image_folder(tmp_path / "images", {"a": 5, "b": 4}), tmp_path / "s.zarr"
    again = partial(extract, store_path=store, backbone=STUB, rows_per_shard=5)
    again(open_source(folder))
    before = content(store)
    open_file = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).startswith(str(store)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return open_file(path, flags, *rest, **more)

    def forbid(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        for name in ("mkdir", "unlink", "rmdir", "rename", "replace", "utime"):
            patch.setattr(os, name, forbid)
        summary = again(open_source(folder))
        assert (summary.rows, summary.skipped, summary.done_now) == (9, 9, 0)
        assert not summary.interrupted
        assert content(store) == before
        for more in ({"view": "other"}, {"rescan": True}):
            with pytest.raises(CacheError, match=r"s\.zarr cannot be written: Read-only file"):
                again(open_source(folder), **more)
    image_folder(folder, {"c": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(CacheError, match=r"s\.zarr cannot be written: Read-only file"):
            again(open_source(folder))
    assert content(store) == before


def test_second_run_does_nothing(tmp_path: Path) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 5}))
    extract(source, tmp_path / "s.zarr", backbone=STUB)
    before = content(tmp_path / "s.zarr")
    summary = extract(source, tmp_path / "s.zarr", backbone=STUB)
    assert (summary.rows, summary.done_now, summary.skipped) == (5, 0, 5)
    assert content(tmp_path / "s.zarr") == before


def test_worker_count_changes_no_bit(tmp_path: Path) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 23}))
    for workers in (1, 4):
        extract(source, tmp_path / f"{workers}", backbone=STUB, batch_size=3, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "4")


def test_broken_files_are_rows_with_a_reason(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"good": 6})
    clean = tmp_path / "clean.zarr"
    extract(open_source(folder), clean, backbone=STUB, batch_size=4)
    zoo = broken_files()
    (folder / "zoo").mkdir()
    for name, (data, _) in zoo.items():
        (folder / "zoo" / name).write_bytes(data)
    (folder / "zoo" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    store = tmp_path / "s.zarr"
    summary = extract(open_source(folder), store, backbone=STUB, batch_size=4)
    reasons = [reason for _, reason in zoo.values()] + ["unreadable"]
    assert summary.failed == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    index = FeatureStore.open(store).index()
    status = dict(zip(index.id, index.status, strict=True))
    assert status["zoo/gone.png"] == "failed:unreadable"
    assert all(status[f"zoo/{name}"] == f"failed:{reason}" for name, (_, reason) in zoo.items())
    got, expected = features(store), features(clean)
    for name in ("cls", "patch_mean"):
        assert np.isnan(got[name][~index.ok]).all()
        assert np.array_equal(got[name][index.ok], expected[name])
    assert index.content_hash[index.id == "zoo/gone.png"].tolist() == [""]
    assert FeatureStore.open(store).read("base", None).x.shape == (6, STUB.dim)


def test_a_broken_neighbour_changes_no_bit(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 7})
    extract(open_source(folder), tmp_path / "one", backbone=STUB, batch_size=4)
    (folder / "a" / "002.png").write_bytes(b"broken")
    extract(open_source(folder), tmp_path / "two", backbone=STUB, batch_size=4)
    one, two = features(tmp_path / "one")["cls"], features(tmp_path / "two")["cls"]
    assert np.isnan(two[2]).all()
    assert np.array_equal(np.delete(one, 2, axis=0), np.delete(two, 2, axis=0))


def test_everything_broken_is_a_valid_store(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 3})
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    summary = extract(open_source(folder), tmp_path / "s.zarr", backbone=STUB)
    assert summary.failed == {"empty": 3}
    assert summary.done_now == 3
    assert FeatureStore.open(tmp_path / "s.zarr").verify() == []


def test_new_images_follow_the_old_ones(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"b": 5})
    store = tmp_path / "s.zarr"
    extract(open_source(folder), store, backbone=STUB, rows_per_shard=4)
    before = features(store)
    image_folder(folder, {"a": 3, "b": 5})  # "a" sorts first; "b" gets other pictures, so keep them
    image_folder(folder, {"b": 5})
    summary = extract(open_source(folder), store, backbone=STUB)
    assert (summary.rows, summary.done_now, summary.skipped) == (8, 4, 4)
    index = FeatureStore.open(store).index()
    assert index.id.tolist() == [f"b/{i:03d}.png" for i in range(5)] + [
        f"a/{i:03d}.png" for i in range(3)
    ]
    assert index.label.tolist() == ["b"] * 5 + ["a"] * 3
    after = features(store)
    assert np.array_equal(after["cls"][:5], before["cls"])
    assert FeatureStore.open(store).source["records"] == 8
    assert FeatureStore.open(store).verify() == []


def test_a_second_view_shares_the_index(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 5})
    (folder / "a" / "bad.png").write_bytes(b"x")
    store, other = tmp_path / "s.zarr", replace(STUB, id="other", seed=1)
    extract(open_source(folder), store, backbone=STUB, rows_per_shard=4)
    index = {k: v for k, v in content(store).items() if k.startswith("index")}
    summary = extract(open_source(folder), store, backbone=other, view="other")
    assert (summary.done_now, summary.failed) == (6, {"not-an-image": 1})
    assert {k: v for k, v in content(store).items() if k.startswith("index")} == index
    assert np.array_equal(
        features(store, "other")["cls"], direct(folder, tmp_path, other), equal_nan=True
    )


def direct(folder: Path, tmp_path: Path, backbone: StubBackbone) -> Any:
    extract(open_source(folder), tmp_path / "direct", backbone=backbone, rows_per_shard=4)
    return features(tmp_path / "direct")["cls"]


def test_one_view_may_lag_and_catch_up(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 5})
    store, other = tmp_path / "s.zarr", replace(STUB, seed=1)
    for view, backbone in (("base", STUB), ("other", other)):
        extract(open_source(folder), store, backbone=backbone, view=view, rows_per_shard=4)
    image_folder(folder, {"a": 7})
    extract(open_source(folder), store, backbone=STUB)
    summary = extract(open_source(folder), store, backbone=other, view="other")
    assert summary.done_now == 3
    assert np.array_equal(features(store, "other")["cls"], direct(folder, tmp_path, other))
    assert FeatureStore.open(store).verify() == []


def test_changed_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 5})
    store = tmp_path / "s.zarr"
    extract(open_source(folder), store, backbone=STUB, rows_per_shard=4)
    shutil.copy(folder / "a" / "000.png", folder / "a" / "003.png")
    with pytest.raises(CacheError, match=r"'a/003.png' \(row 3\) is not the file that was indexed"):
        extract(open_source(folder), store, backbone=replace(STUB, seed=1), view="other")
    (folder / "a" / "003.png").unlink()
    (folder / "a" / "003.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CacheError, match=r"now it is failed:unreadable ''. Restore the file, take"):
        extract(open_source(folder), store, backbone=replace(STUB, seed=1), view="other")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a.png,cat,s", "a.png,cat,", "'a.png' in row 0 has group 's', but the source now says No"),
        ("a.png,cat,s", "c.png,cat,s", "row 0 is 'a.png', which the source no longer lists. Resto"),
    ],
)
def test_listing_that_contradicts_the_store_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = tmp_path / "list.csv"
    head, rest = "path,label,group\n", "\nb.png,cat,t\n"
    file.write_text(head + old + rest)
    extract(open_source(file), tmp_path / "s.zarr", backbone=STUB)
    logits = np.zeros((2, 2))
    store = FeatureStore.open(tmp_path / "s.zarr")
    store.write_logits("base", "h", logits, classes=["cat", "dog"], head_hash="sha256:0")
    file.write_text(head + new + rest)
    with pytest.raises(CacheError, match=re.escape(message)):
        extract(open_source(file), tmp_path / "s.zarr", backbone=STUB)


def test_shorter_listing_is_refused(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 4})
    FeatureStore.create(tmp_path / "s.zarr", source={}, rows=5)
    with pytest.raises(CacheError, match="was planned for 5 images, but the source now lists 4"):
        extract(open_source(folder), tmp_path / "s.zarr", backbone=STUB)


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        (replace(STUB, seed=1), {}, "seed 0, now 1"),
        (STUB, {"preprocessing": Preprocessing(12, "squash")}, "preprocessing.size 8, now 12"),
        (STUB, {"dtype": "float32"}, "store_dtype float16, now float32"),
    ],
)
def test_other_settings_are_not_mixed_into_a_view(
    tmp_path: Path, backbone: StubBackbone, options: dict[str, Any], message: str
) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 2}))
    extract(source, tmp_path / "s.zarr", backbone=STUB)
    with pytest.raises(CacheError, match=re.escape(message)):
        extract(source, tmp_path / "s.zarr", backbone=backbone, **options)


def test_same_backbone_by_another_name_goes_on(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 2})
    extract(open_source(folder), tmp_path / "s.zarr", backbone=STUB)
    image_folder(folder, {"a": 3})
    moved = replace(STUB, id="/moved")
    assert extract(open_source(folder), tmp_path / "s.zarr", backbone=moved).done_now == 3
    assert FeatureStore.open(tmp_path / "s.zarr").view("base").fingerprint["id"] == "stub"


def test_machine_that_computes_other_numbers_is_refused(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 2})
    extract(open_source(folder), tmp_path / "s.zarr", backbone=STUB)
    image_folder(folder, {"a": 3})
    near, far = replace(STUB, scale=1.001), replace(STUB, scale=1.5)
    with pytest.raises(CacheError, match="view 'base' was begun on a machine that computes other"):
        extract(open_source(folder), tmp_path / "s.zarr", backbone=far)
    assert extract(open_source(folder), tmp_path / "s.zarr", backbone=near).rows == 3


def test_fingerprint_holds_what_features_depend_on(tmp_path: Path) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 1}))
    extract(source, tmp_path / "s.zarr", backbone=STUB)
    info = FeatureStore.open(tmp_path / "s.zarr").view("base")
    assert set(info.fingerprint) == {"id", "seed", "preprocessing", "decoder", "store_dtype"}
    assert info.fingerprint["preprocessing"] == STUB.preprocessing.to_dict()
    assert info.fingerprint["decoder"]["reader"] == "pillow"
    assert info.features == {"cls": (6, "float16"), "patch_mean": (6, "float16")}


def test_overflow_is_refused_not_stored(tmp_path: Path) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 3}))
    huge = replace(STUB, scale=1e5)
    with pytest.raises(CacheError, match="float16"):
        extract(source, tmp_path / "s.zarr", backbone=huge)
    assert FeatureStore.open(tmp_path / "s.zarr").committed("base") == {}
    summary = extract(source, tmp_path / "wide", backbone=huge, dtype="bfloat16")
    assert summary.done_now == 3


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Odd(StubBackbone):
        def __call__(self, pixels: Pixels) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
            features = super().__call__(pixels)
            features["patch_mean"][3:] = np.nan
            return features

    source = open_source(image_folder(tmp_path / "images", {"a": 9}))
    message = r"stub gives 'patch_mean' features that are not finite for 'a/00\d\.png'\. Compute"
    with pytest.raises(BackboneError, match=message):
        extract(source, tmp_path / "s.zarr", backbone=Odd(), batch_size=4, rows_per_shard=4)
    with pytest.raises(BackboneError, match="not finite for 'the reference image'"):
        extract(source, tmp_path / "t.zarr", backbone=replace(STUB, scale=float("nan")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"preprocessing": Preprocessing(30)},
            "image size 30 is no multiple of the 4 pixel",
        ),
        ({"preprocessing": Preprocessing(30)}, "Use 28 or 32."),
        ({"preprocessing": Preprocessing(3)}, "Use 4 or 8."),
        ({"preprocessing": Preprocessing(8, mean=(0, 0, 0))}, "mean and std must be those of stub"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0."),
        ({"workers": 0}, "workers must be at least 1, got 0."),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 1}))
    with pytest.raises(ConfigError, match=re.escape(message)):
        extract(source, tmp_path / "s.zarr", backbone=STUB, **options)
    assert not (tmp_path / "s.zarr").exists()


def test_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 1})
    before = content(folder)
    with pytest.raises(CacheError, match="images"):
        extract(open_source(folder), folder, backbone=STUB)
    assert content(folder) == before


def test_error_of_a_source_is_not_swallowed(tmp_path: Path) -> None:
    class Odd:
        def records(self) -> list[Record]:
            return [Record("a", "a", None, None)]

        def read(self, path: str) -> bytes:
            raise KeyError(path)

        def describe(self) -> dict[str, Any]:
            return {"kind": "odd"}

    with pytest.raises(KeyError):
        extract(Odd(), tmp_path / "s.zarr", backbone=STUB)
    assert FeatureStore.open(tmp_path / "s.zarr").committed("index") == {}


def test_a_view_records_what_fewer_bits_cost(tmp_path: Path) -> None:
    source, costs = open_source("digits"), {}
    for dtype in ("float32", "float16", "bfloat16"):
        store = tmp_path / dtype
        extract(source, store, backbone=STUB, dtype=dtype, rows_per_shard=2048)
        costs[dtype] = (FeatureStore.open(store).view("base").drift or {})["precision"]
    assert costs["float32"] == {"compute": 0.0, "store": 0.0}
    assert 0 < costs["float16"]["store"] < 2**-11 < costs["bfloat16"]["store"] < 2**-8
    tiny = load_backbone("tiny", device="cpu", dtype="bfloat16")
    extract(source, tmp_path / "tiny", backbone=tiny, rows_per_shard=2048)
    cost = (FeatureStore.open(tmp_path / "tiny").view("base").drift or {})["precision"]
    assert cost["compute"] == tiny.drift


def test_what_a_view_was_begun_with_can_be_asked_before_anything_is_loaded(tmp_path: Path) -> None:
    assert begun_with(tmp_path / "s", "base") == {}
    extract(open_source("digits"), tmp_path / "s", backbone=STUB, rows_per_shard=2048)
    assert begun_with(tmp_path / "s", "base")["seed"] == 0
    assert begun_with(tmp_path / "s", "other") == {}
