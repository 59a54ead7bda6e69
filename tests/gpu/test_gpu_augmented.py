"""Augmentations, the account of time and the share of the arithmetic, on a CUDA device."""

from pathlib import Path

import numpy as np
import pytest

from selectkit import pipeline
from selectkit.extract import Preprocessing, load_backbone

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crops", [False, True])
def test_augmented_features_agree_with_the_cpu(flip: bool, crops: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 40, 40, 3), dtype=np.uint8)
    found = {}
    for device in ("cpu", "cuda"):
        backbone = load_backbone("tiny", device=device, flip=flip)
        if crops:
            backbone = backbone.five_crops(Preprocessing(32, resize=40))
        memory = pixels.copy()
        with backbone.pinned(memory, len(memory)):
            found[device] = backbone.start(memory)()
    for name, values in found["cpu"].items():
        assert np.abs(found["cuda"][name] - values).max() < 1e-4 * np.abs(values).max()


def test_a_run_says_how_long_the_device_stood_still_and_what_it_made_of_itself(
    tmp_path: Path,
) -> None:
    done = pipeline.extract("digits", out=tmp_path / "s", backbone="tiny", device="cuda")
    timings = done.work.timings
    assert timings.transfer is not None
    assert 0 <= timings.transfer <= timings.seconds
    assert sum(timings.shares.values()) <= 1.001
    assert done.utilisation is not None
    assert 0 < done.utilisation < 1
    assert "of the device's matrix arithmetic" in "\n".join(done.lines())
    again = pipeline.extract("digits", out=tmp_path / "s", backbone="tiny", device="cuda")
    assert (again.work.done_now, again.utilisation) == (0, None)
