"""A forward pass compiled for the CPU: the same features up to rounding, whatever the batch."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.errors import BackboneError, CacheError
from selectkit.extract import load_backbone
from selectkit.extract.backbones import TokenBackbone
from selectkit.pipeline import extract
from tests.unit.extract.extract_tools import image_folder, noise

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler"
)


@pytest.fixture(scope="module")
def compiled() -> TokenBackbone:
    return load_backbone("tiny", device="cpu", compile=True)


@needs_compiler
def test_features_are_those_of_the_model_in_batches_of_any_size(compiled: TokenBackbone) -> None:
    plain = load_backbone("tiny", device="cpu")
    pixels = np.stack([noise(32, 32, seed) for seed in range(40)])
    all_at_once = compiled(pixels)
    for name, expected in plain(pixels).items():
        assert all_at_once[name].shape == expected.shape
        assert np.abs(all_at_once[name] - expected).max() < 1e-5 * np.abs(expected).max()
    for part in (slice(0, 1), slice(3, 10), slice(5, 37)):
        for name, values in compiled(pixels[part]).items():
            assert np.array_equal(values, all_at_once[name][part])


def test_the_fingerprint_says_that_it_is_compiled(compiled: TokenBackbone) -> None:
    plain = load_backbone("tiny", device="cpu")
    assert compiled.fingerprint() == {**plain.fingerprint(), "compiled": True}


@needs_compiler
def test_a_view_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    source, store = image_folder(tmp_path / "images", {"a": 6}), tmp_path / "s.zarr"
    how: dict[str, Any] = {"backbone": "tiny", "device": "cpu", "rows_per_shard": 3}
    begun = extract(source, out=store, **how, compile=True, shard_range="1/2")
    assert begun.work.done_now == 3
    assert extract(source, out=store, **how).work.done_now == 3
    assert FeatureStore.open(store).view("base").fingerprint["compiled"] is True

    extract(source, out=store, **how, view="plain", compute="float32")
    assert "compiled" not in FeatureStore.open(store).view("plain").fingerprint
    with pytest.raises(CacheError, match="compiled"):
        extract(source, out=store, **how, view="plain", compile=True)


def test_what_cannot_be_compiled_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refused(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> Any:
            raise RuntimeError("No working C++ compiler found\nand a long trace")

        return call

    monkeypatch.setattr(torch, "compile", refused)
    backbone = load_backbone("tiny", device="cpu", compile=True)
    with pytest.raises(BackboneError) as failed:
        backbone(np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert str(failed.value) == (
        "tiny cannot be compiled here: No working C++ compiler found. Install a C++ compiler "
        "(g++), or leave out --compile."
    )


@needs_compiler
@pytest.mark.parametrize(("flip", "crops"), [(True, False), (False, True)])
def test_means_over_pictures_of_an_image_are_compiled_in_one_pass(
    *, flip: bool, crops: bool
) -> None:
    plain, backbone = (
        load_backbone("tiny", device="cpu", flip=flip, compile=how) for how in (False, True)
    )
    size = 32
    if crops:
        plan = replace(plain.preprocessing, mode="meta-eval", resize=40)
        plain, backbone, size = plain.five_crops(plan), backbone.five_crops(plan), 40
    pixels = np.stack([noise(size, size, seed) for seed in range(9)])
    for name, expected in plain(pixels).items():
        found = backbone(pixels)[name]
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
        assert np.array_equal(backbone(pixels[4:6])[name], found[4:6])
