"""The same features on a CUDA device as on the CPU, to the precision asked for."""

from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.extract import extract, load_backbone, open_source

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def pixels() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)


def test_auto_takes_the_device() -> None:
    assert load_backbone("tiny").device == "cuda"


def test_float32_agrees_with_the_cpu() -> None:
    host, device = (load_backbone("tiny", device=d)(pixels()) for d in ("cpu", "cuda"))
    for name in ("cls", "patch_mean"):
        assert np.abs(host[name] - device[name]).max() < 1e-4 * np.abs(host[name]).max()


def test_bfloat16_is_near() -> None:
    exact = load_backbone("tiny", device="cpu")(pixels())
    mixed = load_backbone("tiny", device="cuda", dtype="bfloat16")(pixels())
    for name in ("cls", "patch_mean"):
        difference = np.abs(exact[name] - mixed[name]).max()
        assert 0 < difference < 0.05 * np.abs(exact[name]).max()


def test_store_begun_on_the_device_is_repeated_exactly(tmp_path: Path) -> None:
    source, stores = open_source("digits"), [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        extract(source, store, backbone=load_backbone("tiny"), rows_per_shard=512)
    one, two = (np.asarray(FeatureStore.open(s).array("base", "cls")[:]) for s in stores)
    assert np.array_equal(one, two)
    summary = extract(source, stores[0], backbone=load_backbone("tiny", device="cpu"))
    assert summary.skipped == 1797
