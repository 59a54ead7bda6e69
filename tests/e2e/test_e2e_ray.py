"""Extraction on a Ray cluster of this machine: workers die, drivers die, the store is the same."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from selectkit.cache import FeatureStore
from selectkit.errors import BackboneError, WorkerError
from selectkit.extract import ExtractionSummary, Progress, extract, open_source, ray_shares
from tests.unit.extract.extract_tools import StubBackbone, broken_files, content, image_folder
from tests.unit.extract.ray_tools import SlowBackbone, nicenesses, part, processes

pytest.importorskip("ray")

from selectkit.extract.ray_cluster import cluster
from selectkit.extract.ray_engine import extract_on_ray

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import sys
from pathlib import Path
from selectkit.extract.ray_engine import extract_on_ray
from tests.unit.extract.ray_tools import part

source, store = sys.argv[1:]

def tell(progress):
    print(progress.done, flush=True)

summary = extract_on_ray(part(source, Path(store)), actors=2, progress=tell)
state = "interrupted" if summary.interrupted else "complete"
print(state, summary.signal, summary.done_now, summary.elsewhere)
"""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster for two workers; runs in this process find it."""
    with cluster(None, 2) as module:
        folder = Path(module._private.worker._global_node.get_temp_dir_path())
        assert len(str(folder)) < 20
        yield module
    assert not module.is_initialized()
    assert not folder.exists()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 790 images: 25 shards of 32, the last one short."""
    return image_folder(tmp_path_factory.mktemp("photos"), {"a": 500, "b": 290})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> dict[str, bytes]:
    """The store of the local engine."""
    store = tmp_path_factory.mktemp("whole") / "s"
    complete(photos, store)
    return content(store)


def complete(source: Path, store: Path) -> ExtractionSummary:
    """Do what is missing, here."""
    return extract(open_source(source), store, backbone=StubBackbone(), rows_per_shard=32)


def committed(store: Path) -> int:
    with suppress(OSError):
        return len(list((store / "commits/base").iterdir()))
    return 0


@contextmanager
def killing(store: Path, pauses: list[float]) -> Iterator[None]:
    """Kill a living worker after each pause; each begins when there is one shard more."""
    ended = threading.Event()

    def alive() -> list[int]:
        return [n for n in sorted(processes(store)) if Path(f"/proc/{n}").exists()]

    def kill() -> None:
        rng, before = random.Random(len(pauses)), 0
        for pause in pauses:
            while committed(store) == before or not alive():
                if ended.wait(0.01):
                    return
            if not ended.wait(pause) and (victims := alive()):
                os.kill(rng.choice(victims), signal.SIGKILL)
            before = committed(store)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_two_workers_write_the_store_of_one_process(
    ray: Any, tmp_path: Path, photos: Path, whole: dict[str, bytes]
) -> None:
    told: list[Progress] = []
    summary = extract_on_ray(part(photos, tmp_path / "s"), actors=2, progress=told.append)
    assert content(tmp_path / "s") == whole
    assert len(processes(tmp_path / "s")) == 2
    assert nicenesses(tmp_path / "s") == {os.nice(0)}
    assert isinstance(summary, ExtractionSummary)
    numbers = (summary.rows, summary.done_now, summary.skipped, summary.elsewhere)
    assert numbers == (790, 790, 0, 0)
    assert (summary.failed, summary.interrupted, summary.signal) == ({}, False, 0)
    assert summary.timings.images == 790
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert (told[-1].done, told[-1].total) == (790, 790)
    assert len({p.done for p in told}) > 5


def test_a_range_of_shards(ray: Any, tmp_path: Path, photos: Path, whole: dict[str, bytes]) -> None:
    fast = part(photos, tmp_path / "s", backbone=StubBackbone())
    summary = extract_on_ray(fast, actors=1, shard_range="2/2")
    numbers = (summary.rows, summary.done_now, summary.skipped, summary.interrupted)
    assert numbers == (790, 790 - 12 * 32, 0, False)
    assert complete(photos, tmp_path / "s").skipped == 790 - 12 * 32
    assert content(tmp_path / "s") == whole


def test_one_of_two_workers_is_killed(
    ray: Any, tmp_path: Path, photos: Path, whole: dict[str, bytes]
) -> None:
    """And nothing is printed about it, least of all where a program reads."""
    store = tmp_path / "s"
    with killing(store, [0.2]), shell(ray, DRIVER, photos, store) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    *told, summary = out.splitlines()
    assert all(line.isdecimal() for line in told)
    assert summary == "complete 0 790 0"
    assert len(processes(store)) == 3
    assert content(store) == whole


def test_workers_killed_at_five_seeded_instants(
    ray: Any, tmp_path: Path, photos: Path, whole: dict[str, bytes]
) -> None:
    rng = random.Random(0)
    work = part(photos, tmp_path / "s", backbone=SlowBackbone(delay=0.4))
    with killing(tmp_path / "s", [rng.uniform(0, 0.5) for _ in range(5)]):
        summary = extract_on_ray(work, actors=2)
    assert len(processes(tmp_path / "s")) >= 6
    assert (summary.done_now, summary.elsewhere, summary.interrupted) == (790, 0, False)
    assert FeatureStore.open(tmp_path / "s").verify() == []
    assert content(tmp_path / "s") == whole


