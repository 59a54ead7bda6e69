"""The same features on a CUDA device as on the CPU, to the precision asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.extract import extract, load_backbone, open_source
from selectkit.extract.backbones.capacity import auto_batch_size, utilisation

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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_overlapping_batches_equal_single_ones(dtype: Literal["float32", "bfloat16"]) -> None:
    backbone = load_backbone("tiny", dtype=dtype)
    memory = np.zeros((2, 24, 32, 32, 3), dtype=np.uint8)
    parts = [pixels()[:24], pixels()[24:48], pixels()[48:]]
    expected = backbone(pixels())
    found: list[Any] = []
    before: Any = None
    with backbone.pinned(memory.reshape(-1, 32, 32, 3), 24):
        for i, part in enumerate(parts):
            batch = memory[i % 2][: len(part)]
            batch[...] = part
            current = backbone.start(batch)
            found += [before()] if before else []
            before = current
        assert before is not None
        found.append(before())
    tolerance = 1e-4 if dtype == "float32" else 0.05
    for name, values in expected.items():
        joined = np.concatenate([f[name] for f in found])
        assert joined.shape == values.shape
        assert np.abs(joined - values).max() < tolerance * np.abs(values).max()


def test_padding_does_not_touch_the_images() -> None:
    backbone = load_backbone("tiny")
    memory = pixels()[:16].copy()
    with backbone.pinned(memory, 16):
        whole = backbone.start(memory)()
        part = backbone.start(memory[:5])()
    for name, values in part.items():
        assert np.array_equal(values, whole[name][:5])


def test_memory_that_runs_out_halves_the_batch() -> None:
    whole = load_backbone("tiny")

    def small(x: Any) -> Any:
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole.tokens(x)

    backbone = replace(whole, tokens=small)
    memory = pixels().copy()
    with backbone.pinned(memory, 64):
        found = backbone.start(memory)()
    for name, values in whole(pixels()).items():
        assert np.abs(found[name] - values).max() < 1e-4 * np.abs(values).max()


def test_batch_size_and_utilisation() -> None:
    backbone = load_backbone("tiny", dtype="auto")
    assert backbone.dtype == "bfloat16"
    assert auto_batch_size(backbone, 32) == 512
    share = utilisation(backbone, 32, 1000.0)
    assert share is not None
    assert 0 < share < 1


def test_store_begun_on_the_device_is_repeated_exactly(tmp_path: Path) -> None:
    source, stores = open_source("digits"), [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        extract(source, store, backbone=load_backbone("tiny"), rows_per_shard=512)
    one, two = (np.asarray(FeatureStore.open(s).array("base", "cls")[:]) for s in stores)
    assert np.array_equal(one, two)
    summary = extract(source, stores[0], backbone=load_backbone("tiny", device="cpu"))
    assert summary.skipped == 1797
