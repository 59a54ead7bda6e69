"""Cascades of runs on one store: certified, written, read back, refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from selectkit import artifact
from selectkit.cache import FeatureStore, SplitScheme
from selectkit.errors import ArtifactError, ConfigError, LeakageError, RiskError
from selectkit.pipeline import RunDirectory, calibrate, fit
from selectkit.pipeline.calibration import Calibration
from selectkit.pipeline.cascade import calibrate_cascade, cascade_outputs
from selectkit.pipeline.logits import logits_of
from selectkit.policies import CascadePolicy
from tests.unit.pipeline.pipeline_samples import add_view, blobs, small_and_big, store_of

N = 2400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a small view, a large view of the same images, and a run on each."""
    return small_and_big(tmp_path_factory.mktemp("cascade"), N)


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "there")


def cascade(place: Path, **settings: Any) -> Calibration:
    every: dict[str, Any] = {"target": "error=0.12", "store": place / "s.zarr", **settings}
    return calibrate_cascade([place / "small", place / "big"], **every)


def policy_of(answer: Calibration) -> CascadePolicy:
    assert isinstance(answer.policy, CascadePolicy)
    return answer.policy


def test_a_cascade_is_certified_and_written_into_the_first_run(place: Path) -> None:
    before = {p.name: p.read_bytes() for p in (place / "big").iterdir()}
    calibrate(place / "small", target="coverage=0.5", store=place / "s.zarr")
    answer = cascade(place, view_seconds={"base": 0.01, "large": 0.1}, human=1.0)
    assert answer.feasible
    assert not (place / "small/thresholds.json").exists()
    document, _ = artifact.load(place / "small/cascade.json", "cascade")
    assert CascadePolicy.from_dict(document) == answer.policy
    assert [entry["run"] for entry in document["stages"]] == [".", "../big"]
    assert [stage.name for stage in policy_of(answer).stages] == ["small", "big"]
    assert {p.name: p.read_bytes() for p in (place / "big").iterdir()} == before
    run = RunDirectory.open(place / "small")
    assert document["head"] == run.head.hash
    assert document["calibrator"] == run.calibrator()[1]
    event = run.events()[-1]
    assert (event["event"], event["feasible"], event["target"]) == ("calibrate", True, "error=0.12")
    assert json.loads(json.dumps(answer.to_dict()))["policy"]["policy"] == "cascade"
    assert answer.lines()[-1] == f"next: selectkit evaluate {place / 'small'}"


def test_a_run_has_one_policy(place: Path) -> None:
    cascade(place)
    first = place / "small"
    kept = (first / "cascade.json").read_bytes()
    calibrate(first, target="coverage=0.5", store=place / "s.zarr")
    assert not (first / "cascade.json").exists()
    (first / "cascade.json").write_bytes(kept)
    with pytest.raises(ArtifactError, match="two active policies"):
        RunDirectory.open(first).policy()


def test_costs_are_those_of_new_views_and_measured_heads(place: Path) -> None:
    answer = cascade(place, view_seconds={"base": 0.01, "large": 0.1}, human=1.0)
    small, big = policy_of(answer).stages
    document, _ = artifact.load(place / "small/cascade.json", "cascade")
    measured = [entry["seconds_measured"] for entry in document["stages"]]
    assert all(0 < seconds < 0.01 for seconds in measured)
    assert small.cost == pytest.approx(0.01 + measured[0])
    assert big.cost == pytest.approx(0.1 + measured[1])
    assert answer.warnings == ()


def test_a_view_already_computed_costs_nothing_more(place: Path) -> None:
    fit(str(place / "s.zarr"), out=place / "other", view="base", head="prototype")
    calibrate(place / "other", target="coverage=0.5")
    answer = calibrate_cascade(
        [place / "small", place / "other", place / "big"], target="error=0.12",
        store=place / "s.zarr", view_seconds={"base": 10.0, "large": 100.0}, human=1000.0,
    )  # fmt: skip
    costs = [round(stage.cost, 1) for stage in policy_of(answer).stages]
    assert costs == [10.0, 0.0, 100.0]


def test_given_costs_are_taken_as_they_are(place: Path) -> None:
    answer = cascade(place, costs=[0.1, 2.0], unit="EUR", human=5.0)
    assert [stage.cost for stage in policy_of(answer).stages] == [0.1, 2.0]
    assert any("EUR" in line for line in answer.lines())
    heads = cascade(place, human=5.0)
    assert any("costs are those of the heads alone" in line for line in heads.warnings)
    assert "1 earlier policy of this run was certified on the same images" in heads.warnings[-1]


def test_the_cascade_reads_and_decides_the_test_rows(place: Path) -> None:
    cascade(place, costs=[1.0, 10.0], human=100.0, target="error=0.12,deferral=0.6")
    document, _ = artifact.load(place / "small/cascade.json", "cascade")
    run, policy = RunDirectory.open(place / "small"), CascadePolicy.from_dict(document)
    rows, stages = cascade_outputs(run, document, "val_test", place / "s.zarr")
    decision = policy.decide(stages)
    assert decision.stage is not None
    wrong = int((decision.prediction != rows.y)[decision.accepted].sum())
    assert binom.sf(wrong - 1, int(decision.accepted.sum()), 0.12) > 1e-6
    assert decision.accepted.mean() > 0.4
    big = RunDirectory.open(place / "big")
    z = logits_of(big.head, big.store(place / "s.zarr"))[rows.rows]
    later = decision.stage > 0
    np.testing.assert_allclose(policy.taken(stages).logits[later], z[later])


