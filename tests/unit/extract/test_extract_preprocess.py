import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selectkit.errors import ConfigError
from selectkit.extract import Preprocessing
from selectkit.extract.decode import decode_pixels
from selectkit.extract.preprocess import Interpolation, Mode, read_preprocessing
from tests.unit.extract.extract_tools import noise

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
SIZES = [(256, 256), (300, 200), (199, 301), (31, 33), (20, 700), (1, 90), (224, 223)]


def theirs(size: int, mode: Mode, kind: Interpolation) -> Any:
    from torchvision.transforms import v2 as transforms

    filter_ = transforms.InterpolationMode(kind)
    if mode == "squash":
        return transforms.Resize((size, size), filter_, antialias=True)
    resize = transforms.Resize(round(size * 256 / 224), filter_, antialias=True)
    return transforms.Compose([resize, transforms.CenterCrop(size)])


@pytest.mark.parametrize("mode", ["meta-eval", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [224, 32, 37])
def test_equals_torchvision_on_bytes(size: int, interpolation: Interpolation, mode: Mode) -> None:
    import torch

    ours = Preprocessing(size, mode, interpolation)
    for height, width in SIZES:
        image = noise(height, width)
        got = ours.apply(image)
        assert got.shape == (size, size, 3)
        assert got.dtype == np.uint8
        tensor = theirs(size, mode, interpolation)(torch.from_numpy(image).permute(2, 0, 1))
        assert np.array_equal(got, tensor.permute(1, 2, 0).numpy())
        assert np.array_equal(got, ours.apply(np.ascontiguousarray(image[:, ::-1])[:, ::-1]))
        if mode == "meta-eval":  # Pillow 13 squashes rows first where that is faster
            pillow = np.asarray(theirs(size, mode, interpolation)(Image.fromarray(image)))
            difference = np.abs(got.astype(int) - pillow)
            assert difference.max() <= 2
            assert (difference > 0).mean() < 0.06  # noise, enlarged: the worst that can be had


@pytest.mark.parametrize("folder", ["roadwork_frames", "cifar10_jpg"])
def test_photographs_are_those_of_pillow_to_a_grey_level(folder: str) -> None:
    files = sorted((SHARED / folder).rglob("*.jpg"))[::150]
    if not files:
        pytest.skip(f"{folder} is not here")
    enlarged = folder == "cifar10_jpg"
    unequal = []
    for file in files:
        got = Preprocessing(224).apply(decode_pixels(file.read_bytes())).astype(int)
        pillow = theirs(224, "meta-eval", "bicubic")(Image.open(file).convert("RGB"))
        difference = np.abs(got - np.asarray(pillow))
        assert difference.max() <= (2 if enlarged else 1)
        unequal.append((difference > 0).mean())
    assert np.mean(unequal) < 0.01


@pytest.mark.parametrize("mode", ["meta-eval", "squash"])
def test_pixels_can_be_put_into_a_batch(mode: Mode) -> None:
    image, batch = noise(60, 90), np.zeros((2, 32, 32, 3), dtype=np.uint8)
    ours = Preprocessing(32, mode)
    ours.apply(image, batch[1])
    assert np.array_equal(batch[1], ours.apply(image))
    assert not batch[0].any()


def test_the_two_modes_differ() -> None:
    image = noise(60, 90)
    squash = Preprocessing(32, "squash").apply(image)
    crop = Preprocessing(32, "meta-eval").apply(image)
    assert not np.array_equal(squash, crop)


def test_round_trip_through_json() -> None:
    for ours in (
        Preprocessing(256, "squash", "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        Preprocessing(256, resize=300),
    ):
        assert Preprocessing.from_dict(json.loads(json.dumps(ours.to_dict()))) == ours


def test_what_older_views_were_begun_with_reads_the_same() -> None:
    assert set(Preprocessing(224).to_dict()) == {"size", "mode", "interpolation", "mean", "std"}
    assert Preprocessing(224).shorter == Preprocessing(224, resize=256).shorter == 256


OWN = Preprocessing(224, mean=(0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("name", "text", "fields"),
    [
        ("a.toml", 'size = 96\nresize = 100\ninterpolation = "bilinear"\n', (96, 100, "bilinear")),
        ("a.json", '{"size": 96, "resize": 96}', (96, 96, "bicubic")),
        ("a.TOML", "resize = 224", (224, 224, "bicubic")),
    ],
)
def test_a_file_sets_the_geometry_and_leaves_the_normalisation(
    tmp_path: Path, name: str, text: str, fields: tuple[int, int, str]
) -> None:
    (tmp_path / name).write_text(text)
    found = read_preprocessing(tmp_path / name, OWN)
    assert (found.size, found.shorter, found.interpolation) == fields
    assert (found.mean, found.std, found.mode) == (OWN.mean, OWN.std, "meta-eval")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "size = 'big'\ncrop = 2\nmean = [0.5]", "size = 'big': Input should be a valid"),
        ("a.toml", "size = 'big'\ncrop = 2\nmean = [0.5]", "unknown key crop"),
        ("a.toml", "size = 'big'\ncrop = 2\nmean = [0.5]", "unknown key mean"),
        ("a.json", '{"mode": "pad"}', "mode = 'pad': Input should be 'meta-eval' or 'squash'"),
        ("a.toml", "size =", "a.toml cannot be read: Invalid value"),
        ("a.json", "{", "a.json cannot be read: Expecting property name"),
        ("a.json", "[1]", "a.json must hold a table: size, mode, interpolation or resize."),
        ("a.toml", "", "a.toml says nothing: set size, mode, interpolation or resize."),
        ("a.toml", "size = 0", "a.toml: image size must be a positive number of pixels, got 0."),
        ("a.toml", "resize = 200", "a.toml: resize must be at least the size 224, got 200."),
        ("a.toml", None, "a.toml is missing: there is no preprocessing to read."),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_preprocessing(tmp_path / name, OWN)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "image size must be a positive number of pixels, got 0."),
        ({"mode": "crop"}, "mode must be 'meta-eval' or 'squash', got 'crop'."),
        ({"interpolation": "box"}, "interpolation must be 'bicubic' or 'bilinear', got 'box'."),
        ({"std": [0.5, 0.5, 0]}, "mean and std must be three numbers each, std positive; got"),
        ({"mean": [0.5]}, "mean and std must be three numbers each"),
        ({"resize": 223}, "resize must be at least the size 224, got 223."),
        ({"mode": "squash", "resize": 256}, "resize is the shorter side before a crop, and squash"),
    ],
)
def test_bad_settings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Preprocessing.from_dict({**Preprocessing(224).to_dict(), **fields})
