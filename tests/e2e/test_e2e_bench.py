"""`selectkit bench policies` on the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selectkit.pipeline import RunDirectory
from tests.e2e.conftest import Result

Cli = Callable[..., Result]


@pytest.fixture
def logits(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    z = np.stack([np.zeros(600), rng.normal(-1, 3, 600)], axis=1)
    y = (rng.random(600) < 1 / (1 + np.exp(-z[:, 1]))).astype(np.int64)
    np.savez(tmp_path / "logits.npz", logits=z, labels=y)
    return tmp_path / "logits.npz"


def test_a_run_prints_a_table_for_each_target(cli: Cli, run: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(run, tmp_path / "run")
    done = cli(
        "bench", "policies", mine, "--target", "error=0.4", "--target", "error=0.5",
        "--splits", "20", "--out", tmp_path / "bench",
    )  # fmt: skip
    assert done.code == 0, done.err
    for part in (
        "error=0.4 at 90 % confidence", "error=0.5 at 90 % confidence", "empirical threshold",
        "one threshold", "with confidence", "20 random re-splits", "bench:",
    ):  # fmt: skip
        assert part in done.out
    assert "Choose on val_select" in done.err
    names = {"policies.json", "policies.md", "policies.svg", "policies.png"}
    assert {p.name for p in (tmp_path / "bench").iterdir()} == names


def test_a_store_prints_the_table_of_its_run(
    cli: Cli, store: Path, run: Path, tmp_path: Path
) -> None:
    mine, head = shutil.copytree(run, tmp_path / "run"), RunDirectory.open(run).head.name
    asked = ["--target", "error=0.4", "--target", "fnr=0.5", "--splits", "20"]
    known = cli("bench", "policies", mine, *asked, "--json")
    done = cli("bench", "policies", store, *asked, "--head", head, "--json")
    assert (done.code, known.code) == (0, 0), done.err

    def standings(text: str) -> list[dict[str, object]]:
        return [s | {"milliseconds": 0} for s in json.loads(text)["standings"]]

    assert standings(done.out) == standings(known.out)
    page = cli("bench", "policies", store, *asked, "--head", head, "--view", "base",
               "--out", tmp_path / "bench")  # fmt: skip
    assert page.code == 0, page.err
    assert "one threshold" in page.out
    said = f"val_calib and val_test of {store} by {head} of view base, positive: low"
    assert json.loads((tmp_path / "bench/policies.json").read_text())["source"] == said


def test_mistakes_about_a_store_are_one_line(
    cli: Cli, photos: Path, store: Path, run: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.zarr"
    assert cli("extract", photos, "--out", bare, "--backbone", "tiny").code == 0
    for arguments, part in (
        ((bare,), f"holds no logits of a head: `selectkit fit {bare} --out RUN` fits one"),
        ((bare.with_name("no.zarr"),), "run `selectkit extract` first"),
        ((store, "--head", "forest"), "no logits of --head forest, but of "),
        ((store, "--stages", run), "--stages names runs"),
        ((store, "--store", store), "is a feature store itself"),
    ):
        done = cli("bench", "policies", *arguments, "--target", "error=0.4")
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert part in done.err


def test_programs_read_json(cli: Cli, logits: Path, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text('[bench]\ntarget = ["error=0.15"]\nsplits = 25\n')
    done = cli("bench", "policies", logits, "--config", config, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["splits"], found["rows"], found["kept"]) == (25, 600, True)
    assert {s["target"] for s in found["standings"]} == {"error=0.15"}
    flags = cli("bench", "policies", logits, "--config", config, "--json", "--target", "fnr=0.2",
                "--cost", "miss=20,false_alarm=2,defer=1")  # fmt: skip
    assert {s["target"] for s in json.loads(flags.out)["standings"]} == {"fnr=0.2"}
    assert all(s["cost"] > 0 for s in json.loads(flags.out)["standings"])


def test_mistakes_are_one_line(cli: Cli, logits: Path, tmp_path: Path) -> None:
    for arguments, part in (
        ((logits,), "no target"),
        ((logits, "--target", "error"), "expected RISK=RATE"),
        ((logits, "--target", "error=0.1", "--out", logits), "is a file; name a folder"),
        ((tmp_path / "none", "--target", "error=0.1"), "no run at"),
        ((tmp_path / "none.npz", "--target", "error=0.1"), "is missing"),
    ):
        done = cli("bench", "policies", *arguments)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert part in done.err


def test_a_cascade_takes_part_where_its_runs_are_named(cli: Cli, run: Path, tmp_path: Path) -> None:
    first, second = (shutil.copytree(run, tmp_path / name) for name in ("small", "large"))
    asked = ["--target", "error=0.5", "--splits", "20", "--stages", second, "--stage-costs", "1,4"]
    done = cli("bench", "policies", first, *asked, "--human-cost", "50", "--xi", "0.7", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["stages"]["names"] == ["small", "large"]
    assert {"cascade", "large alone"} <= {s["policy"] for s in found["standings"]}
    assert all(s["cost"] > 0 for s in found["standings"])
    refused = cli("bench", "policies", first, *asked, "--cost", "error=5,defer=1")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--cost is for policies of one run" in refused.err
