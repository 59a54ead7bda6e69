"""Several processes, one store: they share the work, and any of them may die at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import BusyError, FeatureStore, IndexPart
from selectkit.cache.owner import is_gone, machine, process
from selectkit.errors import CacheError, ConfigError
from selectkit.extract import extract, open_source
from selectkit.extract.claim_files import FileClaims
from selectkit.extract.claims import Claims, tidy
from selectkit.extract.plan import part_of
from tests.unit.extract.extract_tools import StubBackbone, content, image_folder

ROOT = Path(__file__).resolve().parents[3]

WORKER = """
import os, sys, time
from selectkit.cache import FeatureStore
from selectkit.extract import extract, open_source
from tests.unit.extract.extract_tools import StubBackbone

store, log, part = sys.argv[1:]
write = FeatureStore.write_features

def logged(self, view, shard, arrays):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {shard}\\n")
    write(self, view, shard, arrays)

FeatureStore.write_features = logged
extract(
    open_source("digits"), store, backbone=StubBackbone(), rows_per_shard=32, workers=1,
    shard_range=part or None, progress=lambda p: time.sleep(0.01),
)
"""


def worker(store: Path, log: Path, part: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(store), str(log), part]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})


def owners(log: Path) -> dict[int, list[int]]:
    """Process numbers by shard, in the order in which they wrote it."""
    found = defaultdict(list)
    for line in log.read_text().splitlines():
        process, shard = map(int, line.split())
        found[shard].append(process)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store of one process that nothing interrupted."""
    store = tmp_path_factory.mktemp("whole") / "s.zarr"
    extract(open_source("digits"), store, backbone=StubBackbone(), rows_per_shard=32)
    return content(store)


