"""The calibrator of a run: chosen by cross-validation over groups, shown, logged, read back."""

from pathlib import Path

import pytest

from selectkit.calibrate import CALIBRATORS, Isotonic
from selectkit.pipeline import RunDirectory, calibrate, fit
from tests.unit.pipeline.pipeline_samples import blobs, store_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrators")
    store = store_of(folder / "store.zarr", *blobs(2500, k=3, distance=0.6))
    fit(str(store.path), out=folder / "run")
    return folder / "run"


def test_auto_shows_keeps_and_logs_the_table(run: Path) -> None:
    answer = calibrate(run, target="coverage=0.5", calibrator="auto")
    document = answer.to_dict()
    tried = [candidate["method"] for candidate in document["candidates"]]
    assert sorted(tried) == sorted(set(CALIBRATORS) - {"platt", "beta"})
    assert document["calibrator"]["method"] == tried[0]
    assert answer.lines()[0].startswith("calibrators by cross-validated log loss on val_select")
    assert answer.lines()[1].split()[::2] == [tried[0], "chosen"]
    opened = RunDirectory.open(run)
    assert opened.calibrator()[0] == answer.calibrator
    assert list(opened.events())[-1]["candidates"] == document["candidates"]


@pytest.mark.parametrize("name", ["vector", "dirichlet", "none"])
def test_every_calibrator_can_be_asked_for_by_name(run: Path, name: str) -> None:
    answer = calibrate(run, target="coverage=0.5", calibrator=name)
    assert answer.to_dict()["calibrator"]["method"] == name
    assert answer.to_dict()["candidates"] == []
    assert RunDirectory.open(run).calibrator()[0] == answer.calibrator


def test_ties_are_announced(run: Path) -> None:
    answer = calibrate(run, target="coverage=0.5", calibrator="isotonic")
    assert isinstance(answer.calibrator, Isotonic)
    assert any(line.startswith("isotonic makes ties: the ") for line in answer.warnings)
