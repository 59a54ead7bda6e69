import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import FeatureStore, Problem, SplitScheme, repair
from selectkit.errors import CacheError
from tests.unit.cache.cache_samples import FEATURES, filled, values, write_shard


def content(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def sample(path: Path) -> FeatureStore:
    store = filled(path, rows=12, rows_per_shard=6)
    store.create_view("other", fingerprint={"x": 1}, features=FEATURES)
    for shard in range(2):
        write_shard(store, shard, "other")
    store.set_splits(SplitScheme(salt="another", fractions=(0.5, 0.1, 0.2, 0.2)))
    write_logits(store)
    return store


def write_logits(store: FeatureStore) -> None:
    store.write_logits("base", "h", values(12)[:, :2], classes=["a", "b"], head_hash="sha256:0")


def refill(root: Path) -> None:
    """Write what is not there, as an extraction and a fit would."""
    store = FeatureStore.open(root)
    for view in ("base", "other"):
        for shard in range(2):
            if not store.finished(view, shard):
                write_shard(store, shard, view)
    write_logits(store)


def flip(file: Path, rng: np.random.Generator) -> None:
    data = bytearray(file.read_bytes())
    data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
    file.write_bytes(data)


def is_found(root: Path) -> bool:
    try:
        return bool(FeatureStore.open(root).verify())
    except CacheError:
        return True


def test_a_wrong_byte_anywhere_is_found_and_repaired_to_the_last_bit(tmp_path: Path) -> None:
    sample(tmp_path / "s")
    before = content(tmp_path / "s")
    rng = np.random.default_rng(0)
    data = sorted(name for name in before if not name.endswith(("zarr.json", ".lock", "its.json")))
    assert len(data) == 2 * (1 + 2 * 2 + 1) + 2 * 4
    for name in data:
        for _ in range(3):
            flip(tmp_path / "s" / name, rng)
            assert is_found(tmp_path / "s"), name
            assert repair(tmp_path / "s")
            assert FeatureStore.open(tmp_path / "s").verify() == []
            refill(tmp_path / "s")
            assert content(tmp_path / "s") == before, name


def test_a_wrong_byte_in_a_description_is_mended(tmp_path: Path) -> None:
    sample(tmp_path)
    before = content(tmp_path)
    rng = np.random.default_rng(1)
    names = sorted(name for name in before if name.endswith(("zarr.json", "its.json")))
    assert len(names) == 1 + 1 + 1 + 2 * (1 + 2 + 2) + 1
    for name in names:
        flip(tmp_path / name, rng)
        if is_found(tmp_path):
            whats = [p.what for p in repair(tmp_path) if p.path == name]
            assert len(whats) == 1
        else:  # white space
            (tmp_path / name).write_bytes(before[name])
        assert content(tmp_path) == before, name


@pytest.mark.parametrize("name", ["index/00001.parquet", "views/base/features/cls/c/0/0"])
def test_a_missing_file_is_withdrawn(tmp_path: Path, name: str) -> None:
    sample(tmp_path)
    before = content(tmp_path)
    (tmp_path / name).unlink()
    scope = "index/00001" if name.startswith("index") else "base/00000"
    again = "withdrawn: run `selectkit extract` again to have the shard written anew."
    assert repair(tmp_path) == [Problem(f"commits/{scope}.json", again)]
    assert FeatureStore.open(tmp_path).verify() == []
    refill(tmp_path)
    assert content(tmp_path) == before


def test_missing_descriptions_of_arrays_are_written_anew(tmp_path: Path) -> None:
    sample(tmp_path)
    before = content(tmp_path)
    names = [
        "views/zarr.json",
        "views/base/features/zarr.json",
        "views/base/features/cls/zarr.json",
    ]
    for name in names:
        (tmp_path / name).unlink()
    assert [p.path for p in repair(tmp_path)] == [names[0], names[2], names[1]]
    assert content(tmp_path) == before


def test_an_intact_store_is_left_alone(tmp_path: Path) -> None:
    sample(tmp_path)
    before = content(tmp_path)
    assert repair(tmp_path) == []
    assert content(tmp_path) == before


def test_what_cannot_be_mended_is_told(tmp_path: Path) -> None:
    sample(tmp_path / "s")
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    file = tmp_path / "s/views/other/zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["selectkit"]["fingerprint"] = {"x": 12}
    document["node_type"] = "array"
    file.write_text(json.dumps(document))
    repair(tmp_path / "s")
    problems = FeatureStore.open(tmp_path / "s").verify()
    assert problems[0].path == "views/other/zarr.json"
    (tmp_path / "t/zarr.json").write_text("{}")
    with pytest.raises(CacheError, match="is a Zarr hierarchy but no feature store"):
        repair(tmp_path / "t")
    with pytest.raises(CacheError, match="no feature store at"):
        repair(tmp_path / "nothing")
