"""`calibrate` with every policy: one certified, one active, the others gone."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.errors import ArtifactError, ConfigError, DataError
from selectkit.percent import percent
from selectkit.pipeline import RunDirectory, bench_policies, calibrate, fit
from selectkit.pipeline.active import POLICY_FILES
from selectkit.pipeline.certify import POLICIES, Question
from selectkit.pipeline.choice import choose_policy
from selectkit.pipeline.evidence import Evidence, one_per_group
from selectkit.policies import CascadePolicy, Costs, Guide, SoftmaxPolicy, Targets
from tests.unit.pipeline.pipeline_samples import blobs, store_of

N = 3000
ASKED: Mapping[str, dict[str, Any]] = {
    "softmax": {"target": "error=0.1"},
    "two_sided": {"target": "fnr=0.1,fpr=0.15"},
    "per_class": {"target": "error=0.1"},
    "gate": {"target": "error=0.1,deferral=0.9"},
    "scrc": {"target": "error=0.1", "variant": "joint", "exits": "singletons"},
}
FILES = {
    "softmax": "thresholds.json",
    "two_sided": "thresholds.json",
    "per_class": "thresholds.json",
    "gate": "gateparams.json",
    "scrc": "scrcparams.json",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two classes with a manifest, and a run whose head has a gate."""
    folder = tmp_path_factory.mktemp("policies")
    x, labels = blobs(N, distance=1.5)
    store = store_of(folder / "s.zarr", x, labels)
    rows = [f"image-{i},{i}.jpg,{'night' if i % 3 == 0 else 'day'}" for i in range(N)]
    (folder / "labels.csv").write_text("\n".join(["id,path,time", *rows]) + "\n")
    columns = {"id": "id", "path": "path", "label": None, "group": None}
    source = {"kind": "manifest", "location": str(folder / "labels.csv"), "columns": columns}
    store.grow(N, source)
    fit(str(store.path), out=folder / "run", head="three", hidden=32, epochs=12,
        learning_rate=0.02, positive="b")  # fmt: skip
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "run", tmp_path / "run")


def evidence_of(run: Path) -> tuple[Evidence, Guide]:
    opened = RunDirectory.open(run)
    store = opened.store()
    select, seen = opened.outputs(store, "val_select")
    calib, outputs = opened.outputs(store, "val_calib")
    guide = Guide(seen, select.y)
    rows = Evidence(outputs, calib.y, calib.ids, calib.groups, guide, calib.fingerprint)
    return rows, guide.take(one_per_group(select))


def decided(run: Path) -> float:
    """Share of val_calib that the run's policy accepts, as it is read back."""
    opened = RunDirectory.open(run)
    policy, _ = opened.policy()
    assert not isinstance(policy, CascadePolicy)
    _, outputs = opened.outputs(opened.store(), "val_calib", opened.calibrator()[0])
    return round(float(policy.decide(outputs).accepted.mean()), 9)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_is_certified_written_and_read_back(run: Path, policy: str) -> None:
    answer = calibrate(run, policy=policy, **ASKED[policy])
    assert answer.feasible
    assert [name for name in POLICY_FILES if (run / name).is_file()] == [FILES[policy]]
    opened = RunDirectory.open(run)
    found, document = opened.policy()
    assert not isinstance(found, CascadePolicy)
    assert found == answer.policy
    assert document["head"] == opened.head.hash
    calib, outputs = opened.outputs(opened.store(), "val_calib", answer.calibrator)
    accepted = found.decide(outputs).accepted
    assert accepted.mean() == pytest.approx(answer.coverage)
    assert 0 < answer.coverage < 1
    assert {c.split for c in found.certificates} == {calib.fingerprint}
    printed = "\n".join(answer.lines())
    assert found.rule() in printed
    assert f"{percent(answer.coverage)} of val_calib" in printed
    assert json.loads(json.dumps(answer.to_dict()))["promises"] == list(found.sentences())
    assert opened.config.calibrate.policy == policy


def test_a_new_policy_replaces_the_old_one(run: Path) -> None:
    for policy in (*POLICIES, "softmax"):
        calibrate(run, policy=policy, **ASKED[policy])
        assert [name for name in POLICY_FILES if (run / name).is_file()] == [FILES[policy]]
        assert RunDirectory.open(run).has_feasible_policy()