def test_four_processes_share_the_shards(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """They also make the store at the same time."""
    store, log = tmp_path / "s.zarr", tmp_path / "log"
    workers = [worker(store, log) for _ in range(4)]
    assert [process.wait(timeout=100) for process in workers] == [0] * 4
    written = owners(log)
    assert sorted(written) == list(range(57))
    assert all(len(processes) == 1 for processes in written.values())
    assert len({processes[0] for processes in written.values()}) > 1
    assert content(store) == whole


def test_four_processes_killed_at_random_lose_and_repeat_nothing(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    store, log, rng = tmp_path / "s.zarr", tmp_path / "log", random.Random(0)
    workers = [worker(store, log) for _ in range(4)]
    killed = set()
    for _ in range(6):
        time.sleep(0.6 + rng.random())
        victim = rng.randrange(4)
        workers[victim].kill()
        if workers[victim].wait() == -signal.SIGKILL:
            killed.add(workers[victim].pid)
        workers[victim] = worker(store, log)
    assert [process.wait(timeout=100) for process in workers] == [0] * 4
    assert killed
    for processes in owners(log).values():
        assert set(processes[:-1]) <= killed
    assert content(store) == whole


def test_ranges_are_disjoint_and_complete_the_store(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    store, log = tmp_path / "s.zarr", tmp_path / "log"
    workers = [worker(store, log, f"{i}/3") for i in (1, 2, 3)]
    assert [process.wait(timeout=100) for process in workers] == [0] * 3
    for shard, processes in owners(log).items():
        assert processes == [workers[shard * 3 // 57].pid]
    assert content(store) == whole


def test_a_range_is_complete_before_the_store_is(tmp_path: Path) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 9}))
    run = partial(extract, source, tmp_path / "s", backbone=StubBackbone(), rows_per_shard=2)
    first = run(shard_range="2/2")
    assert (first.rows, first.done_now, first.skipped, first.interrupted) == (9, 5, 0, False)
    again = run(shard_range="2/2")
    assert (again.done_now, again.skipped) == (0, 5)
    rest = run()
    assert (rest.done_now, rest.skipped) == (4, 5)


def test_parts_are_disjoint_and_whole() -> None:
    assert part_of(10, None) == range(10)
    for shards in (0, 1, 7, 64):
        for n in (1, 3, 9):
            parts = [part_of(shards, f"{i}/{n}") for i in range(1, n + 1)]
            assert [k for part in parts for k in part] == list(range(shards))


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", ""])
def test_other_parts_are_refused(tmp_path: Path, text: str) -> None:
    source = open_source(image_folder(tmp_path / "images", {"a": 1}))
    with pytest.raises(ConfigError, match="is not of the form i/n with 1 <= i <= n, for instance"):
        extract(source, tmp_path / "s", backbone=StubBackbone(), shard_range=text)
    assert not (tmp_path / "s").exists()


@contextmanager
def store_of(path: Path, shards: int = 3) -> Iterator[FeatureStore]:
    """An empty store within `sharing`; one row per shard."""
    store = FeatureStore.create(path, source={}, rows=shards, rows_per_shard=1)
    store.create_view("base", fingerprint={}, features={"cls": (2, "float32")})
    with store.sharing(lambda: None, lambda: True):
        yield store


def finish(store: FeatureStore, shard: int) -> None:
    part = IndexPart([str(shard)], ["p"], [None], [None], ["sha256:0"], ["ok"], [1], [1])
    store.write_index(shard, part)
    store.write_features("base", shard, {"cls": np.zeros((1, 2), dtype=np.float32)})


def make_stale(store: FeatureStore, shard: int, owner: str = "{}") -> Path:
    """A claim of a process of another machine, untouched for ever."""
    file = Path(str(store.path)) / f"leases/base/{shard:05d}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(owner)
    os.utime(file, (1, 1))
    return file


def test_a_claim_keeps_others_away_until_it_is_released(tmp_path: Path) -> None:
    with store_of(tmp_path / "s") as store:
        with Claims(store, "base", range(3)) as one, Claims(store, "base", range(3)) as two:
            mine = one.available()
            assert next(mine) == 0
            assert list(two.available()) == [1, 2]
            assert list(mine) == []
            assert one.holds(0)
            assert not two.holds(0)
            finish(store, 0)
            one.release(0)
            assert not one.holds(0)
            two.release(1)
            assert list(one.available()) == [1]
            assert one.unfinished() == {1, 2}
        assert list((tmp_path / "s/leases/base").iterdir()) == []
    tidy(store, "base")
    assert not (tmp_path / "s/leases").exists()


def test_the_claim_of_a_dead_process_is_taken_at_once(tmp_path: Path) -> None:
    dead = subprocess.Popen(["sleep", "60"])
    owner = {**machine(), **process(dead.pid)}
    assert {"boot", "space", "process", "start"} == set(owner)
    with store_of(tmp_path / "s") as store, Claims(store, "base", [0]) as claims:
        file = make_stale(store, 0, json.dumps(owner))
        assert list(claims.available()) == []
        dead.kill()
        dead.wait()
        assert list(claims.available()) == [0]
        assert json.loads(file.read_text())["process"] == str(os.getpid())


def test_a_number_that_belongs_to_another_process_now_is_a_dead_owner(tmp_path: Path) -> None:
    me = {**machine(), **process(os.getpid())}
    assert not is_gone(me)
    assert is_gone({**me, "start": "1"})
    assert not is_gone({**me, "start": "1", "boot": "another machine"})
    assert not is_gone({})


def test_an_untouched_claim_of_another_machine_expires(tmp_path: Path) -> None:
    with store_of(tmp_path / "s") as store, Claims(store, "base", [0], expiry=0.6) as claims:
        make_stale(store, 0)
        assert list(claims.available()) == []  # it may be alive, and the clock have been set
        time.sleep(0.25)
        assert list(claims.available()) == [0]


def test_a_claim_from_the_future_expires_too(tmp_path: Path) -> None:
    with store_of(tmp_path / "s") as store, Claims(store, "base", [0], expiry=0.4) as claims:
        os.utime(make_stale(store, 0), (4e9, 4e9))
        assert list(claims.available()) == []
        time.sleep(0.25)
        assert list(claims.available()) == []
        time.sleep(0.2)
        assert list(claims.available()) == [0]


def test_a_heartbeat_keeps_a_claim(tmp_path: Path) -> None:
    with store_of(tmp_path / "s") as store, Claims(store, "base", [0], expiry=0.3) as one:
        assert list(one.available()) == [0]
        with Claims(store, "base", [0], expiry=0.3) as two:
            for _ in range(8):
                assert list(two.available()) == []
                time.sleep(0.1)


def test_who_lost_a_claim_notices(tmp_path: Path) -> None:
    with store_of(tmp_path / "s") as store, Claims(store, "base", [0]) as one:
        assert list(one.available()) == [0]
        file = make_stale(store, 0)
        assert not one.holds(0)
        one.release(0)
        assert file.exists()


def test_what_was_taken_away_is_not_committed(tmp_path: Path) -> None:
    """The rows of a lost claim are thrown away; who took it commits them."""
    source = open_source(image_folder(tmp_path / "images", {"a": 4}))
    store = tmp_path / "s"
    taken: list[Path] = []

    def steal(progress: object) -> None:
        if not taken:
            taken.append(make_stale(FeatureStore.open(store), 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileClaims, "_is_void", lambda self, shard: bool(taken) and shard == 0)
        summary = extract(
            source, store, backbone=StubBackbone(), rows_per_shard=2, batch_size=1, progress=steal
        )
    assert summary.done_now == 4
    assert FeatureStore.open(store).verify() == []


def test_another_listing_waits_for_the_others_and_gives_up(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "s", source={}, rows=3)
    other = tmp_path / ".." / tmp_path.name / "s"
    with store.sharing(lambda: None, lambda: True):
        late = FeatureStore.open(other).sharing(lambda: None, lambda: False, patience=0.1)
        with pytest.raises(BusyError, match="is being written by another process: wait"), late:
            pass
        with pytest.raises(CacheError, match="is being written by another process"):
            store.grow(4)
