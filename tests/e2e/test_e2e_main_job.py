"""Extract, fit, calibrate, evaluate: the command line on real images."""

import csv
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import selectkit as sk
from selectkit import schemas
from selectkit.cache import FeatureStore
from selectkit.errors import ConfigError
from selectkit.pipeline import RunDirectory
from tests.e2e.conftest import Result

Cli = Callable[..., Result]


def _json(result: Result) -> Any:
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_the_whole_job(cli: Cli, run: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    said = cli("evaluate", mine)
    assert said.code == 0, said.err
    assert "val_test" in said.out
    document = json.loads((mine / "metrics.json").read_text())
    schemas.validate(document, "metrics.json")
    with (mine / "metrics.csv").open() as file:
        table = {(r["section"], r["metric"]): r["value"] for r in csv.DictReader(file)}
    for section, names in document["metrics"].items():
        for name, estimate in names.items():
            written = table[section, name]
            expected = estimate["value"]
            assert written == "" if expected is None else float(written) == expected
    page = (mine / "report.html").read_text()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert page.count("<script") == 2  # the explorer and its data
    events = [json.loads(line)["event"] for line in (mine / "log.jsonl").read_text().splitlines()]
    assert events == ["fit", "calibrate", "evaluate"]


def test_figures_equal_an_independent_computation(cli: Cli, run: Path, tmp_path: Path) -> None:
    """From the store and the artifacts alone, in plain numpy."""
    mine = shutil.copytree(run, tmp_path / "run")
    document = _json(cli("evaluate", mine, "--json"))
    opened = RunDirectory.open(mine)
    head = opened.head
    test = opened.store().read("base", "val_test")
    temperature = json.loads((mine / "calibrator.json").read_text())["parameters"]["temperature"]
    threshold = float(json.loads((mine / "thresholds.json").read_text())["threshold"])
    z = np.float32(head.head.logits(test.x)).astype(float) / temperature
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    wrong = p.argmax(1) != test.y
    accepted = p.max(1) >= threshold
    metrics = document["metrics"]
    assert metrics["operating"]["coverage"]["value"] == pytest.approx(accepted.mean(), abs=1e-12)
    assert metrics["operating"]["error"]["value"] == pytest.approx(
        wrong[accepted].mean(), abs=1e-12
    )
    assert metrics["all"]["accuracy"]["value"] == pytest.approx(1 - wrong.mean(), abs=1e-12)
    missed = (test.y == 1) & wrong & accepted
    assert metrics["operating"]["miss_rate"]["value"] == pytest.approx(
        missed.sum() / (test.y == 1).sum(), abs=1e-12
    )


def test_evaluating_twice_gives_the_same_bytes(cli: Cli, run: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    assert cli("evaluate", mine).code == 0
    first = (mine / "metrics.json").read_bytes()
    assert cli("evaluate", mine).code == 0
    assert (mine / "metrics.json").read_bytes() == first


def test_an_infeasible_target_is_an_answer(cli: Cli, store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("fit", store, "--out", run).code == 0
    said = cli("calibrate", run, "--target", "fnr=0.02")
    assert said.code == 1
    assert said.out.startswith("INFEASIBLE: fnr <= 0.02 with confidence 90 %")
    needs = re.search(r"needs at least (\d+) positives", said.out)
    assert needs is not None
    assert int(needs[1]) >= 114
    assert "defers everything" in said.out
    answer = json.loads(cli("calibrate", run, "--target", "fnr=0.02", "--json").out)
    assert answer["feasible"] is False
    document = _json(cli("evaluate", run, "--json"))
    assert document["metrics"]["operating"]["coverage"]["value"] == 0
    assert "INFEASIBLE" in (run / "report.html").read_text()


def test_an_infeasible_wish_does_not_cost_a_certified_policy(
    cli: Cli, run: Path, tmp_path: Path
) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    before = (mine / "thresholds.json").read_bytes()
    said = cli("calibrate", mine, "--target", "error=0.001")
    assert said.code == 1
    assert "keeps the policy it had" in said.out
    assert (mine / "thresholds.json").read_bytes() == before
    again = cli("calibrate", mine, "--target", "error=0.3")
    assert "1 earlier policy of this run was certified on the same images" in again.err


def test_the_configuration_says_what_was_used_and_nothing_else(run: Path) -> None:
    tables = tomllib.loads((run / "config.toml").read_text())
    assert set(tables) == {"store", "fit", "calibrate"}
    assert tables["calibrate"]["target"] == "error=0.2"


def test_regrouping_the_images_is_leakage(cli: Cli, photos: Path, tmp_path: Path) -> None:
    """The same images, grouped after the fit: rows of train move to val_calib and val_test."""
    paths = sorted(photos.rglob("*.png"))
    lines = [f"{p},{p.parent.name},site{i % 40}" for i, p in enumerate(paths)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,label,site\n" + "\n".join(lines) + "\n")
    stores = {}
    for name, flags in {"alone": [], "grouped": ["--group", "site"]}.items():
        stores[name] = tmp_path / f"{name}.zarr"
        tiny = ["--backbone", "tiny", "--out", stores[name]]
        assert cli("extract", manifest, *flags, *tiny).code == 0
    run = tmp_path / "run"
    assert cli("fit", stores["alone"], "--out", run).code == 0
    refused = cli("calibrate", run, "--target", "error=0.2", "--store", stores["grouped"])
    assert refused.code == 2
    assert "were fitted on" in refused.err
    assert cli("calibrate", run, "--target", "error=0.2").code in (0, 1)


def test_a_coverage_target_promises_nothing(cli: Cli, run: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    said = cli("calibrate", mine, "--target", "coverage=0.8")
    assert said.code == 0
    assert "no guarantee" in said.out.lower()
    policy = json.loads((mine / "thresholds.json").read_text())
    assert policy["certificate"]["kind"] == "none"
    assert policy["certificate"]["coverage"] >= 0.8


def test_calibrating_again_drops_the_old_report(cli: Cli, run: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    assert cli("evaluate", mine).code == 0
    assert cli("calibrate", mine, "--target", "error=0.2").code == 0
    assert not (mine / "report.html").exists()
    assert not (mine / "metrics.json").exists()


def test_an_mlp_head_is_selected_and_reproducible(cli: Cli, store: Path, tmp_path: Path) -> None:
    flags = ["--head", "mlp", "--hidden", 32, "--epochs", 5, "--select-by", "coverage@fnr=0.1"]
    for name in ("a", "b"):
        assert cli("fit", store, "--out", tmp_path / name, *flags).code == 0
    a, b = ((tmp_path / n / "head.safetensors").read_bytes() for n in ("a", "b"))
    assert a == b


def test_the_verbs_are_functions_of_the_package(store: Path, tmp_path: Path) -> None:
    verb: Any = sk.calibrate  # a room that can be called; type checkers see the room
    fitted = sk.fit(store, out=tmp_path / "run")
    assert fitted.classes == ("high", "low")
    answer = verb(tmp_path / "run", target="error=0.2", delta=0.2)
    assert answer.feasible
    evaluation = sk.evaluate(tmp_path / "run", replicates=100)
    assert 0 < evaluation.document["metrics"]["operating"]["coverage"]["value"] <= 1
    assert sk.split(store).positive == "low"
    with pytest.raises(ConfigError, match="unknown key taget"):
        verb(tmp_path / "run", taget="error=0.2")


def test_inspect_split_and_verify(cli: Cli, store: Path) -> None:
    info = _json(cli("inspect", store, "--json"))
    assert info["rows"] == 600
    assert cli("inspect", store).code == 0
    sizes = _json(cli("split", store, "--json"))["counts"]
    assert sum(c["labelled"] for c in sizes.values()) == 600
    said = cli("split", store)
    assert "114" in said.out
    assert _json(cli("verify", store, "--json"))["ok"] is True


def test_damaged_logits_are_computed_again(
    cli: Cli, run: Path, store: Path, tmp_path: Path
) -> None:
    own_store, own_run = tmp_path / "s.zarr", tmp_path / "run"
    shutil.copytree(store, own_store)
    shutil.copytree(run, own_run)
    name = RunDirectory.open(own_run).head.name
    chunk = own_store / f"views/base/logits/{name}/c/0/0"
    good = chunk.read_bytes()
    chunk.write_bytes(bytes(b ^ 0x80 for b in good))
    for _ in range(2):
        document = _json(cli("evaluate", own_run, "--store", own_store, "--json"))
        assert document["metrics"]["all"]["accuracy"]["value"] > 0.8
        assert chunk.read_bytes() == good
        chunk.unlink()


def test_a_target_that_everything_meets(cli: Cli, run: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    said = cli("calibrate", mine, "--target", "error=0.9")
    assert "accept everything: 100 % of val_calib" in said.out
    document = _json(cli("evaluate", mine, "--json"))
    assert document["metrics"]["operating"]["coverage"]["value"] == 1
    assert "every image accepted" in (mine / "report.html").read_text()


def test_an_unfinished_store_is_named(cli: Cli, photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    tiny = ["--backbone", "tiny", "--rows-per-shard", 256, "--out", store]
    assert cli("extract", photos, *tiny).code == 0
    (store / "commits/base/00002.json").unlink()
    said = cli("fit", store, "--out", tmp_path / "run")
    assert said.code == 0
    assert "holds 512 of 600 rows; run extract again" in said.err


def test_help_shows_defaults(cli: Cli) -> None:
    assert "(default: dinov3-s)" in " ".join(cli("extract", "--help").out.split())


def test_every_command_has_examples(cli: Cli) -> None:
    for verb in ("quickstart", "extract", "split", "fit", "calibrate", "evaluate", "inspect",
                 "verify", "doctor"):  # fmt: skip
        said = cli(verb, "--help")
        assert said.code == 0
        assert f"selectkit {verb}" in said.out


def test_road_work_signs(cli: Cli, shared_data: Path, tmp_path: Path) -> None:
    """Binary, rare positive, several frames per track: groups never straddle splits."""
    store, run = tmp_path / "g.zarr", tmp_path / "run"
    source = shared_data / "gtsrb_train/labels.csv"
    columns = ["--path", "file", "--label", "roadwork", "--group", "track"]
    done = cli("extract", source, *columns, "--backbone", "tiny", "--out", store)
    assert done.code == 0, done.err
    opened = FeatureStore.open(store)
    tracks = {s: set(opened.read("base", s).groups) for s in
              ("train", "val_select", "val_calib", "val_test")}  # fmt: skip
    assert sum(map(len, tracks.values())) == len(set().union(*tracks.values()))
    assert cli("fit", store, "--out", run).code == 0
    said = cli("calibrate", run, "--target", "fnr=0.05")
    assert said.code == 1
    assert "needs at least 45 positives" in said.out
    assert cli("evaluate", run).code == 0
    assert (run / "report.html").is_file()


def test_a_certificate_on_tracks_with_a_dinov3_s_checkpoint(
    cli: Cli, shared_data: Path, tmp_path: Path
) -> None:
    """21 million random parameters at 64 pixels, real signs, several frames per track."""
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    config = DINOv3ViTConfig(num_register_tokens=4)  # its defaults are ViT-S/16
    DINOv3ViTModel(config).save_pretrained(tmp_path / "dinov3-s")
    table = pd.read_csv(shared_data / "gtsrb_train/labels.csv")
    table["id"] = table["file"]  # which image stands for its track follows from the id
    table["file"] = str(shared_data / "gtsrb_train") + "/" + table["file"]
    some = pd.concat([table[table.roadwork == 1], table[table.roadwork == 0][::4]])
    some.to_csv(tmp_path / "labels.csv", index=False)
    store, run = tmp_path / "g.zarr", tmp_path / "run"
    done = cli(
        "extract", tmp_path / "labels.csv", "--path", "file", "--label", "roadwork", "--group",
        "track", "--backbone", tmp_path / "dinov3-s", "--size", 64, "--out", store,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert cli("fit", store, "--out", run).code == 0
    said = cli("calibrate", run, "--target", "error=0.4")
    assert said.code == 0, said.out
    assert "counting one image of each group" in said.out
    policy = json.loads((run / "thresholds.json").read_text())["certificate"]
    calib = FeatureStore.open(store).read("base", "val_calib")
    assert policy["n"] == len(set(calib.groups)) < len(calib.y)
    assert cli("evaluate", run).code == 0


def test_ten_classes(cli: Cli, shared_data: Path, tmp_path: Path) -> None:
    store, run = tmp_path / "c.zarr", tmp_path / "run"
    source = shared_data / "cifar10_jpg/labels.csv"
    columns = ["--path", "file", "--label", "class_name"]
    assert cli("extract", source, *columns, "--backbone", "tiny", "--out", store).code == 0
    assert cli("fit", store, "--out", run, "--positive", "truck").code == 0
    said = cli("calibrate", run, "--target", "miss_rate=0.1")
    assert said.code in (0, 1)
    assert cli("calibrate", run, "--target", "coverage=0.5").code == 0
    document = _json(cli("evaluate", run, "--json"))
    assert document["metrics"]["operating"]["coverage"]["value"] == pytest.approx(0.5, abs=0.1)
