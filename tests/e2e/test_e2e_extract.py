"""`selectkit extract` on real images, on broken files, and with everything it caches."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from tests.e2e.conftest import Result
from tests.unit.extract.extract_tools import broken_files

Cli = Callable[..., Result]


def _json(result: Result) -> Any:
    assert result.code == 0, result.err
    return json.loads(result.out)


@pytest.mark.parametrize(
    ("manifest", "flags", "rows", "classes"),
    [
        ("cifar10_jpg/labels.csv", ("--label", "class_name"), 3000, 10),
        ("gtsrb_train/labels.csv", ("--label", "roadwork", "--group", "track"), 1407, 2),
        ("roadwork_frames/frames.csv", ("--label", "none", "--group", "clip"), 160, 0),
    ],
)
def test_real_images(
    cli: Cli,
    shared_data: Path,
    tmp_path: Path,
    manifest: str,
    flags: tuple[str, ...],
    rows: int,
    classes: int,
) -> None:
    store = tmp_path / "s.zarr"
    command = ("extract", shared_data / manifest, "--path", "file", *flags, "--out", store)
    done = _json(cli(*command, "--backbone", "tiny", "--json"))
    assert done["failed"] == {}
    assert done["rows"] == done["done_now"] == rows
    timings = done["timings"]
    assert timings["images"] == rows
    assert timings["limit"] == max(timings["shares"], key=timings["shares"].get)
    assert set(timings["shares"]) == {"decode", "forward", "write"}
    assert timings["transfer"] is None
    assert done["compute"] in {"float32", "bfloat16"}
    index = FeatureStore.open(store).index()
    assert len(index.classes) == classes
    assert (index.width > 0).all()


def test_five_hundred_broken_files(cli: Cli, tmp_path: Path) -> None:
    """Every kind is named and counted; the run ends in order."""
    kinds = broken_files()
    expected = Counter[str]()
    (tmp_path / "bad").mkdir()
    for i in range(500):
        name = list(kinds)[i % len(kinds)]
        data, reason = kinds[name]
        (tmp_path / "bad" / f"{i:03d}_{name}").write_bytes(data)
        expected[reason] += 1
    for name in ("a.heic", "b.HEIC", "notes.txt", "README", ".hidden"):
        (tmp_path / "bad" / name).write_bytes(b"?")
    command = ("extract", tmp_path / "bad", "--out", tmp_path / "s.zarr", "--backbone", "tiny")
    said = cli(*command)
    assert said.code == 0, said.err
    for reason, count in expected.items():
        assert f"  failed: {reason}: {count}\n" in said.out
    assert len(expected) >= 6
    for suffix, count in {".heic": 2, ".txt": 1, "no suffix": 1}.items():
        assert f"  ignored: {suffix}: {count}\n" in said.out
    assert "not one image could be used" in said.err
    assert "next: selectkit split" not in said.out
    again = _json(cli(*command, "--json"))
    assert (again["done_now"], again["failed"]) == (0, dict(expected))
    assert again["ignored"] == {".heic": 2, ".txt": 1, "no suffix": 1}
    assert any("not one image" in line for line in again["warnings"])


def test_people_learn_what_limited_the_run(cli: Cli, photos: Path, tmp_path: Path) -> None:
    command = ("extract", photos, "--out", tmp_path / "s.zarr", "--backbone", "tiny")
    first = cli(*command, "--compute", "float32")
    assert first.code == 0, first.err
    line = first.out.splitlines()[1]
    assert line.startswith("  limited by ")
    assert " in float32: " in line
    assert all(f"{what} " in line for what in ("decode", "forward", "write"))
    assert "%" in line
    assert "limited by" not in cli(*command).out  # nothing was left to do


def test_jpeg_on_a_device_needs_one(cli: Cli, photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    command = ("extract", photos, "--out", store, "--backbone", "tiny", "--jpeg-decoder", "gpu")
    done = cli(*command, "--device", "cpu")
    assert done.code == 2
    assert "jpeg_decoder = 'gpu'" in done.err
    assert "Leave jpeg_decoder at 'cpu'" in done.err
    assert not store.exists()


def test_a_view_goes_on_in_the_precision_and_batch_it_was_begun_with(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    store = tmp_path / "s.zarr"
    command = ("extract", photos, "--out", store, "--backbone", "tiny", "--rows-per-shard", 512)
    began = _json(
        cli(*command, "--compute", "bfloat16", "--batch-size", 8, "--shard-range", "1/2", "--json")
    )
    assert (began["done_now"], began["compute"]) == (512, "bfloat16")
    done = _json(cli(*command, "--json"))
    assert (done["done_now"], done["compute"]) == (88, "bfloat16")
    view = FeatureStore.open(store).view("base")
    assert view.fingerprint["dtype"] == "bfloat16"
    assert view.drift is not None
    assert view.drift["batch_size"] == 8
    assert 0 < view.drift["precision"]["compute"] < 0.05
    other = cli(*command, "--compute", "float32")
    assert other.code == 2
    assert "dtype" in other.err


@pytest.fixture(scope="module")
def rich(cli: Cli, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all that can be cached: mirrored five crops, last class tokens."""
    folder = tmp_path_factory.mktemp("rich")
    (folder / "own.toml").write_text('mode = "meta-eval"\nsize = 32\nresize = 40\n')
    done = cli(
        "extract", photos, "--out", folder / "s.zarr", "--backbone", "tiny", "--last", 2,
        "--flip", "--crops", 5, "--preprocess", folder / "own.toml", "--workers", 2,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


def test_augmentations_and_geometry_are_in_the_fingerprint(rich: Path) -> None:
    fingerprint = FeatureStore.open(rich / "s.zarr").view("base").fingerprint
    assert fingerprint["augmentation"] == (
        "mean of five crops of 32 pixels, corners and centre, and their mirror images"
    )
    geometry = fingerprint["preprocessing"]
    assert (geometry["mode"], geometry["size"], geometry["resize"]) == ("meta-eval", 40, 40)


def test_other_augmentations_are_refused_in_the_same_view(
    cli: Cli, rich: Path, photos: Path
) -> None:
    refused = cli(
        "extract", photos, "--out", rich / "s.zarr", "--backbone", "tiny", "--last", 2,
        "--preprocess", rich / "own.toml",
    )  # fmt: skip
    assert refused.code == 2
    assert "augmentation" in refused.err


@pytest.mark.parametrize("feature", ["cls_last2", "cls_last2+patch_mean", "cat"])
def test_heads_are_fitted_on_every_cached_feature(
    cli: Cli, rich: Path, tmp_path: Path, feature: str
) -> None:
    done = cli("fit", rich / "s.zarr", "--out", tmp_path / "run", "--feature", feature)
    assert done.code == 0, done.err
    head = json.loads((tmp_path / "run" / "head.json").read_text())
    lengths = {"cls_last2": 256, "cls_last2+patch_mean": 384, "cat": 256}
    assert (head["feature"], head["n_features"]) == (feature, lengths[feature])
    assert cli("calibrate", tmp_path / "run", "--target", "error=0.3").code in {0, 1}


def test_a_feature_that_is_not_there_is_named(cli: Cli, rich: Path, tmp_path: Path) -> None:
    refused = cli("fit", rich / "s.zarr", "--out", tmp_path / "run", "--feature", "cls_last4")
    assert refused.code == 2
    assert "no feature 'cls_last4'; it has: cls, cls_last2, patch_mean." in refused.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--preprocess", "pad"), "preprocess = 'pad' is none of auto, meta-eval and squash"),
        (("--preprocess", "own.yaml"), "and no .toml or .json file."),
        (("--preprocess", "gone.toml"), "gone.toml is missing"),
        (("--crops", "5"), "five crops need a margin around the centre crop"),
        (("--crops", "3"), "crops = 3"),
        (("--batch-size", "0"), "batch_size = 0"),
        (("--workers", "0"), "workers = 0"),
        (("--last", "13"), "fewer than 13 blocks"),
        (("--size", "33"), "image size 33 is no multiple of the 8 pixel patches"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    cli: Cli, photos: Path, tmp_path: Path, flags: tuple[str, str], message: str
) -> None:
    refused = cli("extract", photos, "--out", tmp_path / "s", "--backbone", "tiny", *flags)
    assert refused.code == 2
    assert len(refused.err.strip().splitlines()) == 1
    assert message in refused.err
    assert not (tmp_path / "s").exists()


def test_five_crops_of_one_image_differ_from_its_centre(rich: Path, store: Path) -> None:
    one = FeatureStore.open(rich / "s.zarr").read("base", None)
    two = FeatureStore.open(store).read("base", None)
    assert list(one.ids) == list(two.ids)
    assert one.x.shape == two.x.shape
    assert np.abs(one.x - two.x).max() > 1e-2
