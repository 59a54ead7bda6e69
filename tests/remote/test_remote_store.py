"""A store in an object store is the store of a folder, file for file."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import BusyError, FeatureStore, SplitScheme, leases, owner, repair
from selectkit.cache.leases import LeaseLock
from selectkit.errors import CacheError, ConfigError, MissingExtraError, RemoteError
from selectkit.location import Url, local_path, location
from selectkit.objects import Objects
from tests.remote.server import Wire
from tests.unit.cache.cache_samples import filled, values, write_shard


def stored(place: Url) -> dict[str, bytes]:
    """All objects of a store."""
    objects = Objects(place)
    return {entry.path: objects.get(entry.path)[0] for entry in objects.list()}


def files(folder: Path) -> dict[str, bytes]:
    """All files of a store but its lock."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def copies(tmp_path: Path, part: str) -> list[Path]:
    return sorted(p for p in (tmp_path / "copies").rglob("*") if p.is_file() and part in str(p))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def change(store: FeatureStore) -> None:
    """Everything that can be done to a filled store."""
    store.set_splits(SplitScheme(salt="other"))
    store.write_logits("base", "h", values(25, 3), classes=["a", "b", "c"], head_hash="h1")
    store.grow(28)
    write_shard(store, 2)
    store.create_view("more", fingerprint={"a": 1}, features={"cls": (2, "float32")})
    store.write_features("more", 0, {"cls": values(10, 2)})


def test_every_object_is_the_file_of_a_local_store(bucket: Url, tmp_path: Path) -> None:
    change(filled(tmp_path / "local"))
    change(filled(bucket))
    assert stored(bucket) == files(tmp_path / "local")
    store = FeatureStore.open(str(bucket))
    assert store.verify() == store.leftovers() == []
    local = FeatureStore.open(tmp_path / "local")
    assert store.info().views == local.info().views
    assert store.info().bytes == local.info().bytes
    for split in ("train", "val_test"):
        mine, other = (s.read("base", split, feature="cat") for s in (store, local))
        np.testing.assert_array_equal(mine.x, other.x)
        assert mine.fingerprint == other.fingerprint
    np.testing.assert_array_equal(store.logits("base", "h")[:25], local.logits("base", "h")[:25])


def test_a_second_reader_downloads_only_what_changed(bucket: Url, wire: Wire) -> None:
    filled(bucket)
    FeatureStore.open(bucket).read("base", None)
    wire.requests.clear()
    FeatureStore.open(bucket).read("base", None)
    assert wire.counts() == {"GET": 1}
    assert "list-type=2" in wire.requests[0][1]
    write_shard(filled(bucket / "other"), 1)
    objects = Objects(bucket)
    for name in ("views/base/features/cls/c/1/0", "commits/base/00001.json"):
        objects.put(name, objects.get(name)[0] + b" ")
    wire.requests.clear()
    store = FeatureStore.open(bucket)
    with pytest.raises(CacheError, match=r"base/features/cls/c/1/0 has 125 bytes instead of 124"):
        store.read("base", None)
    assert [path for _, path in wire.requests if "list-type" not in path] == [
        f"/{bucket.container}/{bucket.key}/commits/base/00001.json"
    ]


def test_nothing_is_downloaded_after_it_was_written_here(bucket: Url, wire: Wire) -> None:
    store = filled(bucket)
    wire.requests.clear()
    store.read("base", None, feature="cat")
    assert wire.requests == []


def test_copies_may_be_deleted_at_any_time(bucket: Url, tmp_path: Path) -> None:
    store = filled(bucket)
    whole = store.read("base", None).x
    for file in copies(tmp_path, ""):
        file.unlink()
    np.testing.assert_array_equal(store.array("base", "cls")[:5], values(5).astype("f2"))
    np.testing.assert_array_equal(FeatureStore.open(bucket).read("base", None).x, whole)