def test_a_machine_is_lost(ray: Any, tmp_path: Path, photos: Path, whole: dict[str, bytes]) -> None:
    """A second node, here on the same machine, with room for one worker more."""
    store, address = tmp_path / "s", ray.get_runtime_context().gcs_address
    options = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}"]
    with subprocess.Popen(
        [*command, *options], start_new_session=True, stdout=subprocess.DEVNULL
    ) as node:
        while sum(n["Alive"] for n in ray.nodes()) < 2:
            time.sleep(0.1)

        def lose(progress: Progress) -> None:
            if len(processes(store)) == 3 and node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait()

        work = part(photos, store, backbone=SlowBackbone(delay=0.4))
        summary = extract_on_ray(work, actors=3, progress=lose)
    assert node.returncode == -signal.SIGKILL
    assert (summary.done_now, summary.elsewhere, summary.interrupted) == (790, 0, False)
    assert content(store) == whole


def test_broken_images_are_rows(ray: Any, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 6})
    for name, (data, _) in broken_files().items():
        (folder / "a" / name).write_bytes(data)
    on_ray = part(folder, tmp_path / "ray", backbone=StubBackbone(), rows_per_shard=4)
    summary = extract_on_ray(on_ray, actors=1)
    local = extract(
        open_source(folder), tmp_path / "local", backbone=StubBackbone(), rows_per_shard=4
    )
    assert summary.failed == local.failed
    assert sum(summary.failed.values()) == len(broken_files())
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.fixture
def with_a_black_one(tmp_path: Path) -> Path:
    """Nine images in shards of two; the one in row 4 is black."""
    folder = image_folder(tmp_path / "images", {"a": 9})
    Image.new("RGB", (10, 12)).save(folder / "a/004.png")
    return folder


def test_a_shard_that_ends_workers_is_named(
    ray: Any, tmp_path: Path, with_a_black_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others are committed."""
    monkeypatch.setattr(ray_shares, "DEATHS", 1)
    bad = SlowBackbone(poison=0, harm="raise")
    work = part(with_a_black_one, tmp_path / "s", backbone=bad, rows_per_shard=2)
    with pytest.raises(WorkerError, match="shard 2; the last: ValueError: a defect of this"):
        extract_on_ray(work, actors=1)
    assert sorted(FeatureStore.open(tmp_path / "s").committed("base")) == [0, 1, 3, 4]


def test_an_error_that_the_user_can_mend_ends_the_run(
    ray: Any, tmp_path: Path, with_a_black_one: Path
) -> None:
    bad = SlowBackbone(poison=0, harm="inf")
    work = part(with_a_black_one, tmp_path / "s", backbone=bad, rows_per_shard=2)
    with pytest.raises(BackboneError, match="that are not finite for 'a/00"):
        extract_on_ray(work, actors=1)


def test_a_changed_image_is_found_by_the_first_worker(ray: Any, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 9})
    backbone, store = StubBackbone(), tmp_path / "s"
    extract(open_source(folder), store, backbone=backbone, rows_per_shard=2)
    work = part(folder, store, backbone=backbone, rows_per_shard=2, rescan=True)
    (folder / "a/004.png").write_bytes((folder / "a/005.png").read_bytes())
    summary = extract_on_ray(work, actors=1)
    assert (summary.changes.changed, summary.done_now, summary.skipped) == (1, 2, 7)
    assert FeatureStore.open(store).verify() == []


def shell(ray: Any, code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process whose workers are on the same cluster."""
    address = ray.get_runtime_context().gcs_address
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_order_to_stop_ends_in_order(
    ray: Any, tmp_path: Path, photos: Path, whole: dict[str, bytes]
) -> None:
    store = tmp_path / "s"
    with shell(ray, DRIVER, photos, store) as process:
        while committed(store) < 3:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    before = FeatureStore.open(store)
    assert before.verify() == before.leftovers() == []
    rows = sum(before.committed("base").values())
    assert 3 * 32 <= rows < 790
    assert out.endswith(f"interrupted {int(signal.SIGTERM)} {rows} 0\n")
    summary = complete(photos, store)
    assert (summary.skipped, summary.done_now) == (rows, 790 - rows)
    assert content(store) == whole


def test_a_driver_is_killed(
    ray: Any, tmp_path: Path, photos: Path, whole: dict[str, bytes]
) -> None:
    """Its workers go with it, and the next run goes on."""
    store = tmp_path / "s"
    with shell(ray, DRIVER, photos, store) as process:
        while committed(store) < 3:
            time.sleep(0.005)
        process.kill()
    assert FeatureStore.open(store).verify() == []
    complete(photos, store)
    assert content(store) == whole


def test_the_command_line(ray: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
    """With a real model, in bits the same."""
    store = tmp_path / "s"
    arguments = ["extract", "digits", "--backbone", "tiny", "--rows-per-shard", "300", "--json"]
    on_ray = [*arguments, "--out", store, "--engine", "ray", "--actors", "1"]
    with shell(ray, "from selectkit.cli.main import main; main()", *on_ray) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    summary = json.loads(out)
    assert (summary["done_now"], summary["rows"], summary["interrupted"]) == (1797, 1797, False)
    assert cli(*arguments, "--out", tmp_path / "local").code == 0
    assert content(store) == content(tmp_path / "local")
