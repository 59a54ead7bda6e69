"""What `calibrate` and `evaluate` make of kept runs: a change of any rule's result is seen."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden.golden_runs import EXPECTED, QUESTIONS, came_of, prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("golden runs")
    prepare(place)
    return place


def near(expected: Any) -> Any:
    """The same with numbers that may differ by what machines round differently."""
    if isinstance(expected, dict):
        return {key: near(value) for key, value in expected.items()}
    if isinstance(expected, list):
        return [near(value) for value in expected]
    if isinstance(expected, float):
        return pytest.approx(expected, rel=1e-5, abs=1e-7)
    return expected


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_kept_run_is_decided_and_certified_as_before(name: str, folder: Path) -> None:
    before = json.loads(EXPECTED.read_text())[name]
    now = json.loads(json.dumps(came_of(name, folder)))
    for split in ("val_calib", "val_test"):
        for what, said in before[split].items():
            assert now[split][what] == said, (split, what)
    assert now == near(before)


def test_every_kind_is_kept_and_decides_something() -> None:
    before = json.loads(EXPECTED.read_text())
    assert set(before) == set(QUESTIONS)
    accepting = {name for name, said in before.items() if "1" in said["val_test"]["accepted"]}
    assert set(before) - accepting == {"softmax, infeasible"}
    deferring = {name for name, said in before.items() if "0" in said["val_test"]["accepted"]}
    assert deferring == set(before)