@pytest.mark.parametrize("part", ["cls/c/1/", "00001.parquet", "commits/base/00001", "splits.json"])
def test_a_wrong_byte_in_a_copy_is_noticed_and_downloaded_again(
    bucket: Url, tmp_path: Path, part: str
) -> None:
    whole = filled(bucket).read("base", "train").x
    (copy,) = copies(tmp_path, part)
    good = copy.read_bytes()
    for at in (0, len(good) // 2, len(good) - 1):
        copy.write_bytes(flip(good, at))
        np.testing.assert_array_equal(FeatureStore.open(bucket).read("base", "train").x, whole)
        assert copy.read_bytes() == good
    copy.write_bytes(good[:-3])
    np.testing.assert_array_equal(FeatureStore.open(bucket).read("base", "train").x, whole)


@pytest.mark.parametrize(
    "name",
    [
        "views/base/features/cls/c/1/0", "commits/base/00001.json", "index/00001.parquet",
        "zarr.json", "views/base/features/cls/zarr.json",
    ],
)  # fmt: skip
def test_a_wrong_byte_in_the_bucket_is_found_and_repaired(bucket: Url, name: str) -> None:
    store = filled(bucket)
    whole = stored(bucket)
    Objects(bucket).put(name, flip(whole[name], len(whole[name]) // 2))
    if name == "zarr.json":
        with pytest.raises(CacheError, match=r"zarr\.json is damaged"):
            FeatureStore.open(bucket)
    else:
        assert name in {problem.path for problem in FeatureStore.open(bucket).verify()}
    assert repair(str(bucket)) != []
    store = FeatureStore.open(bucket)
    assert store.verify() == []
    for shard in range(3):
        if not store.finished("base", shard):
            write_shard(store, shard)
    assert stored(bucket) == whole


def test_one_writer_at_a_time(bucket: Url) -> None:
    store = filled(bucket)
    with store.writing():
        with pytest.raises(BusyError, match="is being written by another process: wait for it"):
            FeatureStore.open(bucket).grow(30)
        with store.writing():
            pass
    FeatureStore.open(bucket).grow(30)
    assert list(Objects(bucket).list("leases")) == []


def test_sharers_do_not_keep_each_other_out_but_a_single_writer(bucket: Url) -> None:
    one, two, three = filled(bucket), FeatureStore.open(bucket), FeatureStore.open(bucket)
    with one.sharing(lambda: None, lambda: True), two.sharing(lambda: None, lambda: True):
        with pytest.raises(BusyError):
            three.grow(30)
        late = three.sharing(lambda: None, lambda: False, patience=0.1)
        with pytest.raises(BusyError), late:
            pass
    three.grow(30)
    assert list(Objects(bucket).list("leases")) == []


def test_of_many_that_want_the_lock_one_has_it(bucket: Url) -> None:
    """Each adds one to a number that only the one writer may touch."""
    objects, tries = Objects(bucket), threading.Barrier(6)
    objects.put("number", b"0")

    def work() -> None:
        lock = LeaseLock(bucket)
        tries.wait()
        done = 0
        while done < 2:
            try:
                with lock.held():
                    number = int(objects.get("number")[0])
                    time.sleep(0.01)
                    objects.put("number", str(number + 1).encode())
                    done += 1
            except BusyError:
                time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert objects.get("number")[0] == b"12"


def test_of_many_that_claim_a_shard_one_has_it(bucket: Url) -> None:
    won: list[tuple[int, int]] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        lock = LeaseLock(bucket)
        with lock.held(shared=True):
            start.wait()
            won.extend((shard, number) for shard in range(6) if lock.claim("base", shard))
            start.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    shards = [shard for shard, _ in won]
    assert len(set(shards)) == len(shards)
    assert 0 in shards


def leave(bucket: Url, name: dict[str, str], *shards: int) -> None:
    """What a process leaves that could not end in order."""
    objects = Objects(bucket / "leases")
    objects.put(".shared/0000", json.dumps(name).encode())
    for shard in shards:
        objects.put(f"base/{shard}.0000", b"{}")
        objects.put(f".shards/{shard}.0000", b"{}")


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(bucket: Url) -> None:
    dead = subprocess.Popen(["sleep", "60"])
    name = {**owner.machine(), **owner.process(dead.pid)}
    leave(bucket, name, 0)
    lock = LeaseLock(bucket)
    with lock.held(shared=True):
        assert not lock.claim("base", 0)
    with pytest.raises(BusyError), lock.held():
        pass
    dead.kill()
    dead.wait()
    with LeaseLock(bucket).held():
        assert [e.path for e in Objects(bucket / "leases").list() if "0000" in e.path] == []


def test_what_a_process_elsewhere_held_is_free_when_it_expired(
    bucket: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "EXPIRY", 3.0)
    leave(bucket, {"boot": "elsewhere"}, 0)
    lock = LeaseLock(bucket)
    with lock.held(shared=True):
        assert not lock.claim("base", 0)
        time.sleep(2.5)
        assert lock.claim("base", 1)  # and its own lease was written again meanwhile
        for _ in range(40):
            if lock.claim("base", 0):
                break
            time.sleep(0.1)
        with lock.shard(0, patience=0.0):
            assert lock.claims("base", 0)
        lock.unclaim("base", 0)
        assert not lock.claims("base", 0)


def test_who_cannot_say_that_it_lives_writes_no_more(
    bucket: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(bucket)
    monkeypatch.setattr(leases, "EXPIRY", 0.2)
    with store.writing():
        monkeypatch.setattr(store.leases, "_beaten", leases._now() - 1)
        with pytest.raises(CacheError, match="could not be reached for 1 s, so others may have"):
            store.grow(40)


def test_a_store_in_the_making_is_waited_for(bucket: Url) -> None:
    lock = LeaseLock(bucket)
    assert not FeatureStore.is_being_written(bucket)
    with lock.held():
        assert FeatureStore.is_being_written(bucket)
        with pytest.raises(BusyError):
            FeatureStore.create(bucket, source={}, rows=4)
    FeatureStore.create(bucket, source={}, rows=4)
    with pytest.raises(CacheError, match="already holds a store: open it"):
        FeatureStore.create(bucket, source={}, rows=4)


def test_a_store_that_is_gone_or_never_was(bucket: Url) -> None:
    with pytest.raises(CacheError, match=f"no feature store at {bucket}: run `selectkit extract`"):
        FeatureStore.open(bucket)
    Objects(bucket).put("notes.txt", b"x")
    with pytest.raises(CacheError, match=r"is not empty \('notes.txt' lies in it\)"):
        FeatureStore.create(bucket, source={}, rows=4)
    with pytest.raises(RemoteError, match=r"there is no bucket 'selectkit-none'\. Make it, or"):
        FeatureStore.open("s3://selectkit-none/road.zarr")


def test_an_outage_is_not_taken_for_damage(bucket: Url, wire: Wire) -> None:
    """Or a repair would throw away a store because the network was down."""
    filled(bucket)
    whole = stored(bucket)
    wire.cut_after(3, "GET")
    with pytest.raises(RemoteError, match=r"cannot be reached: .*the same command goes on"):
        repair(bucket)
    wire.mend()
    assert {k: v for k, v in stored(bucket).items() if "leases" not in k} == whole


def test_a_full_disk_for_copies_stops_no_writer(
    bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SELECTKIT_CACHE", str(tmp_path / "file"))
    store = filled(bucket)
    assert store.verify() == []
    with pytest.raises(CacheError, match=r"cannot be written: .*Set SELECTKIT_CACHE to"):
        store.read("base", None)


def test_a_file_url_is_its_path(tmp_path: Path) -> None:
    store = filled(tmp_path / "a b")
    again = FeatureStore.open((tmp_path / "a b").as_uri())
    assert again.path == store.path == tmp_path / "a b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://x/y", "ftp:// is not a place this can use. Use a path, s3://, gs://, az:// or"),
        ("s3://", "names no place: write s3://BUCKET/FOLDER"),
        ("s3://b/a//b", "names no place"),
        ("gs://b/../x", "names no place"),
        ("file://road.zarr", "is no local place: write file:///FOLDER with three slashes"),
    ],
)
def test_other_urls_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        location(text)


def test_a_url_that_was_made_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="is a URL made into a Path: pass it as text"):
        FeatureStore.open(Path("s3://bucket/road.zarr"))
    with pytest.raises(ConfigError, match="a run must be a local folder"):
        local_path("s3://bucket/run", "a run")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(MissingExtraError, match=r'pip install "selectkit\[remote\]"'):
        FeatureStore.open("s3://bucket/road.zarr")


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("PermissionDeniedError", "x - 403 Forbidden: <Code>NoSuchKeyId</Code>", "access denied"),
        ("GenericError", "PUT http://169.254.169.254/latest - timed out", "no credentials"),
        ("GenericError", "x - Received redirect without LOCATION", "set AWS_REGION"),
        ("GenericError", "x - 503 Service Unavailable: <Code>SlowDown</Code>", "reached: SlowDown"),
    ],
)
def test_each_fault_has_its_line(kind: str, text: str, message: str, bucket: Url) -> None:
    exceptions: Callable[..., Exception] = getattr(__import__("obstore").exceptions, kind)
    with pytest.raises(RemoteError, match=message), Objects(bucket)._told("x"):
        raise exceptions(text)
