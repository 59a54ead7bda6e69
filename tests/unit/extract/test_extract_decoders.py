"""Decoding in processes: what a crash, a hang, a large image and a fork do."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selectkit.cache import FeatureStore
from selectkit.errors import SelectkitError
from selectkit.extract import UndecodableImageError, decoders, extract, open_source
from selectkit.extract.decode import decode_pixels
from selectkit.extract.decoder_process import USUAL
from selectkit.extract.decoders import Decoder, decode_in_process
from tests.unit.extract.extract_tools import (
    StubBackbone,
    broken_files,
    encoded,
    image_folder,
    noise,
)

BOMB = b"\xff\xd8\xff\xe0 this one ends the process"


@pytest.fixture
def bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoder processes that die of `BOMB`, as of an image that finds a bug in a C library."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import importlib, os, signal\n"
        "d = importlib.import_module('selectkit.extract.decode')\n"
        "plain = d.decode_pixels\n"
        "def decode_pixels(data):\n"
        f"    if data == {BOMB!r}:\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return plain(data)\n"
        "d.decode_pixels = decode_pixels\n"
    )
    decoders._POOL.close()
    monkeypatch.syspath_prepend(str(folder))
    yield
    decoders._POOL.close()


def copied(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return decode_in_process(data, np.copy)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_pixels_are_those_of_the_decoder(kind: str) -> None:
    data = encoded(Image.fromarray(noise(37, 50)), kind)
    assert np.array_equal(copied(data), decode_pixels(data))


@pytest.mark.parametrize("name", sorted(broken_files()))
def test_reasons_cross_the_border(name: str) -> None:
    data, reason = broken_files()[name]
    with pytest.raises(UndecodableImageError) as caught:
        copied(data)
    assert caught.value.reason == reason


def test_large_images_get_more_memory_and_small_ones_give_it_back() -> None:
    small = encoded(Image.fromarray(noise(20, 30)), "PNG")
    side = 1 + int((USUAL / 3) ** 0.5)
    large = encoded(Image.new("RGB", (side, side), (1, 2, 3)), "PNG")
    decoder = Decoder()
    assert decoder.decode(small).shape == (20, 30, 3)
    pixels = decoder.decode(large)
    assert pixels.shape == (side, side, 3)
    assert (pixels == [1, 2, 3]).all()
    assert len(decoder._view) > USUAL
    assert np.array_equal(decoder.decode(small), decode_pixels(small))
    assert len(decoder._view) == USUAL
    decoder.close()


@pytest.mark.usefixtures("bombs")
def test_an_image_that_crashes_its_decoder_fails_alone(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 12})
    (folder / "a" / "005.png").write_bytes(BOMB)
    store = tmp_path / "s.zarr"
    summary = extract(open_source(folder), store, backbone=StubBackbone(), batch_size=4)
    assert summary.failed == {"crashed": 1}
    index = FeatureStore.open(store).index()
    assert index.status.tolist() == ["failed:crashed" if i == 5 else "ok" for i in range(12)]
    assert FeatureStore.open(store).verify() == []


def test_a_decoder_that_was_killed_by_mistake_is_replaced() -> None:
    data = encoded(Image.fromarray(noise(20, 30)), "PNG")
    copied(data)
    for decoder in decoders._POOL.idle:
        os.kill(decoder._process.pid, signal.SIGKILL)
        decoder._process.wait()
    survivors = len(decoders._POOL.idle)
    for _ in range(survivors):
        if len(decoders._POOL.idle) > 1:  # two in a row count against the image
            decoders._POOL.idle.pop().close()
    assert np.array_equal(copied(data), decode_pixels(data))


def test_a_decoder_that_hangs_is_ended() -> None:
    decoder = Decoder()
    with pytest.raises(UndecodableImageError):
        decoder.decode(b"nothing")  # has started
    decoder._channel.settimeout(0.05)
    os.kill(decoder._process.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        decoder.decode(encoded(Image.fromarray(noise(20, 30)), "PNG"))
    decoder.close()


def test_decoders_that_do_not_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_MODULE", "selectkit.extract.no_such_module")
    decoder = Decoder()
    with pytest.raises(SelectkitError, match="does not start"):
        decoder.decode(b"")
    decoder.close()


def test_many_threads_share_few_processes() -> None:
    images = [encoded(Image.fromarray(noise(20 + i, 30, i)), "PNG") for i in range(12)]
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: copied(images[i % 12])}))
        for i in range(48)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], decode_pixels(images[i % 12])) for i in range(48))


def test_a_fork_starts_its_own() -> None:
    data = encoded(Image.fromarray(noise(20, 30)), "PNG")
    copied(data)
    pool = decoders._POOL
    pool.owner -= 1  # as if this were a child
    mine = list(pool.idle)
    assert np.array_equal(copied(data), decode_pixels(data))
    assert not set(mine) & set(pool.idle)
    for decoder in mine:
        decoder.close()
