"""Killed at any moment, extraction goes on where it was and ends with the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from selectkit import artifact
from selectkit.cache import FeatureStore
from selectkit.extract import (
    ExtractionSummary,
    Progress,
    extract,
    load_backbone,
    open_source,
)
from selectkit.extract.stop import StopRequest
from tests.unit.extract import extract_tools
from tests.unit.extract.extract_tools import StubBackbone, content, image_folder

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def child(store: Path, backbone: str, signals: tuple[int, int, float] | None = None) -> int:
    """Extract the digits in a process of its own; the exit status.

    With `signals` = (signal, images, pause), it gets the signal a moment after so many images.
    """
    command = [sys.executable, str(extract_tools.__file__), str(store), backbone]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        if signals is not None:
            number, images, pause = signals
            for line in process.stdout:
                if int(line) >= images:
                    break
            time.sleep(pause)
            process.send_signal(number)
        process.stdout.read()
        return process.wait(timeout=120)


def in_process(store: Path, backbone: str) -> ExtractionSummary:
    """Extract the digits here."""
    model = load_backbone("tiny", device="cpu") if backbone == "tiny" else StubBackbone()
    return extract(open_source("digits"), store, backbone=model, rows_per_shard=256)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Stores that nothing interrupted, by backbone."""
    stores = {}
    for name in ("stub", "tiny"):
        store = tmp_path_factory.mktemp(name) / "s.zarr"
        assert in_process(store, name).done_now == 1797
        stores[name] = content(store)
    return stores


def test_killed_again_and_again(tmp_path: Path, whole: dict[str, dict[str, bytes]]) -> None:
    """One store, killed four times around the commits of its shards of 256 rows, then finished."""
    rng, store = random.Random(5), tmp_path / "s.zarr"
    killed, rows = 0, 0
    for images in (32, 256, 512, 256):
        status = child(store, "stub", (signal.SIGKILL, images, rng.random() / 50))
        killed += status == -signal.SIGKILL
        now = FeatureStore.open(store)
        assert now.verify() == []
        committed = sum(now.committed("base").values())
        assert committed >= rows + images - 256
        rows = committed
    assert killed == 4
    assert in_process(store, "stub").done_now == 1797 - rows
    assert content(store) == whole["stub"]


def test_killed_with_a_real_model(tmp_path: Path, whole: dict[str, dict[str, bytes]]) -> None:
    store = tmp_path / "s.zarr"
    assert child(store, "tiny", (signal.SIGKILL, 700, 0.003)) == -signal.SIGKILL
    before = sum(FeatureStore.open(store).committed("base").values())
    assert 512 <= before < 1797
    assert in_process(store, "tiny").skipped == before
    assert content(store) == whole["tiny"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_stops_in_order(
    tmp_path: Path, whole: dict[str, dict[str, bytes]], number: signal.Signals
) -> None:
    store = tmp_path / "s.zarr"
    assert child(store, "stub", (number, 600, 0.0)) == 130
    before = FeatureStore.open(store)
    assert before.verify() == before.leftovers() == []
    rows = sum(before.committed("base").values())
    assert 512 <= rows < 1797
    summary = in_process(store, "stub")
    assert (summary.interrupted, summary.skipped) == (False, rows)
    assert content(store) == whole["stub"]


def test_summary_says_interrupted_and_handlers_come_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def ask(progress: Progress) -> None:
        if progress.done == 96:
            os.kill(os.getpid(), signal.SIGINT)

    summary = extract(
        open_source("digits"),
        tmp_path / "s.zarr",
        backbone=StubBackbone(),
        rows_per_shard=64,
        progress=ask,
    )
    assert summary.interrupted
    assert (summary.done_now, summary.skipped, summary.rows) == (64, 0, 1797)
    assert signal.getsignal(signal.SIGINT) is before


class Killed(BaseException):
    """Stands for kill -9 at a write."""


def test_killed_at_any_write_while_a_source_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last shard of two views grows, one image is deleted and one is replaced."""
    folder = image_folder(tmp_path / "images", {"a": 6})
    backbones = {"base": StubBackbone(), "other": StubBackbone(seed=1)}

    def follow(store: Path) -> None:
        for view, backbone in backbones.items():
            source = open_source(folder)
            extract(source, store, backbone=backbone, view=view, rows_per_shard=4, rescan=True)

    follow(tmp_path / "before")
    (folder / "a/005.png").unlink()
    (folder / "a/001.png").write_bytes((folder / "a/002.png").read_bytes())
    image_folder(folder, {"b": 3})
    real = artifact.write_bytes
    killed: list[Path] = []
    for step in range(100):
        store, calls = tmp_path / str(step), iter(range(1000))
        shutil.copytree(tmp_path / "before", store)

        def write(path: Path, data: bytes, step: int = step, calls: Any = calls) -> None:
            if next(calls) == step:
                (path.parent / f".{path.name}.abcd_123").write_bytes(data[: len(data) // 2])
                raise Killed
            real(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(artifact, "write_bytes", write)
            try:
                follow(store)
            except Killed:
                killed.append(store)
            else:
                break
    assert len(killed) > 20
    expected = content(tmp_path / str(len(killed)))
    for store in killed:
        assert FeatureStore.open(store).verify() == []
        follow(store)
        assert content(store) == expected, store


def test_second_signal_insists() -> None:
    insisted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: insisted.append(number))
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)  # os.kill may reach another thread, this one late
            assert (stop.requested, insisted) == (True, [])
            signal.raise_signal(signal.SIGINT)
            assert insisted == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def test_a_handler_that_is_not_pythons_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    set_by_python = signal.signal
    monkeypatch.setattr(signal, "signal", lambda n, handler: set_by_python(n, handler) and None)
    try:
        with StopRequest():
            pass
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        monkeypatch.undo()
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def test_extraction_works_outside_the_main_thread(tmp_path: Path) -> None:
    rows: list[int] = []

    def run() -> None:
        summary = extract(open_source("digits"), tmp_path / "s", backbone=StubBackbone())
        rows.append(summary.done_now)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert rows == [1797]
