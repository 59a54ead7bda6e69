"""A source that changed: labels and groups, contents, deleted images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore, Index
from selectkit.errors import CacheError
from selectkit.extract import ExtractionSummary, extract, open_source
from selectkit.extract.changes import Changes
from tests.unit.extract.extract_tools import StubBackbone, content, image_folder

STUB = StubBackbone()
OTHER = replace(STUB, id="other", seed=1)


def run(folder: Path, store: Path, view: str = "base", **options: Any) -> ExtractionSummary:
    backbone = {"base": STUB, "other": OTHER}[view]
    return extract(
        open_source(folder), store, backbone=backbone, view=view, rows_per_shard=4, **options
    )


def both(folder: Path, store: Path, **options: Any) -> None:
    for view in ("base", "other"):
        run(folder, store, view, **options)


def features(store: Path, view: str = "base") -> Any:
    return np.asarray(FeatureStore.open(store).array(view, "cls")[:])


def index(store: Path) -> Index:
    return FeatureStore.open(store).index()


def other_image(folder: Path, name: str) -> None:
    image_folder(folder.parent / "more", {"a": 1}, seed=77)
    (folder / name).write_bytes((folder.parent / "more/a/000.png").read_bytes())


def test_a_new_label_is_taken_over_and_features_are_kept(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"a": 6})
    table = tmp_path / "list.csv"
    rows = [f"a/{i:03d}.png,{'cat' if i % 2 else 'dog'}" for i in range(6)]
    table.write_text("\n".join(["path,label", *rows]))
    both(table, tmp_path / "s")
    before = content(tmp_path / "s")
    rows[5] = "a/005.png,bird"
    table.write_text("\n".join(["path,label", *rows]))
    summary = run(table, tmp_path / "s")
    assert (summary.done_now, summary.changes) == (0, Changes(relabelled=1))
    assert index(tmp_path / "s").label.tolist()[4:] == ["dog", "bird"]
    after = content(tmp_path / "s")
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {"index/00001.parquet", "commits/index/00001.json", "zarr.json"}
    both(table, tmp_path / "t")
    assert content(tmp_path / "t") == after
    assert folder.exists()


def test_a_new_group_is_taken_over_until_a_head_is_fitted(tmp_path: Path) -> None:
    image_folder(tmp_path, {"a": 2})
    table = tmp_path / "list.csv"

    def write(group: str) -> None:
        table.write_text(f"path,label,group\na/000.png,x,{group}\na/001.png,y,g\n")

    write("one")
    run(table, tmp_path / "s")
    write("two")
    assert run(table, tmp_path / "s").changes == Changes(regrouped=1)
    assert index(tmp_path / "s").group.tolist() == ["two", "g"]
    store = FeatureStore.open(tmp_path / "s")
    store.write_logits("base", "h", np.zeros((2, 2)), classes=["x", "y"], head_hash="sha256:0")
    write("three")
    with pytest.raises(CacheError, match="has group 'two', but the source now says 'three', and a"):
        run(table, tmp_path / "s")


def test_a_changed_image_is_trusted_without_and_found_with_rescan(tmp_path: Path) -> None:
    folder, store = image_folder(tmp_path / "images", {"a": 10}), tmp_path / "s"
    both(folder, store)
    old = features(store)
    other_image(folder, "a/005.png")
    assert run(folder, store).done_now == 0
    summary = run(folder, store, rescan=True)
    assert (summary.done_now, summary.changes) == (4, Changes(changed=1))
    assert (features(store) != old).any(axis=1).nonzero()[0].tolist() == [5]
    assert sum(FeatureStore.open(store).committed("other").values()) == 6  # it lags
    assert run(folder, store, "other").done_now == 4
    both(folder, tmp_path / "t")
    assert content(store) == content(tmp_path / "t")
    assert run(folder, store, rescan=True).changes == Changes()


def test_an_image_that_broke_and_one_that_was_mended(tmp_path: Path) -> None:
    folder, store = image_folder(tmp_path / "images", {"a": 5}), tmp_path / "s"
    whole = (folder / "a/001.png").read_bytes()
    (folder / "a/001.png").write_bytes(b"broken")
    both(folder, store)
    (folder / "a/001.png").write_bytes(whole)
    (folder / "a/002.png").write_bytes(b"")
    assert run(folder, store, rescan=True).changes == Changes(changed=2)
    run(folder, store, "other")
    assert index(store).status.tolist() == ["ok", "ok", "failed:empty", "ok", "ok"]
    both(folder, tmp_path / "t")
    assert content(store) == content(tmp_path / "t")


def test_a_deleted_image_keeps_its_row_and_loses_its_features(tmp_path: Path) -> None:
    folder, store = image_folder(tmp_path / "images", {"a": 10}), tmp_path / "s"
    both(folder, store)
    old, data = features(store, "other"), (folder / "a/005.png").read_bytes()
    (folder / "a/005.png").unlink()
    with pytest.raises(CacheError, match=r"no longer lists\. Restore it, mark such rows as"):
        run(folder, store)
    summary = run(folder, store, rescan=True)
    assert (summary.rows, summary.done_now, summary.failed) == (10, 0, {})
    assert summary.changes == Changes(deleted=1)
    opened = FeatureStore.open(store)
    assert opened.index().statuses == {"deleted": 1, "ok": 9}
    assert opened.read("other", None).ids.tolist() == [
        f"a/{i:03d}.png" for i in range(10) if i != 5
    ]
    assert np.isnan(features(store, "other")[5]).all()
    assert np.array_equal(np.delete(features(store, "other"), 5, 0), np.delete(old, 5, 0))
    assert opened.verify() == []
    assert run(folder, store).changes == Changes()  # known, no need of --rescan
    image_folder(folder, {"b": 2})
    assert run(folder, store).rows == 12
    (folder / "a/005.png").write_bytes(data)
    assert run(folder, store).changes == Changes(changed=1)
    run(folder, store, "other")
    assert index(store).statuses == {"ok": 12}
    assert np.array_equal(features(store, "other")[:10], old)


def test_features_of_a_deleted_image_end_the_same_if_they_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the index and the views, the shard is computed again."""
    folder = image_folder(tmp_path / "images", {"a": 10})
    for name in ("s", "t"):
        both(folder, tmp_path / name)
    (folder / "a/005.png").unlink()
    run(folder, tmp_path / "s", rescan=True)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "_drop", lambda *arguments: None)
        assert run(folder, tmp_path / "t", rescan=True).done_now == 4
    run(folder, tmp_path / "t", "other")
    assert content(tmp_path / "s") == content(tmp_path / "t")


def test_another_source_does_not_delete_everything(tmp_path: Path) -> None:
    store = tmp_path / "s"
    run(image_folder(tmp_path / "images", {"a": 3}), store)
    before = content(store)
    with pytest.raises(CacheError, match="the source lists not one of its 3 images"):
        run(image_folder(tmp_path / "others", {"b": 4}), store, rescan=True)
    assert content(store) == before
