"""JPEG decoded in batches where the model runs; here that is the CPU, by the same code."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selectkit.cache import FeatureStore
from selectkit.config import ExtractConfig
from selectkit.errors import BackboneError, CacheError, ConfigError, MissingExtraError
from selectkit.extract import Extraction, Preprocessing, extract, jpeg_device, open_source
from selectkit.extract.decode import decode_pixels
from selectkit.extract.encoded import EncodedJpeg, encoded_jpeg
from selectkit.extract.jpeg_device import DeviceDecoder, decoder_problem, device_decoder
from selectkit.extract.ray_worker import Opened, Worker
from selectkit.extract.setup import Settings
from selectkit.pipeline.extract import _part
from selectkit.pipeline.extract import extract as extract_verb
from tests.unit.extract.extract_tools import (
    Pixels,
    StubBackbone,
    broken_files,
    content,
    encoded,
    noise,
)

pytest.importorskip("torchcodec")
torch = pytest.importorskip("torch")

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
PLANS = [
    Preprocessing(32),
    Preprocessing(32, "squash"),
    Preprocessing(96, interpolation="bilinear"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return str(tmp_path)


@pytest.fixture
def on_the_device(monkeypatch: pytest.MonkeyPatch) -> "list[Decoding]":
    """Extractions may decode on a device, which is the CPU; the decoders that they make."""
    made: list[Decoding] = []

    def make(device: str, plan: Preprocessing) -> DeviceDecoder:
        made.append(Decoding("cpu", plan))
        return made[-1]

    monkeypatch.setattr("selectkit.extract.session.device_decoder", make)
    return made


@dataclass(slots=True)
class Decoding(DeviceDecoder):
    """Counts the files that it decoded, and those that it refused."""

    given: int = 0
    refused: int = 0

    def decode(self, images: Sequence[EncodedJpeg], out: Sequence[Pixels]) -> list[int]:
        refused = DeviceDecoder.decode(self, images, out)
        self.given += len(images)
        self.refused += len(refused)
        return refused


def picture(seed: int = 0, height: int = 60, width: int = 90) -> Image.Image:
    """Smooth, so that pixels of two resizes may be compared."""
    small = Image.fromarray(noise(height // 10, width // 10, seed))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def jpeg(seed: int = 0, orientation: int = 1, **options: Any) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    more = {"exif": tags} if orientation > 1 else {}
    return encoded(picture(seed), "JPEG", **more, **options)


def taken(data: bytes) -> EncodedJpeg:
    found = encoded_jpeg(data)
    assert found is not None
    return found


def decoded(files: Sequence[bytes], plan: Preprocessing) -> Pixels:
    out = np.zeros((len(files), plan.size, plan.size, 3), dtype=np.uint8)
    assert DeviceDecoder("cpu", plan).decode([taken(data) for data in files], list(out)) == []
    return out


def difference(files: Sequence[bytes], plan: Preprocessing) -> int:
    """In grey levels, between the device's path and the usual one."""
    usual = np.stack([plan.apply(decode_pixels(data)) for data in files])
    return int(np.abs(decoded(files, plan).astype(int) - usual).max())


@pytest.mark.parametrize("plan", PLANS, ids=["smaller", "squashed", "larger"])
def test_pixels_are_those_of_the_usual_path(plan: Preprocessing) -> None:
    files = [
        *(jpeg(k, orientation=k) for k in range(1, 9)),
        jpeg(progressive=True),
        jpeg(subsampling=0),
        jpeg(restart_marker_blocks=2),
        encoded(picture().convert("L"), "JPEG"),
    ]
    assert difference(files, plan) <= 2


@pytest.mark.parametrize(("folder", "images"), [("cifar10_jpg", 200), ("roadwork_frames", 20)])
def test_pixels_of_real_files_are_those_of_the_usual_path(folder: str, images: int) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip("the images are not here")
    files = [file.read_bytes() for file in sorted((SHARED / folder).rglob("*.jpg"))[:images]]
    assert len(files) == images
    assert difference(files, Preprocessing(224 if folder == "roadwork_frames" else 32)) <= 2


