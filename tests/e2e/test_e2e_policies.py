"""Every policy from the command line: calibrated, evaluated, reported; mistakes in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.conftest import Result

Cli = Callable[..., Result]

QUESTIONS = {
    "softmax": ["--target", "error=0.4,deferral=0.9"],
    "two_sided": ["--target", "fnr=0.7,fpr=0.4"],
    "per_class": ["--target", "error=0.5"],
    "gate": ["--target", "error=0.4"],
    "scrc": ["--target", "error=0.4", "--xi", "0.7", "--sets", "cumulative"],
    "auto": ["--target", "error=0.4"],
}


@pytest.fixture(scope="module")
def made(photos: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store made of a manifest, a run with a gate and a linear run."""
    folder = tmp_path_factory.mktemp("policies")
    files = sorted(photos.rglob("*.png"))
    pd.DataFrame({
        "path": [str(f) for f in files],
        "label": [f.parent.name for f in files],
        "camera": ["north" if int(f.stem) % 2 else "south" for f in files],
    }).to_csv(folder / "labels.csv", index=False)  # fmt: skip
    store = folder / "s.zarr"
    done = cli("extract", folder / "labels.csv", "--out", store, "--backbone", "tiny")
    assert done.code == 0, done.err
    training = ["--head", "three", "--epochs", 12, "--learning-rate", 0.01, "--hidden", 32]
    for name, more in (("gated", training), ("linear", [])):
        done = cli("fit", store, "--out", folder / name, "--positive", "high", *more)
        assert done.code == 0, done.err
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "linear", tmp_path / "linear")
    return shutil.copytree(made / "gated", tmp_path / "gated")


@pytest.mark.parametrize("policy", QUESTIONS)
def test_a_policy_is_calibrated_evaluated_and_reported(cli: Cli, mine: Path, policy: str) -> None:
    done = cli("calibrate", mine, "--policy", policy, *QUESTIONS[policy], "--json")
    assert done.code == 0, done.out + done.err
    found = json.loads(done.out)
    assert found["feasible"]
    evaluated = cli("evaluate", mine, "--json", "--replicates", 100, "--thumbnails", 0)
    assert evaluated.code == 0, evaluated.err
    measured = json.loads(evaluated.out)
    assert measured["certificate"] == found["promises"]
    assert 0 < measured["metrics"]["operating"]["coverage"]["value"] <= 1
    page = (mine / "report.html").read_text()
    assert "<svg" in page
    text = cli("report", mine, "--format", "md", "--out", mine.parent / "md")
    assert text.code == 0, text.err


def test_auto_tries_a_cascade_where_its_runs_are_named(cli: Cli, mine: Path) -> None:
    later = mine.parent / "linear"
    assert cli("calibrate", later, "--target", "coverage=0.5").code == 0
    asked = ["--policy", "auto", "--target", "error=0.25", "--stages", later]
    done = cli("calibrate", mine, *asked, "--stage-costs", "1,4", "--human-cost", "50", "--json")
    assert done.code == 0, done.out + done.err
    entry = json.loads(done.out)["policies"][-1]
    assert entry["policy"] == "cascade"
    assert entry["cost"] > entry["computing"] >= 1
    assert cli("evaluate", mine, "--replicates", 100, "--thumbnails", 0).code == 0
    refused = cli("calibrate", mine, *asked, "--cost", "error=5,defer=1")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--stage-costs or --view-seconds" in refused.err


def test_costs_and_groups_on_the_command_line(cli: Cli, mine: Path) -> None:
    done = cli("calibrate", mine, "--cost", "miss=5,false_alarm=2,defer=1", "--policy", "two_sided")
    assert done.code == 0, done.out + done.err
    assert "->" in done.out
    assert "the expected cost of an image is at most" in done.out.replace("\n", " ")
    done = cli("calibrate", mine, "--target", "error=0.4", "--per-group", "camera", "--json")
    assert done.code == 0, done.out + done.err
    assert [c["about"] for c in json.loads(done.out)["policy"]["certificates"]] == [
        "group north",
        "group south",
    ]
    assert cli("evaluate", mine, "--replicates", 100, "--thumbnails", 0).code == 0


def test_a_cascade_on_the_command_line(cli: Cli, mine: Path) -> None:
    later = mine.parent / "linear"
    assert cli("calibrate", later, "--target", "coverage=0.8").code == 0
    asked = ["--policy", "cascade", "--stages", later, "--target", "error=0.3"]
    done = cli("calibrate", mine, *asked, "--stage-costs", "1,4", "--human-cost", 50)
    assert done.code == 0, done.out + done.err
    assert "over all" in done.out
    assert cli("evaluate", mine, "--replicates", 100, "--thumbnails", 0).code == 0
    assert (mine / "config.toml").read_text().count('policy = "cascade"') == 1
    again = cli("calibrate", mine, "--config", mine / "config.toml")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "nonsense", "--target", "error=0.1"], "Input should be 'softmax'"),
        (["--cost", "miss=5"], "--cost miss=5"),
        (["--cost", "error=many,defer=1"], "is not a number"),
        (["--target", "fnr=0.1,fnr=0.2"], "two rates"),
        (["--target", "error=0.1", "--xi", "0.5"], "--xi belongs to --policy scrc"),
        (["--target", "error=0.1", "--policy", "scrc", "--xi", "2"], "xi"),
        (["--target", "error=0.1", "--per-group", "weather"], "no column 'weather'"),
        (["--target", "error=0.1", "--policy", "cascade"], "--stages"),
        (["--target", "error=0.1", "--policy", "cascade", "--stages", "nowhere"], "no run at"),
        (["--target", "error=0.1", "--policy", "cascade", "--stages", "LINEAR",
          "--stage-costs", "cheap,dear"], "one number for each stage"),
        (["--target", "error=0.1", "--policy", "cascade", "--stages", "LINEAR",
          "--view-seconds", "base"], "VIEW=SECONDS"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_changes_nothing(
    cli: Cli, mine: Path, arguments: list[str], message: str
) -> None:
    before = {p.name: p.read_bytes() for p in mine.iterdir() if p.is_file()}
    done = cli("calibrate", mine, *(str(mine.parent / "linear") if a == "LINEAR" else a
                                    for a in arguments))  # fmt: skip
    assert done.code == 2, done
    (line,) = done.err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert {p.name: p.read_bytes() for p in mine.iterdir() if p.is_file()} == before
