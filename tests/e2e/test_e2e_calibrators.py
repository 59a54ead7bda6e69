"""`calibrate --calibrator auto`: what was tried, for programs and for people."""

import json
import re
import shutil
from pathlib import Path

import pytest

from selectkit.calibrate import CALIBRATORS
from tests.e2e.conftest import run_cli


@pytest.fixture
def fitted(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_auto_tells_programs_what_was_tried_and_chosen(fitted: Path) -> None:
    done = run_cli("calibrate", fitted, "--target", "error=0.2", "--calibrator", "auto", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    tried = answer["candidates"]
    assert {c["method"] for c in tried} == set(CALIBRATORS) - {"vector", "matrix", "dirichlet"}
    likelihoods = [c["nll"] for c in tried if c["nll"] is not None]
    assert len(likelihoods) >= 3
    assert likelihoods == sorted(likelihoods)
    assert [c["nll"] for c in tried[: len(likelihoods)]] == likelihoods
    assert all(c["reason"] for c in tried if c["nll"] is None)
    assert answer["calibrator"]["method"] == tried[0]["method"]
    kept = json.loads((fitted / "calibrator.json").read_text())
    assert kept["method"] == tried[0]["method"]
    logged = [json.loads(line) for line in (fitted / "log.jsonl").read_text().splitlines()]
    assert logged[-1]["candidates"] == tried


def test_auto_shows_people_the_same_table(fitted: Path) -> None:
    asked = ("calibrate", fitted, "--target", "error=0.2", "--calibrator", "auto")
    tried = json.loads(run_cli(*asked, "--json").out)["candidates"]
    shown = run_cli(*asked).out.splitlines()
    assert shown[0] == (
        "calibrators by cross-validated log loss on val_select (nats; lower is better):"
    )
    for line, candidate in zip(shown[1:], tried, strict=False):
        words = line.split()
        assert words[0] == candidate["method"]
        if candidate["nll"] is None:
            assert words[1:3] == ["not", "fitted:"]
        else:
            assert words[1] == f"{candidate['nll']:.4f}"
    assert shown[1].endswith("chosen")
    behind = rf"\+{tried[1]['nll'] - tried[0]['nll']:.4f} ± {tried[1]['standard_error']:.4f}"
    assert re.search(behind, shown[2])
    assert sum("chosen" in line for line in shown) == 1


def test_a_calibrator_asked_for_by_name_was_not_chosen_among_others(fitted: Path) -> None:
    asked = ("calibrate", fitted, "--target", "error=0.2", "--calibrator", "platt")
    answer = json.loads(run_cli(*asked, "--json").out)
    assert (answer["calibrator"]["method"], answer["candidates"]) == ("platt", [])
    assert "cross-validated" not in run_cli(*asked).out
