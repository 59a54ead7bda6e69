"""Decoders and the model in turn, where both want the same cores."""

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from selectkit.extract import Preprocessing, load_backbone, loading, open_source
from selectkit.extract import turns as turns_module
from selectkit.extract.decoders import decode_in_process
from selectkit.extract.flow import Flow
from selectkit.extract.loading import Loader
from selectkit.extract.stop import StopRequest
from selectkit.extract.turns import Turns
from selectkit.threads import usable_cores
from tests.unit.extract.extract_tools import Pixels, StubBackbone, image_folder

SOON = 30.0  # seconds that a thread is given for what takes none


def in_thread(action: Callable[[], None]) -> threading.Event:
    """Run it elsewhere; the event says that it is done."""
    done = threading.Event()

    def run() -> None:
        action()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In place of the real one, so that no other process can make an image slow."""
    clock = Clock()
    monkeypatch.setattr(turns_module, "perf_counter", clock)
    return clock


def decode(turns: Turns) -> None:
    with turns.decoding():
        pass


def read(turns: Turns) -> None:
    with turns.reading():
        pass


@pytest.mark.usefixtures("clock")
def test_decoders_wait_for_the_forward_pass_and_readers_do_not() -> None:
    turns = Turns()
    with turns.forward():
        reader, decoder = in_thread(lambda: read(turns)), in_thread(lambda: decode(turns))
        assert reader.wait(SOON)
        assert not decoder.wait(0.1)
    assert decoder.wait(SOON)


def test_decoders_go_on_after_a_forward_pass_that_fails() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="of the model"), turns.forward():
        raise ValueError("of the model")
    assert in_thread(lambda: decode(turns)).wait(SOON)


@pytest.mark.parametrize(
    ("reading", "decoding", "computing", "pays"),
    [(0.1, 1.0, 10.0, True), (2.0, 1.0, 10.0, False), (0.1, 1.0, 2.0, False)],
    ids=["large model", "images slow to arrive", "light model"],
)
def test_decoders_are_held_back_where_that_pays(
    clock: Clock, reading: float, decoding: float, computing: float, *, pays: bool
) -> None:
    turns = Turns()
    for block, seconds in (
        (turns.reading, reading),
        (turns.decoding, decoding),
        (turns.forward, computing),
    ):
        with block():
            clock.now += seconds
    with turns.forward():
        assert in_thread(lambda: decode(turns)).wait(0.1 if pays else SOON) != pays


@dataclass(frozen=True)
class Computing(StubBackbone):
    """Notes when it computes."""

    takes_all_cores: bool = True
    at_work: threading.Event = field(default_factory=threading.Event)

    def __call__(self, pixels: Pixels) -> dict[str, Any]:
        self.at_work.set()
        time.sleep(0.02)
        self.at_work.clear()
        return super().__call__(pixels)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("takes_all_cores", [True, False])
def test_no_image_is_begun_to_be_decoded_while_a_model_has_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, takes_all_cores: bool
) -> None:
    backbone = Computing(takes_all_cores=takes_all_cores)
    meanwhile: list[bool] = []

    def watched(data: bytes, use: Any) -> Any:
        meanwhile.append(backbone.at_work.is_set())
        time.sleep(0.005)
        return decode_in_process(data, use)

    monkeypatch.setattr(loading, "decode_in_process", watched)
    source = open_source(image_folder(tmp_path / "images", {"a": 40}))
    loader = Loader(source, source.records(), Preprocessing(8, "squash"), 4, workers=2)
    Flow(loader, backbone).compute(
        [(0, range(40))], lambda *_: None, lambda batch: None, StopRequest()
    )
    assert len(meanwhile) == 40
    begun_meanwhile = sum(meanwhile)
    assert begun_meanwhile <= 4 if takes_all_cores else begun_meanwhile > 8


def test_a_model_on_the_cpu_takes_all_cores_unless_some_are_left_to_others(
    threads: Callable[[int], Any],
) -> None:
    backbone = load_backbone("tiny", device="cpu")
    with threads(usable_cores()):
        assert backbone.takes_all_cores
    if usable_cores() > 1:
        with threads(usable_cores() - 1):
            assert not backbone.takes_all_cores


@pytest.fixture
def threads() -> Callable[[int], Any]:
    import torch

    @contextmanager
    def of(count: int) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return of
