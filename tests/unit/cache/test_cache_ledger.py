"""Writers that die: at every step of a write the store holds the old rows or the new ones."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selectkit import artifact
from selectkit.cache import FeatureStore, ledger
from selectkit.cache.files import Files
from selectkit.errors import CacheError
from tests.unit.cache.cache_samples import FEATURES, FINGERPRINT, filled, part, values, write_shard

Write = Callable[[Path, bytes], None]


class Killed(BaseException):
    """Stands for kill -9: no handler of ours may catch it."""


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the write number `step` stop half-way, its temporary file left behind."""
    real, calls = artifact.write_bytes, iter(range(10**6))

    def write(path: Path, data: bytes) -> None:
        if next(calls) == step:
            (path.parent / f".{path.name}.abcd_123").write_bytes(data[: len(data) // 2])
            raise Killed
        real(path, data)

    monkeypatch.setattr(artifact, "write_bytes", write)


def steps_until_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[FeatureStore], None]
) -> list[Path]:
    """Copies of a store, the n-th one killed at the n-th write of `act`."""
    before = tmp_path / "before"
    filled(before)
    killed = []
    for step in range(100):
        root = tmp_path / f"killed-{step}"
        shutil.copytree(before, root)
        with monkeypatch.context() as patch:
            die_at(patch, step)
            try:
                act(FeatureStore.open(root))
            except Killed:
                killed.append(root)
            else:
                return killed
    raise AssertionError("the action never ended")


def content(root: Path) -> dict[str, bytes]:
    files = (p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def append(store: FeatureStore) -> None:
    with store.writing():
        store.grow(37)
        for shard in (2, 3):
            write_shard(store, shard)


def test_a_killed_append_leaves_old_or_new_rows_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = steps_until_done(tmp_path, monkeypatch, append)
    assert len(killed) == 3 + (3 + 4) + (2 + 3)  # grow; a shard that was there; a new one
    for root in killed:
        store = FeatureStore.open(root)
        assert store.verify() == []
        assert store.committed("base")[2] in {5, 10}
        rows = store.array("base", "cls").rows
        assert len(rows) in {25, 30, 37}
        expected = values(37).astype(np.float16)[rows]
        np.testing.assert_array_equal(store.array("base", "cls")[rows], expected)
        assert len(store.read("base", None, feature="cat", labelled=False).rows) == len(rows) - 1
        append(FeatureStore.open(root))
        assert content(root) == content(tmp_path / f"killed-{len(killed)}")


def replace(store: FeatureStore) -> None:
    store.write_features("base", 1, dict.fromkeys(FEATURES, values(20)[10:] * 2))


def test_a_killed_replacement_keeps_every_file_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = steps_until_done(tmp_path, monkeypatch, replace)
    assert len(killed) == 4  # both states, two chunks, the commit
    old, new = values(20).astype(np.float16)[10:], (values(20)[10:] * 2).astype(np.float16)
    for step, root in enumerate(killed):
        store = FeatureStore.open(root)
        assert store.verify() == []
        got = store.array("base", "cls")[10:20]
        np.testing.assert_array_equal(got, new if step >= 2 else old)
        store.read("base", None, feature="patch_mean")


def test_a_ledger_that_does_not_name_both_states_would_lose_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ledger._write

    def only_final(
        files: Files, scope: str, shard: int, commit: ledger.Commit, following: ledger.Commit | None
    ) -> None:
        if following is None:
            real(files, scope, shard, commit, following)

    monkeypatch.setattr(ledger, "_write", only_final)
    killed = steps_until_done(tmp_path, monkeypatch, replace)
    assert any(FeatureStore.open(root).verify() for root in killed)


def test_a_killed_change_of_head_never_mixes_two_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_heads(store: FeatureStore) -> None:
        store.write_logits("base", "h", np.zeros((25, 2)), classes=["a", "b"], head_hash="h1")
        store.write_logits("base", "h", np.ones((25, 2)), classes=["a", "b"], head_hash="h2")

    for root in steps_until_done(tmp_path, monkeypatch, two_heads):
        store = FeatureStore.open(root)
        assert store.verify() == []
        for info in store.heads("base").values():
            array = store.logits("base", "h")
            found = array[array.rows]
            assert np.all(np.isnan(found) | (found == {"h1": 0.0, "h2": 1.0}[info.head_hash]))


def test_a_killed_create_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(3):
        root = tmp_path / str(step)
        with monkeypatch.context() as patch:
            die_at(patch, step)
            with pytest.raises(Killed):
                FeatureStore.create(root, source={}, rows=4)
        with pytest.raises(CacheError, match="no feature store at"):
            FeatureStore.open(root)
        store = FeatureStore.create(root, source={}, rows=4)
        with store.writing():
            pass
        assert store.verify() == store.leftovers() == []


def test_leftovers_are_told_and_swept_by_the_next_writer(tmp_path: Path) -> None:
    store = filled(tmp_path)
    names = [
        ".zarr.json.abcd_123",
        "commits/base/.00000.json.abcd_123",
        "index/.x.parquet.12345678",
    ]
    for name in names:
        (tmp_path / name).touch()
    chunk = "views/base/features/cls/c/1/.0.abcd_123"
    (tmp_path / chunk).touch()
    assert [p.path for p in store.leftovers()] == sorted([*names, chunk])
    assert store.verify() == []
    with store.writing():
        pass
    assert [p.path for p in store.leftovers()] == [chunk]
    write_shard(store, 1)
    assert store.leftovers() == []


WRITER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.unit.cache.cache_samples import write_shard
from selectkit.cache import FeatureStore
store = FeatureStore.open(Path(sys.argv[1]))
with store.writing():
    for n in range(10**6):
        write_shard(store, n % store.n_shards)
        if n == 0:
            print("writing", flush=True)
"""


def test_kill_9_while_writing(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "s", source={}, rows=400, rows_per_shard=100)
    store.create_view("base", fingerprint=FINGERPRINT, features=FEATURES)
    command = [sys.executable, "-c", WRITER, str(store.path), str(Path(__file__).parents[3])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        with pytest.raises(CacheError, match="is being written by another process: wait for it"):
            store.grow(500)
        os.kill(writer.pid, signal.SIGKILL)
    assert store.verify() == []
    for shard in range(4):
        write_shard(store, shard)
    assert store.leftovers() == store.verify() == []
    assert len(store.read("base", None, labelled=False).rows) == 399


FORKING = """
import os, sys, time
from pathlib import Path
from selectkit.cache import FeatureStore
with FeatureStore.open(Path(sys.argv[1])).writing():
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


def test_a_worker_process_does_not_keep_its_dead_parents_lock(tmp_path: Path) -> None:
    store = filled(tmp_path)
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        child = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        try:
            store.grow(26)
        finally:
            os.kill(child, signal.SIGKILL)
    assert store.rows == 26


def test_two_handles_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    one = filled(tmp_path)
    two = FeatureStore.open(tmp_path / ".." / tmp_path.name)
    with one.writing(), one.writing():
        one.grow(26)
        with pytest.raises(CacheError, match="is being written by another process"):
            two.grow(27)
    two.grow(27)
    one.write_index(2, part(range(20, 27)))  # sees that the store has grown
    assert one.rows == 27


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(CacheError, match="cannot be written: Is a directory"):
        store.grow(26)