@pytest.mark.parametrize(("first", "second"), list(combinations(("softmax", "gate", "scrc"), 2)))
def test_two_active_policies_are_refused(run: Path, first: str, second: str) -> None:
    calibrate(run, policy=first, **ASKED[first])
    kept = (run / FILES[first]).read_bytes()
    calibrate(run, policy=second, **ASKED[second])
    (run / FILES[first]).write_bytes(kept)
    with pytest.raises(ArtifactError, match="two active policies"):
        RunDirectory.open(run).policy()


@pytest.mark.parametrize("policy", ["softmax", "per_class", "scrc"])
def test_a_fitted_score_stays_beside_its_policy_and_goes_with_it(run: Path, policy: str) -> None:
    asked: dict[str, Any] = {"target": "error=0.45"}
    answer = calibrate(run, policy=policy, score="knn", **asked)
    assert decided(run) == round(answer.coverage, 9)
    assert (run / "score.safetensors").is_file()
    gated = calibrate(run, policy=policy, score="gate", **asked)
    assert not (run / "score.json").exists()
    assert (run / "gateparams.json").is_file()
    assert decided(run) == round(gated.coverage, 9)
    calibrate(run, policy=policy, **asked)
    assert not (run / "gateparams.json").exists()


def test_costs_choose_the_cheapest_certified_policy_and_show_the_trade_off(run: Path) -> None:
    cost = "miss=20,false_alarm=2,defer=1"
    answer = calibrate(run, policy="two_sided", target="fnr=0.2,fpr=0.3", cost=cost)
    assert answer.feasible
    certified = [row for row in answer.trade_off if row.certified]
    (chosen,) = (row for row in answer.trade_off if row.chosen)
    assert chosen.cost == min(row.cost for row in certified if row.cost is not None)
    assert any("->*" in line for line in answer.lines())
    alone = calibrate(run, policy="softmax", cost=cost)
    assert [c.risk for c in alone.policy.certificates] == ["cost"]
    assert alone.to_dict()["target"] == ""


def test_promises_for_each_value_of_a_column(run: Path, made: Path) -> None:
    answer = calibrate(run, target="error=0.15", per_group="time")
    assert answer.feasible
    about = [c.about for c in answer.policy.certificates]
    assert about == ["group day", "group night"]
    opened = RunDirectory.open(run)
    assert isinstance(answer.policy, SoftmaxPolicy)
    calib, outputs = opened.outputs(opened.store(), "val_calib", answer.calibrator)
    decision = answer.policy.decide(outputs)
    night = np.array([int(str(i).split("-")[1]) % 3 == 0 for i in calib.ids])
    wrong = int((decision.accepted & night & (decision.prediction != calib.y)).sum())
    assert answer.policy.certificates[1].errors == wrong
    with pytest.raises(DataError, match="no column 'weather'"):
        calibrate(run, target="error=0.15", per_group="weather")
    table = (made / "labels.csv").read_text()
    try:
        (made / "labels.csv").write_text(table.replace(".jpg,day", ".jpg,"))
        with pytest.raises(DataError, match="have no value"):
            calibrate(run, target="error=0.15", per_group="time")
    finally:
        (made / "labels.csv").write_text(table)


def test_groups_need_a_manifest(tmp_path: Path) -> None:
    x, labels = blobs(400)
    store = store_of(tmp_path / "s.zarr", x, labels)
    fit(str(store.path), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="not extracted from a CSV"):
        calibrate(tmp_path / "run", target="error=0.3", per_group="time")


