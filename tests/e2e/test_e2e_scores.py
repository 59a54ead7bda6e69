"""Scores from the command line: compared, calibrated, kept in the run, evaluated."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit import schemas
from selectkit.errors import LeakageError
from selectkit.heads import ThreeHead
from selectkit.pipeline import RunDirectory
from selectkit.pipeline.logits import gate_of
from selectkit.pipeline.scores import calibrated_gate, fitted_on_train, train_rows
from selectkit.policies import FITTED, NAMES, SCORES, SoftmaxPolicy
from selectkit.policies.scores import Gate
from tests.e2e.conftest import Result, run_cli

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def gated(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose head has a trained gate."""
    path = tmp_path_factory.mktemp("gated") / "run"
    done = run_cli("fit", store, "--out", path, "--head", "three", "--hidden", 16, "--epochs", 8)
    assert done.code == 0, done.err
    return path


@pytest.fixture
def mine(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture
def my_gated(gated: Path, tmp_path: Path) -> Path:
    return shutil.copytree(gated, tmp_path / "gated")


def _json(result: Result) -> Any:
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_scores_are_compared_on_val_select(cli: Cli, mine: Path) -> None:
    before = {p.name: p.read_bytes() for p in mine.iterdir() if p.name != "log.jsonl"}
    found = _json(cli("compare", "--scores", mine, "--json", "--replicates", 200))
    assert found["split"] == "val_select"
    assert {row["score"] for row in found["scores"]} == {*SCORES, *FITTED}
    areas = [row["augrc"]["value"] for row in found["scores"]]
    assert areas == sorted(areas)
    by_name = {row["score"]: row for row in found["scores"]}
    assert by_name["msp"]["verdict"] == "reference"
    assert by_name["margin"]["verdict"] == "ranks as msp"  # two classes, a temperature
    assert by_name["residual"]["difference"]["value"] > 0
    assert {p.name: p.read_bytes() for p in mine.iterdir() if p.name != "log.jsonl"} == before
    assert json.loads((mine / "log.jsonl").read_text().splitlines()[-1])["event"] == "compare"
    text = cli("compare", mine, "--scores", "--replicates", 200)
    assert text.code == 0
    assert f"next: selectkit calibrate {mine} --score {found['recommended']}" in text.out
    assert "its figures flatter what wins" in text.err


def test_the_reported_figures_are_those_of_the_metrics(cli: Cli, mine: Path) -> None:
    from selectkit import metrics

    found = _json(cli("compare", "--scores", mine, "--json", "--split", "val_test",
                      "--replicates", 200))  # fmt: skip
    opened = RunDirectory.open(mine)
    test, outputs = opened.outputs(opened.store(), "val_test", opened.calibrator()[0])
    wrong = outputs.prediction != test.y
    assert (found["n"], found["errors"]) == (len(wrong), int(wrong.sum()))
    energy = next(row for row in found["scores"] if row["score"] == "energy")
    assert energy["augrc"]["value"] == pytest.approx(
        metrics.augrc(SCORES["energy"](outputs), wrong), abs=1e-12
    )
    assert any("can no longer be evaluated" in note for note in found["warnings"])


def test_before_calibrate_a_temperature_is_used(cli: Cli, store: Path, tmp_path: Path) -> None:
    assert cli("fit", store, "--out", tmp_path / "run").code == 0
    found = _json(cli("compare", "--scores", tmp_path / "run", "--json", "--replicates", 100))
    assert found["n"] > 0


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_chart_is_drawn_where_it_was_asked(
    cli: Cli, mine: Path, tmp_path: Path, suffix: str
) -> None:
    drawn = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.{suffix}"
        done = cli("compare", mine, "--scores", "--replicates", 100, "--out", path)
        assert done.code == 0, done.err
        assert f"chart: {path}" in done.out
        drawn.append(path.read_bytes())
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith(b"<svg xmlns" if suffix == "svg" else b"\x89PNG")
    if suffix == "svg":
        assert b"mahalanobis" in drawn[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to compare"),
        (("--scores", "--out", "x.pdf"), "a chart is written as .svg or .png"),
        (("--scores", "--out", "no/such/x.svg"), "in a folder that exists"),
        (("--scores", "--split", "val_calib"), "split = 'val_calib': Input should be"),
        (("--scores", "--replicates", "5"), "replicates = 5"),
    ],
)
def test_unusable_comparisons_are_one_line(
    cli: Cli, mine: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = cli("compare", mine, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("score", ["max_logit", *FITTED])
def test_every_score_can_decide(cli: Cli, mine: Path, score: str) -> None:
    said = _json(cli("calibrate", mine, "--target", "coverage=0.6", "--score", score, "--json"))
    assert said["policy"]["score"] == score
    policy, document = RunDirectory.open(mine).policy()
    assert isinstance(policy, SoftmaxPolicy)
    schemas.validate(document, "thresholds.json")
    assert (mine / "score.json").is_file() == (score in FITTED)
    assert (mine / "score.safetensors").is_file() == (score in FITTED)
    opened = RunDirectory.open(mine)
    store, calibrator = opened.store(), opened.calibrator()[0]
    calib, outputs = opened.outputs(store, "val_calib", calibrator)
    assert policy.decide(outputs).accepted.mean() == pytest.approx(
        said["policy"]["certificate"]["coverage"]
    )
    alone = policy.decide(outputs.take(np.array([3]))).score[0]
    assert alone == policy.decide(outputs).score[3]
    assert len(calib.y) == len(outputs)
    evaluated = _json(cli("evaluate", mine, "--json", "--replicates", 100, "--thumbnails", 0))
    assert 0.3 < evaluated["metrics"]["operating"]["coverage"]["value"] < 0.9


def test_a_plain_score_takes_the_fitted_one_away(cli: Cli, mine: Path) -> None:
    assert cli("calibrate", mine, "--target", "coverage=0.6", "--score", "vim").code == 0
    assert (mine / "score.json").is_file()
    assert cli("calibrate", mine, "--target", "coverage=0.6").code == 0
    assert not (mine / "score.json").exists()
    assert not (mine / "score.safetensors").exists()


@pytest.mark.parametrize("damage", ["missing", "another", "weights"])
def test_a_damaged_score_is_refused_in_one_line(cli: Cli, mine: Path, damage: str) -> None:
    for score in ("residual", "knn"):
        assert cli("calibrate", mine, "--target", "coverage=0.6", "--score", score).code == 0
        if score == "residual":
            shutil.copy(mine / "score.json", mine / "old.json")
            shutil.copy(mine / "score.safetensors", mine / "old.safetensors")
    match damage:
        case "missing":
            (mine / "score.json").unlink()
        case "another":
            (mine / "old.json").replace(mine / "score.json")
            (mine / "old.safetensors").replace(mine / "score.safetensors")
        case _:
            (mine / "score.safetensors").write_bytes(b"no")
    done = cli("evaluate", mine)
    assert done.code == 2
    assert "score" in done.err
    assert done.err.count("\n") == 1


def test_a_gate_is_calibrated_compared_and_decides(cli: Cli, my_gated: Path) -> None:
    found = _json(cli("compare", "--scores", my_gated, "--json", "--replicates", 200))
    assert {row["score"] for row in found["scores"]} == set(NAMES)
    text = cli("compare", "--scores", my_gated, "--replicates", 200).out
    gate = next(row for row in found["scores"] if row["score"] == "gate")
    said = {"better": "the trained gate beats msp", "worse": "the trained gate is worse than msp"}
    assert said.get(gate["verdict"], "the trained gate does not beat msp") in text
    assert cli("calibrate", my_gated, "--target", "coverage=0.6", "--score", "gate").code == 0
    document = json.loads((my_gated / "gateparams.json").read_text())
    schemas.validate(document, "gateparams.json")
    assert document["parameters"]["slope"] > 0
    policy, _ = RunDirectory.open(my_gated).policy()
    assert isinstance(policy, SoftmaxPolicy)
    assert isinstance(policy.own, Gate)
    assert cli("evaluate", my_gated, "--replicates", 100, "--thumbnails", 0).code == 0
    document["parameters"]["slope"] = 2.0
    (my_gated / "gateparams.json").write_text(json.dumps(document))
    done = cli("evaluate", my_gated)
    assert done.code == 2
    assert "gateparams.json is not the score of the policy" in done.err


def test_gate_logits_are_kept_in_the_store(my_gated: Path, store: Path) -> None:
    opened = RunDirectory.open(my_gated)
    cache = opened.store()
    z = gate_of(opened.head, cache)
    assert z is not None
    assert f"{opened.head.name}-gate" in cache.heads("base")
    rows = cache.read("base", "val_calib")
    head = opened.head.head
    assert isinstance(head, ThreeHead)
    np.testing.assert_array_equal(z[rows.rows], np.float32(head.gate_logits(rows.x)))


def test_the_calibrated_gate_is_the_chance_of_being_right(my_gated: Path) -> None:
    opened = RunDirectory.open(my_gated)
    select, outputs = opened.outputs(opened.store(), "val_select")
    gate, notes = calibrated_gate(select, outputs)
    assert notes == ()
    right = 1 / (1 + np.exp(-gate(outputs)))
    accuracy = (outputs.prediction == select.y).mean()
    assert right.mean() == pytest.approx(accuracy, abs=0.03)  # Platt's targets pull a little


def test_a_head_without_gate_says_so(cli: Cli, mine: Path) -> None:
    done = cli("calibrate", mine, "--target", "coverage=0.6", "--score", "gate")
    assert done.code == 2
    assert "need a head with a trained gate; this run's head has none" in done.err


def test_only_the_right_rows_are_fitted_on(my_gated: Path) -> None:
    opened = RunDirectory.open(my_gated)
    store = opened.store()
    _, train = train_rows(opened, store)
    calib, outputs = opened.outputs(store, "val_calib")
    with pytest.raises(LeakageError, match="fitted on train only; got the rows of val_calib"):
        fitted_on_train("knn", calib, train)
    with pytest.raises(LeakageError, match="calibrated on val_select; got the rows of val_calib"):
        calibrated_gate(calib, outputs)
