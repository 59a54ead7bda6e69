"""JPEG decoded by nvJPEG: near the pixels of the CPU, whatever else is in the batch."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from selectkit.cache import FeatureStore
from selectkit.extract import Preprocessing, extract, load_backbone, open_source
from selectkit.extract.decode import decode_pixels
from selectkit.extract.encoded import EncodedJpeg, encoded_jpeg
from selectkit.extract.jpeg_device import DeviceDecoder, device_decoder

torch = pytest.importorskip("torch")
pytest.importorskip("torchcodec")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PLAN = Preprocessing(32)


def jpeg(seed: int, orientation: int = 1, **options: Any) -> bytes:
    """A smooth picture of 90 x 60."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    tags, buffer = Image.Exif(), io.BytesIO()
    tags[0x0112] = orientation
    picture = small.resize((90, 60), Image.Resampling.BICUBIC)
    picture.save(buffer, "JPEG", exif=tags, quality=90, **options)
    return buffer.getvalue()


def taken(data: bytes) -> EncodedJpeg:
    found = encoded_jpeg(data)
    assert found is not None
    return found


def decoded(decoder: DeviceDecoder, files: Sequence[bytes]) -> npt.NDArray[np.int64]:
    out = np.zeros((len(files), PLAN.size, PLAN.size, 3), dtype=np.uint8)
    assert decoder.decode([taken(data) for data in files], list(out)) == []
    return out.astype(np.int64)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"subsampling": 0}, 6),
        ({"subsampling": 2}, 40),  # colours are repeated, where libjpeg-turbo interpolates them
        ({"subsampling": 0, "progressive": True}, 6),
        ({"subsampling": 0, "restart_marker_blocks": 2}, 6),
    ],
)
def test_pixels_are_near_those_of_the_processor(options: dict[str, Any], tolerance: int) -> None:
    files = [jpeg(k, orientation=1 + k % 8, **options) for k in range(16)]
    usual = np.stack([PLAN.apply(decode_pixels(data)) for data in files])
    difference = np.abs(decoded(device_decoder("cuda", PLAN), files) - usual)
    assert difference.max() <= tolerance
    assert difference.mean() < tolerance / 5


def test_a_picture_has_the_same_pixels_in_every_batch() -> None:
    files = [jpeg(k, progressive=bool(k % 3), subsampling=k % 3) for k in range(24)]
    decoder = device_decoder("cuda", PLAN)
    whole = decoded(decoder, files)
    assert np.array_equal(whole, decoded(decoder, files))
    assert np.array_equal(whole[::-1], decoded(decoder, files[::-1]))
    assert np.array_equal(whole, np.concatenate([decoded(decoder, [data]) for data in files]))
    few = DeviceDecoder("cuda", PLAN, together=5 * taken(files[0]).pixel_bytes)
    assert np.array_equal(whole, decoded(few, files))


def test_a_store_is_repeated_exactly_and_bad_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(50):
        (folder / f"{k:02d}.jpg").write_bytes(jpeg(k, orientation=1 + k % 8))
    (folder / "half.jpg").write_bytes(jpeg(0)[:400])
    buffer = io.BytesIO()
    Image.new("CMYK", (40, 30), (20, 40, 60, 0)).save(buffer, "JPEG")
    (folder / "cmyk.jpg").write_bytes(buffer.getvalue())
    source, stores = open_source(folder), [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        summary = extract(
            source,
            store,
            backbone=load_backbone("tiny"),
            dtype="float32",
            rows_per_shard=16,
            batch_size=8,
            jpeg_decoder="gpu",
        )
        assert summary.failed == {"truncated": 1}
    usual = tmp_path / "usual"
    extract(source, usual, backbone=load_backbone("tiny"), dtype="float32", batch_size=8)
    one, two, cpu = (
        np.asarray(FeatureStore.open(s).array("base", "cls")[:]) for s in (*stores, usual)
    )
    assert np.array_equal(one, two, equal_nan=True)
    good = ~np.isnan(cpu[:, 0])
    assert good.sum() == 51
    lengths = np.linalg.norm(cpu[good], axis=1)
    assert (np.linalg.norm((one - cpu)[good], axis=1) < 0.2 * lengths).all()
