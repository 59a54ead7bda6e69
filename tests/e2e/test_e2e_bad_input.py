"""Each mistake gives one clear line, exit code 2, and changes nothing on disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.artifact import content_hash
from tests.e2e.conftest import Result, write_digits

Cli = Callable[..., Result]


def _state(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): content_hash(p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def _refused(cli: Cli, folder: Path, *arguments: object) -> str:
    before = _state(folder)
    result = cli(*arguments)
    assert result.code == 2, result
    lines = result.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.err
    assert _state(folder) == before
    return lines[0]


@pytest.fixture
def own_store(store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(store, tmp_path / "s.zarr")


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


def test_missing_source(cli: Cli, tmp_path: Path) -> None:
    line = _refused(
        cli,
        tmp_path,
        "extract",
        tmp_path / "nowhere",
        "--out",
        tmp_path / "s",
        "--backbone",
        "tiny",
    )
    assert "nowhere" in line
    assert "there is no source" in line


def test_empty_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = _refused(
        cli, tmp_path, "extract", tmp_path / "empty", "--out", tmp_path / "s", "--backbone", "tiny"
    )
    assert "no image" in line


def test_manifest_without_the_label_column(cli: Cli, photos: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"path,kind\n{next(photos.rglob('*.png'))},a\n")
    line = _refused(cli, tmp_path, "extract", manifest, "--out", tmp_path / "s", "--label", "class")
    assert "'class'" in line
    assert "kind" in line


def test_missing_store_and_run(cli: Cli, tmp_path: Path) -> None:
    assert "selectkit extract" in _refused(cli, tmp_path, "fit", tmp_path / "s", "--out", "r")
    line = _refused(cli, tmp_path, "calibrate", tmp_path / "r", "--target", "error=0.1")
    assert "no run at" in line
    assert "selectkit fit" in line
    for verb in ("split", "inspect", "verify"):
        assert "selectkit extract" in _refused(cli, tmp_path, verb, tmp_path / "s")


def test_one_class(cli: Cli, tmp_path: Path) -> None:
    photos = write_digits(tmp_path / "photos", range(40), lambda _: "only")
    store = tmp_path / "s.zarr"
    assert cli("extract", photos, "--out", store, "--backbone", "tiny").code == 0
    line = _refused(cli, tmp_path, "fit", store, "--out", tmp_path / "r")
    assert "1 distinct labels ['only']" in line
    assert "at least 2" in line


def test_nan_features(cli: Cli, own_store: Path, tmp_path: Path) -> None:
    from selectkit.cache import FeatureStore

    opened = FeatureStore.open(own_store)
    rows = opened.shard_rows(0)
    x = np.asarray(opened.array("base", "cls")[np.arange(rows.start, rows.stop)], dtype=np.float32)
    mean = np.asarray(opened.array("base", "patch_mean")[np.arange(rows.start, rows.stop)])
    x[3] = np.nan
    opened.write_features("base", 0, {"cls": x, "patch_mean": mean.astype(np.float32)})
    line = _refused(cli, tmp_path, "fit", own_store, "--out", tmp_path / "r")
    assert "not finite" in line or "NaN" in line


def test_wrong_number_of_classes(cli: Cli, own_run: Path, tmp_path: Path) -> None:
    photos = write_digits(tmp_path / "photos", range(120), lambda d: f"digit{d % 3}")
    other = tmp_path / "other.zarr"
    assert cli("extract", photos, "--out", other, "--backbone", "tiny").code == 0
    line = _refused(cli, tmp_path, "calibrate", own_run, "--target", "error=0.1", "--store", other)
    assert "digit0" in line
    assert "Fit again" in line


def test_corrupt_chunk(cli: Cli, own_store: Path, tmp_path: Path) -> None:
    chunk = own_store / "views/base/features/cls/c/0/0"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    line = _refused(cli, tmp_path, "fit", own_store, "--out", tmp_path / "r")
    assert "c/0/0" in line
    assert "selectkit verify" in line
    result = cli("verify", own_store)
    assert result.code == 1
    assert "c/0/0" in result.out


@pytest.mark.parametrize("name", ["head.json", "calibrator.json", "thresholds.json"])
def test_unknown_artifact_version(cli: Cli, own_run: Path, name: str) -> None:
    document = json.loads((own_run / name).read_text())
    (own_run / name).write_text(json.dumps(document | {"format_version": 99}))
    line = _refused(cli, own_run, "evaluate", own_run)
    assert name in line
    assert "format version 99 is unknown" in line


def test_unknown_store_version(cli: Cli, own_store: Path, tmp_path: Path) -> None:
    path = own_store / "zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["selectkit"]["format_version"] = 99
    path.write_text(json.dumps(document))
    assert "99" in _refused(cli, tmp_path, "fit", own_store, "--out", tmp_path / "r")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fnr=2", "strictly between 0 and 1"),
        ("fnr=0", "strictly between 0 and 1"),
        ("fnr=nan", "strictly between 0 and 1"),
        ("fnr=two", "number"),
        ("recall=0.9", "fnr"),
        ("0.02", "fnr=0.02"),
    ],
)
def test_bad_targets(cli: Cli, own_run: Path, target: str, words: str) -> None:
    assert words in _refused(cli, own_run, "calibrate", own_run, "--target", target)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--delta", "1.5"], "delta"),
        (["--score", "luck"], "'msp', 'margin', 'neg_entropy', 'energy'"),
        (["--calibrator", "magic"], "'temperature', 'vector', 'matrix'"),
        ([], "say what to promise"),
    ],
)
def test_bad_settings(cli: Cli, own_run: Path, flags: list[Any], words: str) -> None:
    target = ["--target", "error=0.1"] if flags else []
    assert words in _refused(cli, own_run, "calibrate", own_run, *target, *flags)


def test_another_backbone_in_the_same_view(cli: Cli, photos: Path, own_store: Path) -> None:
    line = _refused(
        cli, own_store, "extract", photos, "--out", own_store, "--backbone", "tiny", "--size", 64
    )
    assert "size" in line
    assert "--view" in line


def test_another_split_is_leakage(cli: Cli, own_store: Path, own_run: Path, tmp_path: Path) -> None:
    assert cli("split", own_store, "--salt", "other").code == 0
    line = _refused(
        cli, tmp_path, "calibrate", own_run, "--target", "error=0.1", "--store", own_store
    )
    assert "rows the head has seen could now certify it" in line


def test_a_folder_that_is_no_run_is_not_overwritten(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert "no run directory" in _refused(cli, tmp_path, "fit", store, "--out", tmp_path)


def test_unknown_positive_label(cli: Cli, store: Path, tmp_path: Path) -> None:
    line = _refused(cli, tmp_path, "fit", store, "--out", tmp_path / "r", "--positive", "hgih")
    assert "'hgih' is none of the labels ['high', 'low']" in line


def test_a_wrong_label_does_not_redraw_the_split(cli: Cli, own_store: Path) -> None:
    line = _refused(cli, own_store, "split", own_store, "--salt", "x", "--positive", "hgih")
    assert "'hgih' is none of the labels" in line


def test_settings_that_would_be_ignored(cli: Cli, store: Path, tmp_path: Path) -> None:
    line = _refused(cli, tmp_path, "fit", store, "--out", tmp_path / "r", "--select-by", "foo")
    assert "select_by is a setting of trained heads; head linear has none" in line


def test_bad_fractions(cli: Cli, own_store: Path) -> None:
    for fractions in ("0.5,0.5", "a,b,c,d", "0.5,0.5,0.5,0.5", "-1,1,0.5,0.5"):
        assert "fractions" in _refused(cli, own_store, "split", own_store, "--fractions", fractions)


def test_typo_in_a_configuration_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[fit]\nlerning_rate = 1\n")
    line = _refused(cli, tmp_path, "config", "check", file)
    assert "unknown key fit.lerning_rate" in line
    assert "exists already" in _refused(cli, tmp_path, "config", "init", file)
