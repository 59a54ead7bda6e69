"""Killed at random instants and damaged at random places, a store ends with the same bytes.

SELECTKIT_KILLS and SELECTKIT_TRIALS ask for more of both than the few that are tried by default.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import FeatureStore, repair
from selectkit.errors import CacheError
from selectkit.extract import extract, open_source
from tests.e2e.conftest import Result
from tests.unit.extract.extract_tools import StubBackbone, content

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("SELECTKIT_KILLS", "6"))
TRIALS = int(os.environ.get("SELECTKIT_TRIALS", "20"))

CHILD = """
import sys, time
import torch  # takes longer than the extraction
from selectkit.extract import extract, open_source
from tests.unit.extract.extract_tools import StubBackbone

print("begin", flush=True)
extract(
    open_source("digits"), sys.argv[1], backbone=StubBackbone(), rows_per_shard=64, workers=1,
    progress=lambda p: time.sleep(0.01),
)
"""


def whole(path: Path, view: str = "base", seed: int = 0) -> None:
    """Extract what is not there, without interruption."""
    backbone = StubBackbone(seed=seed)
    extract(open_source("digits"), path, backbone=backbone, view=view, rows_per_shard=64)


def killed(store: Path, pause: float) -> int:
    """Extract in a process that is killed a while after it began; its exit status."""
    command = [sys.executable, "-c", CHILD, str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begin\n"
        time.sleep(pause)
        process.kill()
    return process.returncode


def test_killed_at_random_instants(tmp_path: Path) -> None:
    """A store is killed until it is complete; then the next one is begun."""
    rng, kills, stores = random.Random(0), 0, 0
    whole(tmp_path / "whole")
    expected = content(tmp_path / "whole")
    while kills < KILLS:
        store = tmp_path / str(stores)
        stores += 1
        complete = False
        while kills < KILLS and not complete:
            status = killed(store, rng.uniform(0.0, 1.0))
            complete = status == 0
            kills += status == -signal.SIGKILL
            if (store / "zarr.json").exists():
                assert FeatureStore.open(store).verify() == []
        whole(store)
        assert content(store) == expected, f"store {stores} after {kills} kills"


def test_any_wrong_byte_is_found_and_repaired(tmp_path: Path) -> None:
    """Chunks, index parts and ledger files of a store with two views."""
    views = {"base": 0, "other": 1}
    for view, seed in views.items():
        whole(tmp_path / "s", view, seed)
    expected = content(tmp_path / "s")
    names = sorted(n for n in expected if not n.endswith(("zarr.json", ".lock", "splits.json")))
    rng = np.random.default_rng(0)
    for trial in range(TRIALS):
        file = tmp_path / "s" / names[rng.integers(len(names))]
        data = bytearray(file.read_bytes())
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        file.write_bytes(data)
        assert FeatureStore.open(tmp_path / "s").verify(), f"trial {trial}: {file}"
        assert len(repair(tmp_path / "s")) == 1
        assert FeatureStore.open(tmp_path / "s").verify() == []
        for view, seed in views.items():
            whole(tmp_path / "s", view, seed)
        assert content(tmp_path / "s") == expected, f"trial {trial}: {file}"


def test_repair_on_the_command_line(cli: Callable[..., Result], tmp_path: Path) -> None:
    store = tmp_path / "s"
    arguments = ("extract", "digits", "--out", store, "--backbone", "tiny")
    assert cli(*arguments, "--rows-per-shard", 600).code == 0
    expected = content(store)
    chunk = store / "views/base/features/cls/c/1/0"
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])
    assert cli("verify", store).code == 1
    result = cli("verify", store, "--repair")
    assert result.code == 0, result
    assert "repaired: commits/base/00001.json: withdrawn: run `selectkit extract`" in result.out
    result = cli(*arguments)
    assert "600 new, 1,197 cached before" in result.out
    assert content(store) == expected


def test_shard_ranges_and_an_order_to_stop(tmp_path: Path, cli: Callable[..., Result]) -> None:
    """SIGTERM ends a run in order: exit code 0, and the other parts complete the store."""
    arguments = ["extract", "digits", "--backbone", "tiny", "--out", str(tmp_path / "s")]
    options = [*arguments, "--rows-per-shard", "64", "--shard-range"]
    command = [sys.executable, "-c", "from selectkit.cli.main import main; main()"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *options, "1/2"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        while not (tmp_path / "s/commits/base/00000.json").exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0
    assert "run the same command again" in said or "has 896 of 1,797 images" in said
    first = FeatureStore.open(tmp_path / "s")
    assert first.verify() == first.leftovers() == []
    assert "has 1,797 of 1,797" not in cli(*options, "2/2").out
    assert "complete: 1,797 images" in cli(*options, "1/2").out
    assert sum(FeatureStore.open(tmp_path / "s").committed("base").values()) == 1797


def test_a_full_disk_is_one_line_and_can_be_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Result]
) -> None:
    from selectkit import artifact

    real, calls = artifact.write_bytes, iter(range(10**6))

    def write(path: Path, data: bytes) -> None:
        if next(calls) >= 20:
            raise OSError(28, "No space left on device", str(path))
        real(path, data)

    arguments = ("extract", "digits", "--out", tmp_path / "s", "--backbone", "tiny")
    whole_path = tmp_path / "whole"
    assert cli(*arguments[:3], whole_path, *arguments[4:], "--rows-per-shard", 256).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(artifact, "write_bytes", write)
        result = cli(*arguments, "--rows-per-shard", 256)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "cannot be written: No space left on device. What is committed is safe" in result.err
    assert FeatureStore.open(tmp_path / "s").verify() == []
    assert cli(*arguments).code == 0
    assert content(tmp_path / "s") == content(whole_path)


def test_a_store_that_cannot_be_opened_for_writing(tmp_path: Path) -> None:
    whole(tmp_path / "s")
    (tmp_path / "s/.lock").unlink()
    (tmp_path / "s/.lock").mkdir()
    with pytest.raises(CacheError, match="cannot be written: Is a directory"):
        whole(tmp_path / "s", "other", 1)
    assert FeatureStore.open(tmp_path / "s").verify() == []
