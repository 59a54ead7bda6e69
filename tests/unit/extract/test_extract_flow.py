"""Batches ahead, shards behind: order, memory, errors and the account of time."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.errors import BackboneError, DataError
from selectkit.extract import Preprocessing, open_source
from selectkit.extract.feed import Batch, Loaded
from selectkit.extract.flow import Arrays, Flow
from selectkit.extract.listing import Record
from selectkit.extract.loading import Known, Loader
from selectkit.extract.png import grey_png
from selectkit.extract.stop import StopRequest
from selectkit.extract.timings import Clock, Timings
from selectkit.extract.writer import Writer
from tests.unit.extract.extract_tools import Pixels, StubBackbone, image_folder

Finished = tuple[int, list[str], Arrays]


@dataclass(frozen=True)
class Numbered:
    """A source whose images are grey, as bright as their number, some slower than others."""

    images: int = 50

    def records(self) -> list[Record]:
        return [Record(str(i), str(i), None, None) for i in range(self.images)]

    def read(self, path: str) -> bytes:
        time.sleep(0.0005 * (int(path) % 3))
        return grey_png(np.full((2, 2), int(path), dtype=np.uint8))

    def describe(self) -> dict[str, Any]:
        return {"kind": "numbered"}


@dataclass
class Pairs:
    """Says that images 2 k and 2 k + 1 are the same."""

    def row_of(self, digest: str, row: int) -> int | None:
        return row - 1 if row % 2 else None


def loader_of(batch_size: int, workers: int, known: Known | None = None) -> Loader:
    source, plan = Numbered(), Preprocessing(2, "squash")
    return Loader(source, source.records(), plan, batch_size, workers, known)


def flow_of(tmp_path: Path, backbone: Any, images: int = 22, batch_size: int = 4) -> Flow:
    source = open_source(image_folder(tmp_path / "images", {"a": images}))
    loader = Loader(source, source.records(), backbone.preprocessing, batch_size, workers=2)
    return Flow(loader, backbone)


SHARDS = [(0, range(10)), (1, range(10, 20)), (2, range(20, 22))]


def run(flow: Flow, stop: StopRequest | None = None) -> tuple[list[Finished], Timings]:
    finished: list[Finished] = []

    def finish(shard: int, loaded: Sequence[Loaded], features: Arrays) -> None:
        finished.append((shard, [image.content_hash for image in loaded], features))

    timings = flow.compute(SHARDS, finish, lambda batch: None, stop or StopRequest())
    return finished, timings


@pytest.mark.parametrize("known", [None, Pairs()])
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 3), (4, 1), (4, 8), (16, 2)])
def test_batches_come_in_order_and_stay_until_the_second_after_is_asked_for(
    batch_size: int, workers: int, known: Known | None
) -> None:
    shards = [(0, range(7)), (1, range(7, 20)), (2, range(20, 50))]
    before: Batch | None = None
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    whole: dict[int, list[Loaded]] = {}
    loader = loader_of(batch_size, workers, known)
    for batch in loader.batches(shards, loader.memory()):
        assert len(batch.places) == len(batch.pixels) <= batch_size
        for held in (before, batch):
            if held is not None:
                expected = [held.rows[place] for place in held.places]
                assert held.pixels[:, 0, 0, 0].tolist() == expected
        assert batch.shard == len(whole)  # one after the other
        seen[batch.shard] += [batch.rows[place] for place in batch.places]
        if batch.whole is not None:
            whole[batch.shard] = list(batch.whole)
        before = batch
    for shard, rows in shards:
        computed = [row for row in rows if known is None or row % 2 == 0]
        assert sorted(seen[shard]) == computed
        if known is None:
            assert seen[shard] == computed
        copies = [image.copy_of for image in whole[shard]]
        assert copies == [None if row in computed else row - 1 for row in rows]
        assert {image.status for image in whole[shard]} <= {"ok", "copy"}


def test_what_is_known_fills_no_batch() -> None:
    class All:
        def row_of(self, digest: str, row: int) -> int | None:
            return 0

    loader = loader_of(4, 2, All())
    batches = list(loader.batches([(0, range(6)), (1, range(6, 12))], loader.memory()))
    assert [(b.shard, len(b.places), len(b.images)) for b in batches] == [(0, 0, 6), (1, 0, 6)]
    assert [[i.copy_of for i in b.whole or []] for b in batches] == [[0] * 6] * 2


def test_shards_are_pulled_late() -> None:
    pulled: list[int] = []

    def shards() -> Iterator[tuple[int, range]]:
        for shard in range(10):
            pulled.append(shard)
            yield shard, range(4 * shard, 4 * shard + 4)

    loader = loader_of(4, 2)
    assert loader.memory().shape == (16, 2, 2, 3)
    batches = loader.batches(shards(), loader.memory())
    next(batches)
    assert len(pulled) <= 6
    for _ in range(3):
        next(batches)
    assert len(pulled) <= 9
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("load")]


def test_what_a_source_cannot_survive_ends_the_run() -> None:
    class Gone(Numbered):
        def read(self, path: str) -> bytes:
            if path == "11":
                raise DataError("the bucket is gone")
            return super().read(path)

    loader = replace(loader_of(4, 2), source=Gone())
    with pytest.raises(DataError, match="the bucket is gone"):
        list(loader.batches([(0, range(50))], loader.memory()))
    assert not [t for t in threading.enumerate() if t.name.startswith("load")]


def test_failed_image_is_black_and_leaves_the_others_alone(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, StubBackbone())
    clean, _ = run(flow)
    (tmp_path / "images" / "a" / "005.png").write_bytes(b"no image")
    broken, timings = run(flow)
    assert timings.images == 22
    for shard, ((_, _, was), (_, _, now)) in enumerate(zip(clean, broken, strict=True)):
        for name in was:
            failed = np.isnan(now[name][:, 0])
            assert np.flatnonzero(failed).tolist() == ([5] if shard == 0 else [])
            assert np.array_equal(was[name][~failed], now[name][~failed])
    out = np.full((8, 8, 3), 7, dtype=np.uint8)
    assert flow.loader.decode(b"no image", "", out).status == "failed:not-an-image"
    assert not out.any()


@dataclass(frozen=True)
class Late(StubBackbone):
    """Lets two batches pile up before it computes the first, and offers other features."""

    lag: int = 1
    log: list[str] = field(default_factory=list)

    @property
    def features(self) -> Mapping[str, int]:
        return {"cls": self.dim, "pair": 2 * self.dim}

    def __call__(self, pixels: Pixels) -> dict[str, Any]:
        plain = super().__call__(pixels)
        return {"cls": plain["cls"], "pair": np.concatenate(list(plain.values()), axis=1)}

    def start(self, pixels: Pixels) -> Callable[[], Mapping[str, Any]]:
        self.log.append("start")

        def collect() -> Mapping[str, Any]:
            self.log.append("collect")
            return self(pixels)

        return collect

    @contextmanager
    def pinned(self, pixels: Pixels, count: int) -> Iterator[None]:
        assert len(pixels) % count == 0
        self.log.append("pinned")
        yield
        self.log.append("unpinned")


def test_a_backbone_may_run_behind_and_offer_its_own_features(tmp_path: Path) -> None:
    plain, _ = run(flow_of(tmp_path, StubBackbone()))
    late = Late()
    behind, _ = run(flow_of(tmp_path, late))
    assert late.log[:5] == ["pinned", "start", "start", "collect", "start"]
    assert late.log[-1] == "unpinned"
    for (shard, hashes, was), (shard_now, hashes_now, now) in zip(plain, behind, strict=True):
        assert (shard, hashes) == (shard_now, hashes_now)
        assert np.array_equal(was["cls"], now["cls"])
        assert np.array_equal(np.concatenate([was["cls"], was["patch_mean"]], axis=1), now["pair"])


def test_infinite_features_name_the_image(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Broken(StubBackbone):
        def __call__(self, pixels: Pixels) -> dict[str, Any]:
            return {name: x / 0 for name, x in super().__call__(pixels).items()}

    text = "stub gives 'cls' features that are not finite for 'a/000.png'"
    with pytest.raises(BackboneError, match=text), np.errstate(divide="ignore"):
        run(flow_of(tmp_path, Broken()))


def test_stop_writes_what_is_whole(tmp_path: Path) -> None:
    stop, finished = StopRequest(), list[int]()
    told: list[int] = []

    def tell(batch: Sequence[Loaded]) -> None:
        told.append(len(batch))
        stop.requested = sum(told) >= 14

    timings = flow_of(tmp_path, StubBackbone()).compute(
        SHARDS, lambda shard, loaded, features: finished.append(shard), tell, stop
    )
    assert finished == [0]
    assert (told, timings.images) == ([4, 4, 2, 4], 14)


def test_error_of_the_writer_ends_the_run(tmp_path: Path) -> None:
    written: list[int] = []

    def finish(shard: int, loaded: Sequence[Loaded], features: Arrays) -> None:
        written.append(shard)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        flow_of(tmp_path, StubBackbone()).compute(SHARDS, finish, lambda batch: None, StopRequest())
    assert written == [0]


def test_writer_keeps_order_and_waits_at_the_end() -> None:
    done: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.01 / (1 + number))
        done.append(number)

    with Writer(slow) as writer:
        for number in range(5):
            writer.put(number)
            assert len(done) >= number  # put has waited for the one before
    assert done == list(range(5))


def test_error_of_the_block_wins_over_one_of_the_writer() -> None:
    def fail() -> None:
        raise OSError("disk")

    def use(error: Exception | None) -> None:
        with Writer(fail) as writer:
            writer.put()
            if error is not None:
                raise error

    with pytest.raises(KeyError, match="block"):
        use(KeyError("block"))
    with pytest.raises(OSError, match="disk"):
        use(None)


def test_writer_check_does_not_wait() -> None:
    gate = threading.Event()

    def wait_and_fail() -> None:
        gate.wait()
        raise OSError("disk")

    with Writer(wait_and_fail) as writer:
        writer.put()
        writer.check()
        gate.set()
        with pytest.raises(OSError, match="disk"):
            writer.drain()
        writer.check()


def test_timings_say_what_limited_the_run() -> None:
    clock = Clock(images=3)
    with clock.spent_on("write"):
        time.sleep(0.002)
    timings = clock.timings()
    assert timings.limit == "write"
    assert timings.seconds >= timings.write >= 0.002
    assert (timings.decode, timings.forward) == (0.0, 0.0)
    assert timings.images_per_second == 3 / timings.seconds
    assert Timings().images_per_second == 0
    assert set(timings.to_dict()) == {
        "images",
        "seconds",
        "images_per_second",
        "limit",
        "shares",
        "decode",
        "forward",
        "write",
        "transfer",
        "computed",
    }


def test_time_that_a_device_waits_for_pixels_is_taken_from_the_forward_pass() -> None:
    clock = Clock(images=1)
    with clock.spent_on("forward"):
        time.sleep(0.004)
    plain, split, all_of_it = clock.timings(), clock.timings(transfer=0.003), clock.timings(9.0)
    assert plain.transfer is None
    assert set(plain.shares) == {"forward", "decode", "write"}
    assert split.transfer == 0.003
    assert split.limit == "transfer" or split.forward > 0.003
    assert split.forward == pytest.approx(plain.forward - 0.003)
    assert (all_of_it.forward, all_of_it.limit) == (0.0, "transfer")
    assert all_of_it.transfer == plain.forward
    assert (plain + split).transfer == (split + plain).transfer == 0.003
    assert (split + split).transfer == 0.006
    assert (plain + plain).transfer is None
    assert 0 < sum(split.shares.values()) <= 1


def test_a_slow_model_is_named(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Slow(StubBackbone):
        def __call__(self, pixels: Pixels) -> dict[str, Any]:
            time.sleep(0.02)
            return super().__call__(pixels)

    _, timings = run(flow_of(tmp_path, Slow(preprocessing=Preprocessing(8, "squash"))))
    assert timings.limit == "forward"
    assert timings.forward >= 7 * 0.02


def test_a_device_that_stands_still_for_pixels_is_named(tmp_path: Path) -> None:
    stood: list[float] = [5.0]  # of an earlier run

    @dataclass(frozen=True)
    class Far(StubBackbone):
        @property
        def stalled(self) -> float:
            return sum(stood)

        def __call__(self, pixels: Pixels) -> dict[str, Any]:
            time.sleep(0.01)
            stood.append(0.008)
            return super().__call__(pixels)

    _, timings = run(flow_of(tmp_path, Far(preprocessing=Preprocessing(8, "squash"))))
    assert timings.transfer == pytest.approx(0.008 * (len(stood) - 1))
    assert timings.forward >= 0.002 * (len(stood) - 1)
    assert timings.computed == timings.images == 22