Decode = Callable[[Sequence[Pixels], str], list[Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pictures in each call of the library."""
    found: list[int] = []
    real: Decode = jpeg_device._decode

    def count(files: Sequence[Pixels], device: str) -> list[Any]:
        found.append(len(files))
        return real(files, device)

    monkeypatch.setattr(jpeg_device, "_decode", count)
    return found


def test_pictures_are_decoded_together_as_far_as_they_have_room(calls: list[int]) -> None:
    images = [taken(jpeg(k)) for k in range(7)]
    out = np.zeros((7, 32, 32, 3), dtype=np.uint8)
    DeviceDecoder("cpu", PLANS[0]).decode(images, list(out))
    DeviceDecoder("cpu", PLANS[0], together=3 * images[0].pixel_bytes).decode(images, list(out))
    DeviceDecoder("cpu", PLANS[0], together=1).decode(images[:2], list(out[:2]))
    DeviceDecoder("cpu", PLANS[0]).decode([], [])
    assert calls == [7, 3, 3, 1, 1, 1]


def test_only_what_the_library_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library says only that something in the batch is wrong."""
    files = [jpeg(k) for k in range(8)]
    images = [taken(data) for data in files]
    bad = {images[k].picture().tobytes() for k in (0, 3, 4)}
    real: Decode = jpeg_device._decode

    def decode(files: Sequence[Pixels], device: str) -> list[Any]:
        if any(file.tobytes() in bad for file in files):
            raise RuntimeError("Error while decoding JPEG images: Failed to decode batch: 4")
        return real(files, device)

    monkeypatch.setattr(jpeg_device, "_decode", decode)
    out = np.zeros((8, 32, 32, 3), dtype=np.uint8)
    refused = DeviceDecoder("cpu", PLANS[0]).decode(images, list(out))
    assert sorted(refused) == [0, 3, 4]
    good = [k for k in range(8) if k not in refused]
    monkeypatch.setattr(jpeg_device, "_decode", real)
    assert np.array_equal(out[good], decoded([files[k] for k in good], PLANS[0]))


def test_a_picture_of_another_size_than_its_header_says_is_refused() -> None:
    image = replace(taken(jpeg()), width=89)
    assert DeviceDecoder("cpu", PLANS[0]).decode([image], [np.zeros((32, 32, 3), np.uint8)]) == [0]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("Error while decoding JPEG images: CUDA out of memory. Tried to allocate"),
        RuntimeError("Error while decoding JPEG images: Failed to decode batch: 5"),
    ],
)
def test_memory_that_runs_out_halves_what_is_decoded_together(
    monkeypatch: pytest.MonkeyPatch, calls: list[int], error: RuntimeError
) -> None:
    fits, counting = 3, jpeg_device._decode

    def decode(files: Sequence[Pixels], device: str) -> list[Any]:
        pictures = counting(files, device)
        if len(files) > fits:
            raise error
        return pictures

    monkeypatch.setattr(jpeg_device, "_decode", decode)
    images = [taken(jpeg(k)) for k in range(8)]
    out = np.zeros((8, 32, 32, 3), dtype=np.uint8)
    decoder = DeviceDecoder("cpu", PLANS[0])
    assert decoder.decode(images, list(out)) == []
    assert calls == [8, 4, 2, 2, 4, 2, 2]
    assert decoder.together == 2 * images[0].pixel_bytes
    calls.clear()
    assert decoder.decode(images, list(out)) == []
    assert calls == [2] * 4
    fits = 0
    with pytest.raises(BackboneError, match="too little memory to decode a picture of 90 x 60"):
        decoder.decode(images, list(out))


def test_without_a_device_it_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Preprocessing(32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"'gpu' needs a CUDA device, and torch finds none here"):
        device_decoder("cuda", plan)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="where the model runs, and that is on 'cpu'"):
        device_decoder("cpu", plan)
    monkeypatch.setattr(jpeg_device, "installed", lambda package: None)
    with pytest.raises(MissingExtraError, match=r'pip install "selectkit\[gpu\]"'):
        device_decoder("cuda", plan)
    monkeypatch.setattr(jpeg_device, "installed", lambda package: "0.17.0+cu130")
    monkeypatch.setattr(jpeg_device, "decoder_problem", lambda device: "it does not load")
    with pytest.raises(ConfigError, match=r"cannot be used: it does not load. Or leave"):
        device_decoder("cuda", plan)
    monkeypatch.setattr(jpeg_device, "decoder_problem", lambda device: None)
    assert device_decoder("cuda:1", plan).device == "cuda:1"


