"""Identical images are computed once, and the store is the same as if they were not."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.extract import ExtractionSummary, extract, open_source
from selectkit.extract.known import Kept
from tests.unit.extract.extract_tools import Pixels, StubBackbone, content, image_folder


@dataclass(frozen=True)
class Counting(StubBackbone):
    """Counts the images that are not black, and gives them the same numbers anywhere."""

    seen: list[int] = field(default_factory=list)

    def __call__(self, pixels: Pixels) -> dict[str, Any]:
        self.seen.append(int(pixels.any(axis=(1, 2, 3)).sum()))
        one_by_one = [super(Counting, self).__call__(image[None]) for image in pixels]
        return {name: np.concatenate([x[name] for x in one_by_one]) for name in one_by_one[0]}

    @property
    def computed(self) -> int:
        return sum(self.seen) - 3 * sum(n == 3 for n in self.seen[:1])


class Placed(Counting):
    """Gives an image other numbers at another place of a batch."""

    def __call__(self, pixels: Pixels) -> dict[str, Any]:
        plain = super().__call__(pixels)
        return {k: x + 1e-3 * np.arange(len(x))[:, None] for k, x in plain.items()}


def run(folder: Path, store: Path, backbone: Counting, **options: Any) -> ExtractionSummary:
    backbone.seen.clear()
    settings = {"batch_size": 4, "rows_per_shard": 8, "dtype": "float32", **options}
    return extract(open_source(folder), store, backbone=backbone, **settings)


@pytest.fixture
def doubles(tmp_path: Path) -> Path:
    """30 images, of which every third is the first one, and a broken one is there four times."""
    folder = image_folder(tmp_path / "images", {"a": 30})
    for i in range(3, 30, 3):
        shutil.copy(folder / "a" / "000.png", folder / "a" / f"{i:03d}.png")
    for i in (1, 5, 13, 20):
        (folder / "a" / f"{i:03d}.png").write_bytes(b"no image")
    return folder


def test_identical_images_are_computed_once(tmp_path: Path, doubles: Path) -> None:
    counting = Counting()
    summary = run(doubles, tmp_path / "s.zarr", counting)
    distinct = len({path.read_bytes() for path in doubles.rglob("*.png")}) - 1
    assert counting.computed == distinct == 17
    assert (summary.done_now, summary.failed) == (30, {"not-an-image": 4})
    placed = Placed()
    run(doubles, tmp_path / "p.zarr", placed)
    assert placed.computed == 26  # nothing may be copied
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert store.verify() == []
    x, index = store.array("base", "cls")[:], store.index()
    assert [np.isnan(x[i]).any() for i in range(30)] == [i in {1, 5, 13, 20} for i in range(30)]
    assert all(np.array_equal(x[i], x[0]) for i in range(3, 30, 3))
    assert set(index.width[index.ok].tolist()) == {12}


def test_the_store_is_that_of_a_run_without_copies(
    tmp_path: Path, doubles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(doubles, tmp_path / "s.zarr", Counting())
    monkeypatch.setattr("selectkit.extract.known.KnownImages.row_of", lambda *_: None)
    plain = Counting()
    run(doubles, tmp_path / "t.zarr", plain)
    assert plain.computed == 26
    assert content(tmp_path / "s.zarr") == content(tmp_path / "t.zarr")


def test_growing_a_store_computes_only_what_is_new(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 13})
    counting = Counting()
    run(folder, tmp_path / "s.zarr", counting)
    image_folder(tmp_path / "more", {"b": 4}, seed=900)
    shutil.copytree(tmp_path / "more" / "b", folder / "b")
    shutil.copy(folder / "a" / "002.png", folder / "b" / "again.png")
    summary = run(folder, tmp_path / "s.zarr", counting)
    assert (counting.computed, summary.done_now, summary.skipped) == (4, 10, 8)
    fresh = Counting()
    run(folder, tmp_path / "t.zarr", fresh)
    grown, whole = (FeatureStore.open(tmp_path / n) for n in ("s.zarr", "t.zarr"))
    assert grown.verify() == []
    assert np.array_equal(grown.array("base", "cls")[:], whole.array("base", "cls")[:])


def test_an_original_that_is_not_there_after_all_is_computed(
    tmp_path: Path, doubles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another process has taken over the shard of the original."""
    from selectkit.extract.known import KnownImages

    plain = KnownImages._read
    asked: list[int] = []

    def once_nothing(self: KnownImages, shard: int) -> Any:
        asked.append(shard)
        return plain(self, shard) if len(asked) > 1 else {}

    monkeypatch.setattr(KnownImages, "_read", once_nothing)
    run(doubles, tmp_path / "s.zarr", Counting())
    monkeypatch.undo()
    run(doubles, tmp_path / "t.zarr", Counting())
    assert len(asked) > 1
    assert content(tmp_path / "s.zarr") == content(tmp_path / "t.zarr")


def test_a_second_view_knows_nothing_of_the_first(tmp_path: Path, doubles: Path) -> None:
    counting = Counting()
    run(doubles, tmp_path / "s.zarr", counting)
    other = Counting(seed=1, id="other")
    run(doubles, tmp_path / "s.zarr", other, view="other")
    assert other.computed == 17


def test_a_changed_image_costs_one_image(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 13})
    counting = Counting()
    run(folder, tmp_path / "s.zarr", counting)
    image_folder(tmp_path / "more", {"b": 2}, seed=900)
    shutil.copy(tmp_path / "more" / "b" / "000.png", folder / "a" / "002.png")
    shutil.copy(tmp_path / "more" / "b" / "001.png", folder / "a" / "new.png")
    summary = run(folder, tmp_path / "s.zarr", counting, rescan=True)
    assert summary.changes.changed == 1
    assert counting.computed == 2
    run(folder, tmp_path / "t.zarr", Counting())
    changed, fresh = (FeatureStore.open(tmp_path / n) for n in ("s.zarr", "t.zarr"))
    assert changed.verify() == []
    for name in ("cls", "patch_mean"):
        assert np.array_equal(changed.array("base", name)[:], fresh.array("base", name)[:])


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_shard = 8 * 6 * 4 * 2
    monkeypatch.setattr("selectkit.extract.setup.Kept", lambda: Kept(one_shard))
    folder = image_folder(tmp_path / "images", {"a": 16})
    counting = Counting()
    run(folder, tmp_path / "s.zarr", counting)
    image_folder(tmp_path / "more", {"b": 2}, seed=900)
    for i in (2, 9):
        shutil.copy(tmp_path / "more" / "b" / f"00{i // 8}.png", folder / "a" / f"{i:03d}.png")
    run(folder, tmp_path / "s.zarr", counting, rescan=True)
    assert counting.computed == 1 + 8