def test_an_infeasible_question_keeps_the_feasible_policy(run: Path) -> None:
    calibrate(run, policy="gate", **ASKED["gate"])
    before = (run / "gateparams.json").read_bytes()
    for policy in POLICIES:
        target = "fnr=0.001,fpr=0.001" if policy in {"two_sided", "gate"} else "error=0.001"
        answer = calibrate(run, policy=policy, **{**ASKED[policy], "target": target})
        assert not answer.feasible
        assert answer.kept
        assert (run / "gateparams.json").read_bytes() == before
    (run / "gateparams.json").unlink()
    for policy in POLICIES:
        target = "fnr=0.001,fpr=0.001" if policy in {"two_sided", "gate"} else "error=0.001"
        answer = calibrate(run, policy=policy, **{**ASKED[policy], "target": target})
        assert not answer.kept
        opened = RunDirectory.open(run)
        found, _ = opened.policy()
        assert not isinstance(found, CascadePolicy)
        _, outputs = opened.outputs(opened.store(), "val_calib", answer.calibrator)
        assert not found.decide(outputs).accepted.any()
        assert found.sentences()[0].startswith("INFEASIBLE")


def test_auto_certifies_the_policy_that_does_best_on_val_select(run: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    answer = calibrate(
        run, policy="auto", target="error=0.1", watch=lambda *told: seen.append(told)
    )
    assert [t.policy for t in answer.tried] == list(POLICIES)
    judged = {t.policy: t.coverage for t in answer.tried if t.coverage is not None}
    assert set(judged) == {"softmax", "two_sided", "gate", "scrc"}
    (chosen,) = (t.policy for t in answer.tried if t.chosen)
    assert judged[chosen] == max(judged.values())
    assert seen[-1][:2] == (80, 80)
    printed = "\n".join(answer.lines())
    assert "not tried: with two classes two_sided has the same two thresholds" in printed
    assert printed.count("chosen") == 1
    named: dict[str, Any] = {"variant": "joint", "exits": "singletons"} if chosen == "scrc" else {}
    again = calibrate(run, policy=chosen, target="error=0.1", **named)
    assert again.policy == answer.policy


def test_auto_looks_at_no_label_and_no_output_of_the_calibration_split(run: Path) -> None:
    rows, units = evidence_of(run)
    question = Question(Targets.parse("error=0.1"), 0.1, ("a", "b"), 1)
    scores = {"softmax": "msp", "two_sided": "msp", "scrc": "msp"}
    tried = choose_policy(question, rows, scores, units)
    hidden = replace(
        rows, labels=1 - rows.labels, outputs=rows.outputs.take(np.zeros(len(rows.labels), int))
    )
    assert choose_policy(question, hidden, scores, units) == tried


def test_auto_by_cost(run: Path) -> None:
    rows, units = evidence_of(run)
    costs = Costs.parse("miss=20,false_alarm=2,defer=1")
    question = Question(Targets(()), 0.1, ("a", "b"), 1, costs)
    tried = choose_policy(question, rows, {"softmax": "msp", "two_sided": "msp"}, units)
    judged = {t.policy: t.cost for t in tried if t.cost is not None}
    assert set(judged) == {"softmax", "two_sided"}
    assert judged["two_sided"] < judged["softmax"]  # unequal costs want unequal thresholds
    assert next(t for t in tried if t.chosen).policy == "two_sided"


def test_auto_does_not_try_two_sides_for_a_target_on_one(run: Path) -> None:
    answer = calibrate(run, policy="auto", target="fnr=0.2")
    (entry,) = (t for t in answer.tried if t.policy == "two_sided")
    assert entry.coverage is None
    assert "one side" in entry.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no target"),
        ({"target": "error=0.1,coverage=0.8"}, "stands alone"),
        ({"target": "error=0.1", "variant": "joint"}, "--variant belongs to --policy scrc"),
        ({"target": "error=0.1", "xi": 0.5}, "--xi belongs"),
        ({"target": "error=0.1", "stages": "other"}, "--stages belongs to --policy cascade"),
        ({"target": "error=0.1", "policy": "cascade"}, "needs --stages"),
        ({"policy": "cascade", "stages": "other"}, "needs a --target"),
        ({"target": "error=0.1", "policy": "cascade", "stages": "x", "cost": "error=2,defer=1"},
         "--cost and --per-group belong"),
        ({"target": "error=0.1,fpr=0.1", "policy": "per_class"}, "keeps one target"),
        ({"target": "error=0.1", "policy": "scrc", "per_group": "time"}, "keeps one target"),
        ({"target": "fpr=0.1", "policy": "scrc"}, "bounds error or fnr"),
        ({"target": "coverage=0.8", "policy": "two_sided"}, "coverage=SHARE promises nothing"),
        ({"target": "error=0.1", "policy": "two_sided", "score": "margin"}, "leave --score out"),
        ({"target": "error=0.1", "policy": "gate", "score": "margin"}, "leave --score out"),
        ({"cost": "error=5,defer=1", "policy": "gate"}, "--policy gate keeps targets"),
        ({"target": "coverage=0.8", "policy": "auto"}, "chooses by coverage"),
        ({"target": "error=0.1", "cost": "miss=5,defer=1"}, "--cost"),
    ],
)  # fmt: skip
def test_questions_that_make_no_sense_are_refused_and_change_nothing(
    run: Path, settings: dict[str, Any], message: str
) -> None:
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    with pytest.raises(ConfigError, match=message):
        calibrate(run, **settings)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_promises_about_positives_need_a_positive_class(tmp_path: Path) -> None:
    x, labels = blobs(600, k=3)
    store = store_of(tmp_path / "s.zarr", x, labels)
    fit(str(store.path), out=tmp_path / "run")
    questions: tuple[tuple[dict[str, Any], str], ...] = (
        ({"target": "fnr=0.1,fpr=0.1"}, "--target fnr=0.1"),
        ({"cost": "miss=5,false_alarm=1,defer=1"}, "--cost miss=5"),
    )
    for settings, what in questions:
        with pytest.raises(ConfigError, match=f"{what}.* names no positive class"):
            calibrate(tmp_path / "run", **settings)
    answer = calibrate(tmp_path / "run", policy="auto", target="error=0.4")
    assert {t.policy for t in answer.tried if t.coverage is not None} == {
        "softmax", "per_class", "scrc",
    }  # fmt: skip
    assert FeatureStore.open(store.path).rows == 600