def test_only_images_that_all_stages_have_are_used(place: Path) -> None:
    x, _ = blobs(N)
    store = FeatureStore.open(place / "s.zarr")
    add_view(store, "part", x, shards=18)
    fit(str(store.path), out=place / "part", view="part")
    calibrate(place / "part", target="coverage=0.5")
    answer = calibrate_cascade(
        [place / "small", place / "part"], target="error=0.12", store=place / "s.zarr", human=1.0
    )
    rows = set(store.rows_of("part", "val_calib").ids)
    assert policy_of(answer).n == len(rows) < len(store.rows_of("base", "val_calib").ids)
    assert any("images of val_calib that another stage lacks" in note for note in answer.warnings)


def test_one_image_of_each_group(tmp_path: Path) -> None:
    x, labels = blobs(N)
    groups = [str(i // 2) for i in range(N)]
    store = store_of(tmp_path / "s.zarr", x + 1.0, labels, groups=groups)
    add_view(store, "large", x)
    for name, view in (("small", "base"), ("big", "large")):
        fit(str(store.path), out=tmp_path / name, view=view)
    calibrate(tmp_path / "big", target="coverage=0.5")
    answer = cascade(tmp_path, human=1.0)
    assert policy_of(answer).n == len(set(store.rows_of("base", "val_calib").groups))
    assert all(c.grouped for c in answer.policy.certificates)
    assert "one of each was used" in answer.warnings[0]


def test_an_infeasible_target_keeps_a_policy_or_defers_everything(place: Path) -> None:
    answer = cascade(place, target="error=0.0001")
    assert (answer.feasible, answer.kept) == (False, False)
    assert answer.lines()[-1] == f"{place / 'small'} defers everything"
    assert artifact.load(place / "small/cascade.json", "cascade")[0]["certificates"] == []
    calibrate(place / "big", target="error=0.2", store=place / "s.zarr")
    kept = calibrate_cascade(
        [place / "big", place / "small"], target="error=0.0001", store=place / "s.zarr"
    )
    assert kept.kept
    assert not (place / "big/cascade.json").exists()
    assert (place / "big/thresholds.json").is_file()


def test_a_stage_that_changed_is_refused(place: Path) -> None:
    cascade(place, human=1.0)
    document, _ = artifact.load(place / "small/cascade.json", "cascade")
    run = RunDirectory.open(place / "small")
    fit(str(place / "s.zarr"), out=place / "big", view="large", seed=3, head="ridge")
    calibrate(place / "big", target="coverage=0.5")
    with pytest.raises(ArtifactError, match="has another head or calibrator than the stage 'big'"):
        cascade_outputs(run, document, "val_test", place / "s.zarr")
    shutil.rmtree(place / "big")
    with pytest.raises(ArtifactError, match="no run at"):
        cascade_outputs(run, document, "val_test", place / "s.zarr")


def test_runs_that_do_not_go_together_are_refused(place: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], message: str, *runs: Path, **settings: Any) -> None:
        with pytest.raises(error, match=message):
            calibrate_cascade(runs, **{"target": "error=0.1", **settings})

    at: dict[str, Any] = {"store": place / "s.zarr"}
    small, big = place / "small", place / "big"
    refused(ConfigError, "at least two runs", small, **at)
    refused(ConfigError, "only once", small, small, **at)
    refused(ConfigError, "one score or as many, got 3", small, big, scores=["msp"] * 3, **at)
    refused(ConfigError, "head with a trained gate", small, big, scores="gate", **at)
    refused(ConfigError, "seconds are given for the views", small, big,
            view_seconds={"base": 1.0}, **at)  # fmt: skip
    refused(ConfigError, "not both", small, big, view_seconds={"base": 1.0}, costs=[1, 2], **at)
    refused(ConfigError, "2 stages need as many costs, got 1", small, big, costs=[1.0], **at)
    refused(ConfigError, "unknown risk", small, big, **at, target="luck=0.1")
    refused(RiskError, "delta", small, big, **at, delta=2.0)
    (big / "calibrator.json").unlink()
    refused(ArtifactError, f"run `selectkit calibrate {big}", small, big, **at)
    x, labels = blobs(600, k=3)
    three = store_of(tmp_path / "three.zarr", x, labels)
    fit(str(three.path), out=tmp_path / "three")
    refused(ConfigError, "stages must know the same", tmp_path / "three", _other(tmp_path))
    moved = store_of(tmp_path / "moved.zarr", *blobs(600))
    moved.set_splits(SplitScheme(salt="another"))
    fit(str(moved.path), out=tmp_path / "moved")
    refused(LeakageError, "is split by", _other(tmp_path), tmp_path / "moved")


def _other(folder: Path) -> Path:
    if not (folder / "two").is_dir():
        two = store_of(folder / "two.zarr", *blobs(600))
        fit(str(two.path), out=folder / "two")
    return folder / "two"


def test_stages_in_two_stores_are_matched_by_image(tmp_path: Path) -> None:
    x, labels = blobs(N)
    for name, view in (("a", x + 1), ("b", x)):
        store = store_of(tmp_path / f"{name}.zarr", view, labels)
        fit(str(store.path), out=tmp_path / name)
    calibrate(tmp_path / "b", target="coverage=0.5")
    answer = calibrate_cascade([tmp_path / "a", tmp_path / "b"], target="error=0.15", human=1.0)
    assert answer.feasible
    other = [*labels[1:], labels[0]]
    store_of(tmp_path / "c.zarr", x, other)
    fit(str(tmp_path / "c.zarr"), out=tmp_path / "c")
    calibrate(tmp_path / "c", target="coverage=0.5")
    with pytest.raises(LeakageError, match="has another label or group"):
        calibrate_cascade([tmp_path / "a", tmp_path / "c"], target="error=0.15", human=1.0)
