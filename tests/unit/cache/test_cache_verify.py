import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selectkit import artifact
from selectkit.cache import FeatureStore, Problem
from selectkit.errors import CacheError
from tests.unit.cache.cache_samples import FEATURES, filled, part, values


def with_logits(path: Path) -> FeatureStore:
    store = filled(path, rows=12, rows_per_shard=6)
    store.write_logits("base", "h", values(12)[:, :2], classes=["a", "b"], head_hash="sha256:0")
    return store


def problems(root: Path) -> list[Problem]:
    try:
        return FeatureStore.open(root).verify()
    except CacheError as error:
        return [Problem("zarr.json", str(error))]


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    with_logits(tmp_path)
    rng = np.random.default_rng(0)
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock")
    for file in files:
        data = file.read_bytes()
        ends = [0, 8 * len(data) - 1]
        for bit in [*ends, *rng.integers(0, 8 * len(data), size=8).tolist()]:
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            assert problems(tmp_path), f"bit {bit} of {file}"
        file.write_bytes(data)
    assert problems(tmp_path) == []


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", None])
def test_a_missing_or_cut_file_is_found(
    tmp_path: Path, damage: Callable[[bytes], bytes] | None
) -> None:
    with_logits(tmp_path)
    for file in sorted(p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"):
        data = file.read_bytes()
        if damage is not None:
            file.write_bytes(damage(data))
        elif file.parent.parent.name == "commits" or file.parent.name == "base":
            continue  # without its commit a shard, without its zarr.json a view is not there
        else:
            file.unlink()
        # the last byte of a JSON file is a line end that nobody needs
        harmless = (
            damage is not None and file.suffix == ".json" and not damage(data)[-1:].strip(b"}\n")
        )
        assert problems(tmp_path) or harmless, file
        file.write_bytes(data)


def test_problems_say_where_what_and_what_to_do(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    chunk = tmp_path / "views/base/features/cls/c/0/0"
    chunk.write_bytes(b"\1" + chunk.read_bytes()[1:])
    (tmp_path / "index/00001.parquet").unlink()
    logits = tmp_path / "views/base/logits/h/c/1/0"
    logits.write_bytes(logits.read_bytes()[:10])
    again = "`selectkit verify --repair` withdraws its commit commits/{}.json; then {} again."
    assert store.verify()[:1] == [
        Problem(
            "views/base/features/cls/c/0/0",
            f"is damaged: its checksum does not match. {again.format('base/00000', 'extract')}",
        )
    ]
    texts = {p.path: p.what for p in store.verify()}
    assert texts["index/00001.parquet"].startswith(("is missing.", f"{tmp_path}"))
    assert texts["views/base/logits/h/c/1/0"] == (
        f"has 10 bytes instead of 52. {again.format('base.logits.h/00001', 'fit')}"
    )


def test_deleting_the_commit_is_the_way_back(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    commit = tmp_path / "commits/base/00001.json"
    commit.write_bytes(commit.read_bytes().replace(b'"rows":6', b'"rows":5'))
    with pytest.raises(CacheError, match=r"checksum does not match\. Delete it to have the shard"):
        store.committed("base")
    commit.unlink()
    assert store.committed("base") == {0: 6}
    x = values(12)[6:]
    store.write_features("base", 1, {"cls": x, "patch_mean": x})
    assert store.verify() == []


def test_a_damaged_commit_is_replaced_by_writing_its_shard(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    (tmp_path / "commits/base/00001.json").write_text("{")
    x = values(12)[6:]
    store.write_features("base", 1, {"cls": x, "patch_mean": x})
    assert store.verify() == []


def reseal(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads(file.read_bytes())
    change(document)
    del document["checksum"]
    document["checksum"] = artifact.content_hash(document)
    file.write_bytes(artifact.canonical_json(document) + b"\n")


def test_a_commit_in_the_wrong_place_is_found(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    shutil.copy(tmp_path / "commits/base/00000.json", tmp_path / "commits/base/00001.json")
    with pytest.raises(
        CacheError, match="is the commit of shard 0 of 'base': it lies in the wrong"
    ):
        store.committed("base")
    assert [p.path for p in store.verify()] == ["commits/base/00001.json"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.update(format_version=2), "is no commit of format version 1"),
        (lambda d: d.update(rows=0), "does not match its schema: rows: 0 is less than"),
        (lambda d: d.update(rows=7), "has 7 rows, more than the manifest plans"),
        (lambda d: d["files"].popitem(), "names other files than the shard consists of"),
    ],
)
def test_a_commit_that_makes_no_sense_is_found(
    tmp_path: Path, change: Callable[[dict[str, object]], object], text: str
) -> None:
    store = with_logits(tmp_path)
    reseal(tmp_path / "commits/base/00001.json", change)
    assert any(text in p.what for p in store.verify())


def test_metadata_of_another_store_is_found(tmp_path: Path) -> None:
    store = with_logits(tmp_path / "one")
    filled(tmp_path / "two", rows=12, rows_per_shard=6, features={"cls": (6, "float32")})
    name = "views/base/features/cls/zarr.json"
    shutil.copy(tmp_path / "two" / name, tmp_path / "one" / name)
    assert [(p.path, p.what) for p in store.verify()] == [
        (name, "does not describe the array or group that the manifests name.")
    ]


def test_a_ledger_without_its_view_is_found(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    shutil.rmtree(tmp_path / "views/base")
    assert {p.path for p in store.verify()} == {"commits/base", "commits/base.logits.h"}


def test_ids_that_are_there_twice_are_found(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    store.write_index(1, part(range(6)))
    assert Problem("index", "6 ids are there twice, for instance 'image-0'.") in store.verify()


def test_an_index_part_that_is_no_parquet_is_found(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    part_file, commit = tmp_path / "index/00000.parquet", tmp_path / "commits/index/00000.json"
    part_file.write_bytes(b"text")
    from selectkit.cache.ledger import Stamp

    stamp = Stamp.of("index/00000.parquet", b"text")
    files = {"index/00000.parquet": {"bytes": stamp.size, "crc32c": stamp.crc32c}}
    reseal(commit, lambda d: d.update(files=files))
    assert "is damaged: no Parquet file" in store.verify()[0].what


def test_an_index_part_with_other_rows_or_images_than_its_commit_is_found(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    commit = tmp_path / "commits/index/00001.json"
    reseal(commit, lambda d: d.update(images="sha256:" + "0" * 64))
    found = [p.what for p in store.verify() if p.path == "index/00001.parquet"]
    assert found == ["lists other images than its commit."]
    reseal(commit, lambda d: d.update(rows=5))
    with pytest.raises(
        CacheError, match=r"index/00001.parquet holds 6 rows of id, path, .* 5 rows"
    ):
        store.index()


def test_a_replacement_that_lost_a_file_is_found(tmp_path: Path) -> None:
    store = with_logits(tmp_path)
    commit = tmp_path / "commits/base/00001.json"
    old = json.loads(commit.read_bytes())
    store.write_features("base", 1, dict.fromkeys(FEATURES, values(12)[6:] * 2))
    new = {
        key: value
        for key, value in json.loads(commit.read_bytes()).items()
        if key in {"rows", "images", "files"}
    }
    commit.write_bytes(artifact.canonical_json(old))
    reseal(commit, lambda d: d.update(next=new))
    assert store.verify() == []
    (tmp_path / "views/base/features/cls/c/1/0").unlink()
    assert [p.path for p in store.verify()] == ["views/base/features/cls/c/1/0"]