def test_a_library_that_does_not_decode_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = decoder_problem.__wrapped__
    assert ask("cpu") is None

    def fail(files: Sequence[Pixels], device: str) -> list[Any]:
        raise OSError("libnvjpeg.so: no such file\nmore")

    monkeypatch.setattr(jpeg_device, "_decode", fail)
    assert "does not decode on cuda (libnvjpeg.so: no such file): install" in (ask("cuda") or "")
    black = [torch.zeros((3, 64, 64), dtype=torch.uint8)]
    monkeypatch.setattr(jpeg_device, "_decode", lambda files, device: black)
    assert "(a grey picture comes out otherwise)" in (ask("cuda") or "")
    monkeypatch.setattr(jpeg_device, "installed", {"torchcodec": "0.15.0"}.get)
    assert ask("cuda") == "torchcodec 0.15.0 is too old: pip install 'torchcodec>=0.16'"


def images(folder: Path) -> Path:
    """40 plain files, every fifth of them twice; a bad one of each kind; PNG, CMYK and turned."""
    folder.mkdir()
    for k in range(40):
        (folder / f"{k:02d}.jpg").write_bytes(jpeg(k - k % 5 // 4, orientation=1 + k % 8))
    for name, (data, _) in broken_files().items():
        (folder / name).write_bytes(data)
    smooth = encoded(picture(), "JPEG", quality=95)
    (folder / "damaged.jpg").write_bytes(smooth[:-300] + bytes(40) + smooth[-260:])
    (folder / "cmyk.jpg").write_bytes(encoded(picture(7).convert("CMYK"), "JPEG"))
    (folder / "good.png").write_bytes(encoded(picture(8), "PNG"))
    return folder


STUB = StubBackbone(preprocessing=Preprocessing(32), patch_size=4)


def run(source: Path, store: Path, **settings: Any) -> Any:
    settings = {"rows_per_shard": 16, "batch_size": 4} | settings
    return extract(open_source(source), store, backbone=STUB, dtype="float32", **settings)


def test_a_store_is_that_of_the_usual_path_but_for_a_few_grey_levels(
    tmp_path: Path, on_the_device: list[Decoding]
) -> None:
    folder = images(tmp_path / "images")
    usual, other = tmp_path / "usual", tmp_path / "other"
    summary = run(folder, usual)
    found = run(folder, other, jpeg_decoder="gpu")
    assert on_the_device[0].given >= 32  # copies are not decoded, files that are not plain neither
    reasons = Counter(reason for _, reason in broken_files().values())
    lost = dict(found.failed)
    assert summary.failed["corrupt"] - lost["corrupt"] in {0, 1}  # damage inside of a scan
    assert {**lost, "corrupt": 0} == {**reasons, "corrupt": 0}
    assert found.timings.computed == summary.timings.computed
    one, two = (FeatureStore.open(s).index() for s in (usual, other))
    same = one.status == two.status
    assert same.sum() >= len(one) - 1
    assert np.array_equal(one.content_hash, two.content_hash)
    assert np.array_equal(one.width[same], two.width[same])
    assert np.array_equal(one.height[same], two.height[same])
    a, b = (np.asarray(FeatureStore.open(s).array("base", "cls")[:]) for s in (usual, other))
    good = (one.status == "ok") & same
    assert good.sum() == 42
    assert 0 < np.abs(a - b)[good].max() < 0.02 * np.abs(a[good]).max()
    assert np.isnan(b[two.status != "ok"]).all()
    assert not np.isnan(b[two.status == "ok"]).any()
    copies = one.content_hash == one.content_hash[list(one.id).index("04.jpg")]
    assert np.unique(b[copies], axis=0).shape[0] == 1


def test_whoever_computes_a_shard_writes_the_same_bytes(
    here: str, tmp_path: Path, on_the_device: list[Decoding]
) -> None:
    folder = images(tmp_path / "images")
    whole = tmp_path / "whole"
    run(folder, whole, jpeg_decoder="gpu", workers=1)
    begun = tmp_path / "begun"
    for part in ("2/3", "1/3"):
        run(folder, begun, jpeg_decoder="gpu", workers=3, shard_range=part)
    assert len(FeatureStore.open(begun).committed("base")) < len(
        FeatureStore.open(whole).committed("base")
    )
    run(folder, begun, jpeg_decoder="gpu", batch_size=4)
    assert content(begun) == content(whole)

    def build() -> Extraction:
        settings = Settings(dtype="float32", batch_size=4, rows_per_shard=16, jpeg_decoder="gpu")
        return Extraction(open_source(folder), tmp_path / "by a worker", STUB, settings)

    worker = Worker(build, 2, here)
    opened = worker.begin(first=True)
    assert isinstance(opened, Opened)
    report = worker.step(list(opened.todo))
    while not report.idle:
        report = worker.step([])
    assert report.failure is None
    worker.end()
    FeatureStore.open(tmp_path / "by a worker").verify()
    assert content(tmp_path / "by a worker" / "views") == content(whole / "views")
    assert content(tmp_path / "by a worker" / "index") == content(whole / "index")


def test_what_the_device_refuses_is_decoded_and_named_by_the_usual_path(
    tmp_path: Path, on_the_device: list[Decoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = images(tmp_path / "images")

    def decode(files: Sequence[Pixels], device: str) -> list[Any]:
        raise RuntimeError("Failed to parse jpeg stream: 3")

    monkeypatch.setattr(jpeg_device, "_decode", decode)
    run(folder, tmp_path / "usual")
    summary = run(folder, tmp_path / "other", jpeg_decoder="gpu")
    assert on_the_device[0].refused == on_the_device[0].given > 30
    assert summary.failed["corrupt"] >= 1
    one, two = (content(tmp_path / name / "views/base/features") for name in ("usual", "other"))
    assert one == two
    assert content(tmp_path / "usual/index") == content(tmp_path / "other/index")


@pytest.mark.parametrize(("first", "then"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_a_view_keeps_to_one_decoder(
    tmp_path: Path, on_the_device: list[Decoding], first: str, then: str
) -> None:
    folder, store = images(tmp_path / "images"), tmp_path / "s"
    run(folder, store, jpeg_decoder=first, shard_range="1/3")
    before = content(store)
    for settings in ({}, {"shard_range": "2/3"}, {"rescan": True}):
        with pytest.raises(CacheError, match=r"view 'base' was begun with JPEG decoded by .*jpeg"):
            run(folder, store, jpeg_decoder=then, **settings)
    assert content(store) == before
    done = run(folder, store, jpeg_decoder=first)
    assert done.skipped > 0


def test_damage_that_another_decoder_did_not_notice_is_explained(
    tmp_path: Path, on_the_device: list[Decoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    smooth = encoded(picture(), "JPEG", quality=95)
    (folder / "good.jpg").write_bytes(smooth)
    damaged = smooth[:-3] + bytes(40) + smooth[-3:]
    (folder / "damaged.jpg").write_bytes(damaged)
    assert encoded_jpeg(damaged) is not None
    assert run(folder, tmp_path / "usual").failed == {"corrupt": 1}
    assert run(folder, tmp_path / "s", jpeg_decoder="gpu", view="fast").failed == {}
    with pytest.raises(CacheError) as caught:
        run(folder, tmp_path / "s")
    assert "'damaged.jpg' (row 0) was decoded when it was indexed" in str(caught.value)
    assert "is now failed:corrupt, though not a byte changed" in str(caught.value)
    run(folder, tmp_path / "usual", jpeg_decoder="gpu", view="fast")  # known to be bad: no features
    there = FeatureStore.open(tmp_path / "usual").array("fast", "cls")[:]
    assert np.isnan(np.asarray(there)[0]).all()
    (folder / "damaged.jpg").write_bytes(smooth)
    assert run(folder, tmp_path / "s", rescan=True).failed == {}


def test_both_engines_are_told_which_decoder(tmp_path: Path, on_the_device: list[Decoding]) -> None:
    """A worker on another machine builds its part from the same arguments as this process."""
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.jpg").write_bytes(jpeg(k))
    chosen = ExtractConfig(backbone="tiny", device="cpu", jpeg_decoder="gpu")
    part = _part(str(folder), str(tmp_path / "worker"), chosen)
    assert part.settings.jpeg_decoder == "gpu"
    done = extract_verb(folder, out=tmp_path / "local", config=chosen)
    assert done.work.failed == {}
    assert [decoder.given for decoder in on_the_device] == [0, 3]


def test_without_a_device_no_store_is_made(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        run(images(tmp_path / "images"), tmp_path / "s", jpeg_decoder="gpu")
    assert not (tmp_path / "s").exists()
