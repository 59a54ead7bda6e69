"""What the engine on Ray is made of; needs no Ray."""

import pickle
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from selectkit.cache import BusyError
from selectkit.errors import CacheError, ConfigError, MissingExtraError
from selectkit.extract import extract, open_source
from selectkit.extract.ray_cluster import Crew, crew_for
from selectkit.extract.ray_engine import extract_on_ray
from selectkit.extract.ray_shares import DEATHS, Shares
from selectkit.extract.ray_worker import Failure, Opened, Report, Worker
from tests.unit.extract.extract_tools import StubBackbone, content, image_folder
from tests.unit.extract.ray_tools import SlowBackbone, part


def node(cpu: float, gpu: float = 0, alive: bool = True) -> dict[str, Any]:
    return {
        "Alive": alive,
        "Resources": {"CPU": cpu, "memory": 1e9} | ({"GPU": gpu} if gpu else {}),
    }


@pytest.mark.parametrize(
    ("nodes", "actors", "device", "crew"),
    [
        ([node(16, 8)], None, "auto", Crew(8, 2, 1)),
        ([node(16, 8), node(64, 4)], None, "auto", Crew(12, 2, 1)),
        ([node(16, 8)], None, "cpu", Crew(1, 16, 0)),
        ([node(16, 8)], 4, "cpu", Crew(4, 4, 0)),
        ([node(8), node(4), node(32, alive=False), node(0)], None, "auto", Crew(2, 4, 0)),
        ([node(8)], 16, "auto", Crew(16, 1, 0)),
        ([node(4), node(32)], 3, "auto", Crew(3, 4, 0)),
        ([node(4)], 6, "cuda", Crew(6, 1, 1)),  # machines with GPUs may come when they are needed
        ([node(4, 8)], None, "cuda", Crew(8, 1, 1)),
    ],
)
def test_workers_share_the_cores_of_their_machine(
    nodes: list[dict[str, Any]], actors: int | None, device: str, crew: Crew
) -> None:
    assert crew_for(nodes, actors, device) == crew


def test_a_cluster_without_a_core_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no machine with a free core"):
        crew_for([node(0), node(4, alive=False)], None, "auto")


def test_a_worker_has_one_shard_ahead_while_there_are_enough() -> None:
    shares = Shares(dict.fromkeys(range(6), 10), crew=2)
    assert shares.take([]) == [0, 1]
    assert shares.take([0, 1], queued=1) == []
    assert shares.take([1], queued=0) == [2]
    assert shares.take([]) == [3, 4]
    assert shares.take([3], queued=0) == []  # the last one is for whoever is free first
    assert shares.take([]) == [5]
    assert shares.take([]) == []


def test_shards_that_were_lost_are_given_alone() -> None:
    shares = Shares(dict.fromkeys(range(9), 1), crew=1)
    held = set(shares.take([])) | set(shares.take([0], queued=0))
    shares.lose(held, "killed")
    assert shares.returned == held == {0, 1, 2}
    for shard in (0, 1, 2):
        assert shares.take([]) == [shard]
        assert shares.take([shard], queued=0) == []
        shares.finish(shard)
    assert shares.take([]) == [3, 4]
    assert shares.given_up == {}


def test_a_shard_that_ends_workers_is_given_up_and_the_others_are_not() -> None:
    shares, deaths, order = Shares(dict.fromkeys(range(20), 1), crew=1), 0, random.Random(0)
    held: set[int] = set()
    while shares.open:
        held |= set(shares.take(held, queued=int(len(held) > 1)))
        shard = order.choice(sorted(held))
        if shard == 7:
            shares.lose(held, f"death {deaths}")
            held, deaths = set(), deaths + 1
        else:
            shares.finish(shard)
            held.discard(shard)
    assert shares.given_up == {7: f"death {deaths - 1}"}
    assert deaths in {DEATHS, DEATHS + 1}


def test_an_error_travels_as_the_one_that_the_user_knows() -> None:
    failure = Failure.of(BusyError("road.zarr is being written"))
    again = pickle.loads(pickle.dumps(failure))  # noqa: S301 # what Ray does
    assert type(again.error()) is CacheError
    assert str(again.error()) == "road.zarr is being written"
    assert Failure.of(KeyError("x")).kind == ""
    assert Failure.of(KeyError("x")).text == "KeyError: 'x'"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return str(tmp_path)


def until_idle(worker: Worker, shards: list[int]) -> list[Report]:
    reports = [worker.step(shards)]
    while not reports[-1].idle:
        reports.append(worker.step([]))
    return reports


def test_a_worker_driven_by_hand_writes_the_same_store(here: str, tmp_path: Path) -> None:
    """And says everything in a few bytes: no image and no feature leaves it."""
    worker = Worker(
        part("digits", tmp_path / "s", backbone=StubBackbone(), rows_per_shard=64), 1, here
    )
    opened = worker.begin(first=True)
    assert isinstance(opened, Opened)
    assert opened.todo == {**dict.fromkeys(range(28), 64), 28: 5}
    reports = until_idle(worker, list(opened.todo)[:10]) + until_idle(worker, [*range(29)])
    finished = [shard for report in reports for shard in report.finished]
    assert sorted(finished) == sorted([*range(29), *range(10)])  # those are done, it says again
    assert sum(share.rows for report in reports for share in report.finished.values()) == 1797
    assert max(len(pickle.dumps(report)) for report in reports) < 1000
    assert (reports[-1].images, reports[-1].failed) == (0, 0)
    assert worker.end().images == 1797
    extract(open_source("digits"), tmp_path / "local", backbone=StubBackbone(), rows_per_shard=64)
    assert content(tmp_path / "s") == content(tmp_path / "local")


def test_a_worker_that_is_told_to_stop_stops_after_its_batch(here: str, tmp_path: Path) -> None:
    worker = Worker(part("digits", tmp_path / "s", backbone=SlowBackbone(delay=0.1)), 1, here)
    assert isinstance(worker.begin(first=True), Opened)
    worker.step([0, 1, 2, 3])
    while not (report := worker.step([], stop=True)).idle:
        pass
    assert report.failure is None
    assert worker.end().images < 128


def test_what_a_worker_meets_is_a_value(here: str, tmp_path: Path) -> None:
    nothing = Worker(part(tmp_path / "nothing", tmp_path / "s"), 1, here)
    failure = nothing.begin(first=True)
    assert isinstance(failure, Failure)
    assert failure.kind == "DataError"

    black = image_folder(tmp_path / "images", {"a": 3})
    Image.new("RGB", (10, 12)).save(black / "a/000.png")
    for harm, kind, text in (
        ("raise", "", "ValueError: a defect of this backbone"),
        ("inf", "BackboneError", "that are not finite for 'a/00"),
    ):
        backbone = SlowBackbone(poison=0, harm=harm)
        worker = Worker(part(black, tmp_path / harm, backbone=backbone), 1, here)
        assert isinstance(worker.begin(first=True), Opened)
        report = until_idle(worker, [0])[-1]
        assert report.failure is not None
        assert report.failure.kind == kind
        assert text in report.failure.text


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "selectkit\[ray\]"'):
        extract_on_ray(part("digits", tmp_path / "s"))


def test_an_address_where_no_cluster_is(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=r"no Ray cluster at '127.0.0.1:1': .*refused"):
        extract_on_ray(part("digits", tmp_path / "s"), address="127.0.0.1:1")