def test_one_image_of_each_group_is_used(tmp_path: Path) -> None:
    x, labels = blobs(900)
    store = store_of(tmp_path / "s.zarr", x, labels, [f"site-{i // 3}" for i in range(900)])
    fit(str(store.path), out=tmp_path / "run", positive="b")
    for policy, target in (("softmax", "error=0.3,fnr=0.4"), ("two_sided", "error=0.3"),
                           ("per_class", "error=0.4"), ("scrc", "error=0.3")):  # fmt: skip
        answer = calibrate(tmp_path / "run", policy=policy, target=target)
        assert answer.feasible, policy
        groups = len(set(RunDirectory.open(tmp_path / "run").outputs(
            store, "val_calib")[0].groups))  # fmt: skip
        assert all(c.grouped for c in answer.policy.certificates)
        assert all(c.n <= groups for c in answer.policy.certificates)
        assert any("one of each was used" in line for line in answer.warnings)


@pytest.mark.parametrize("policy", ["softmax", "two_sided"])
def test_nothing_is_decided_where_deferring_everything_is_cheaper(run: Path, policy: str) -> None:
    answer = calibrate(run, policy=policy, cost="miss=5,false_alarm=5,defer=0")
    assert not answer.feasible
    (said,) = answer.policy.sentences()
    assert said.startswith("INFEASIBLE: deferring every image costs 0 each")
    found = RunDirectory.open(run).policy()[0]
    assert found.sentences() == (said,)
    assert decided(run) == 0


def test_a_kept_target_that_costs_more_than_deferring_is_told(run: Path) -> None:
    dear = calibrate(run, target="error=0.1", cost="error=5,defer=0")
    assert dear.feasible
    assert "deferring every image would cost 0 each" in dear.warnings[-1]
    cheap = calibrate(run, target="error=0.1", cost="error=2,defer=1")
    assert not any("would cost" in line for line in cheap.warnings)


def test_a_choice_by_the_bench_is_warned_of(run: Path) -> None:
    before = calibrate(run, target="error=0.1")
    assert not any("bench policies" in line for line in before.warnings)
    bench_policies(run, target=("error=0.1",), splits=20)
    after = calibrate(run, target="error=0.1")
    assert any("chosen by its table" in line for line in after.warnings)
    assert after.policy == before.policy
