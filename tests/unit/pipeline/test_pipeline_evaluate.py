"""`evaluate` with every policy: figures against decisions taken anew, files, pages."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit import artifact
from selectkit.pipeline import Evaluation, RunDirectory, calibrate, evaluate, fit
from selectkit.pipeline.cascade import cascade_outputs
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.report import load_report
from selectkit.pipeline.report import report as write_report
from selectkit.pipeline.runs import METRICS, compare_runs
from selectkit.policies import CascadePolicy, ScrcPolicy
from selectkit.report import render
from tests.unit.pipeline.pipeline_samples import add_view, blobs, store_of

N = 2400
Evaluated = Callable[[str], tuple[Path, Evaluation]]
KINDS: Mapping[str, dict[str, Any]] = {
    "softmax": {"target": "error=0.1"},
    "several": {"target": "fnr=0.15,fpr=0.15,deferral=0.7"},
    "coverage": {"target": "coverage=0.7"},
    "two_sided": {"policy": "two_sided", "target": "fnr=0.1,fpr=0.12"},
    "cost": {"policy": "two_sided", "cost": "miss=50,false_alarm=3,defer=1"},
    "cost_target": {"target": "error=0.12", "cost": "error=20,defer=1"},
    "per_class": {"policy": "per_class", "target": "error=0.12"},
    "gate": {"policy": "gate", "target": "error=0.12,deferral=0.9"},
    "sets": {"policy": "scrc", "target": "error=0.1"},
    "exits": {"policy": "scrc", "target": "error=0.12", "variant": "joint", "xi": 0.7,
              "exits": "singletons"},
    "per_group": {"target": "error=0.15", "per_group": "time"},
    "infeasible": {"policy": "two_sided", "target": "fnr=0.0001"},
    "no_sets": {"policy": "scrc", "target": "error=0.0001"},
    "no_class": {"policy": "per_class", "target": "error=0.0001"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two views and a manifest, a run on each, one with a gate."""
    folder = tmp_path_factory.mktemp("evaluate")
    x, labels = blobs(N, distance=1.0)
    noise = np.random.default_rng(1).normal(0, 1.5, x.shape)
    store = store_of(folder / "s.zarr", x + noise, labels)
    rows = [f"image-{i},{i}.jpg,{'night' if i % 3 == 0 else 'day'}" for i in range(N)]
    (folder / "labels.csv").write_text("\n".join(["id,path,time", *rows]) + "\n")
    columns = {"id": "id", "path": "path", "label": None, "group": None}
    source = {"kind": "manifest", "location": str(folder / "labels.csv"), "columns": columns}
    store.grow(N, source)
    add_view(store, "large", x)
    fit(str(store.path), out=folder / "small", view="base")
    fit(str(store.path), out=folder / "big", view="large", head="three", hidden=16, epochs=8,
        learning_rate=0.02, positive="b")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def evaluated(made: Path) -> Evaluated:
    """Calibrates and evaluates a kind of policy when it is first asked for."""

    @cache
    def of(kind: str) -> tuple[Path, Evaluation]:
        run = made / kind
        if "cascade" in kind:
            shutil.copytree(made / "small", run)
            second = shutil.copytree(made / "big", made / "second", dirs_exist_ok=True)
            calibrate(second, target="error=0.2")
            calibrate(run, policy="cascade", target=CASCADES[kind], cost_unit="EUR",
                      stages=str(second), stage_costs="0.1,2.0", human_cost=5.0)  # fmt: skip
        else:
            shutil.copytree(made / "big", run)
            calibrate(run, **KINDS[kind])
        return run, evaluate(run, replicates=100, thumbnails=0)

    return of


CASCADES = {"cascade": "error=0.12,deferral=0.8", "no_cascade": "error=0.0001"}
EVERY = (*KINDS, *CASCADES)


def decided(run: Path) -> tuple[Any, Any, Any]:
    """Rows of val_test, what is decided about them, and the policy."""
    opened = RunDirectory.open(run)
    policy, document = opened.policy()
    if isinstance(policy, CascadePolicy):
        rows, stages = cascade_outputs(opened, document, "val_test")
        return rows, policy.decide(stages), policy
    rows, outputs = opened.outputs(opened.store(), "val_test", opened.calibrator()[0])
    return rows, policy.decide(outputs), policy


@pytest.mark.parametrize("kind", EVERY)
def test_every_policy_is_measured_as_it_decides(evaluated: Evaluated, kind: str) -> None:
    run, evaluation = evaluated(kind)
    rows, decision, policy = decided(run)
    operating = evaluation.document["metrics"]["operating"]
    taken, wrong = decision.accepted, decision.prediction != rows.y
    assert operating["coverage"]["value"] == pytest.approx(taken.mean())
    (active,) = [row for row in evaluation.policies if row.active]
    assert active.deferred == (~taken).sum()
    if taken.any():
        assert operating["error"]["value"] == pytest.approx(wrong[taken].mean())
        positives = taken & (rows.y == 1)
        assert operating["fnr"]["value"] == pytest.approx(wrong[positives].mean())
    else:
        assert operating["error"]["value"] is None
    page, _ = load_report(RunDirectory.open(run))
    if kind not in {"sets", "cascade"}:
        assert (page.accepted == (page.confidence >= page.threshold)).all()
    require_checked(evaluation, policy)
    require_files(run, evaluation, kind)


def require_checked(evaluation: Evaluation, policy: Any) -> None:
    """Every promise stands beside its figure."""
    promises = evaluation.document["promises"]
    assert [(p["risk"], p["about"]) for p in promises] == [
        (c.risk, c.about) for c in policy.certificates
    ]
    assert bool(promises) == (policy.infeasible is None)
    for promise in promises:
        value, low, high = (promise["estimate"][k] for k in ("value", "low", "high"))
        assert low <= value <= high
        reach = promise["risk"] == "coverage"
        limit = promise["limit"]
        assert promise["held"] == (value >= limit if reach else value <= limit)
        surely = promise["verdict"].startswith("exceeded")
        assert surely == (low > limit and promise["kind"] != "none")
        assert promise["verdict"] in "\n".join(evaluation.lines())
    assert evaluation.document["ranked_by"]


def require_files(run: Path, evaluation: Evaluation, kind: str) -> None:
    """metrics.json, the log and the sections of the page."""
    assert artifact.load(run / "metrics.json", "metrics")[0] == evaluation.document
    logged = RunDirectory.open(run).events()[-1]
    assert logged["promises"] == json.loads(json.dumps(evaluation.document["promises"]))
    html = (run / "report.html").read_text()
    assert ('<section id="promises">' in html) == bool(evaluation.promises)
    assert ('<section id="sets">' in html) == (kind in {"sets", "exits", "no_sets"})
    assert ('<section id="stages">' in html) == ("cascade" in kind)
    assert ('<section id="explorer"' in html) == (kind not in {"sets", "no_sets", *CASCADES})


@pytest.mark.parametrize("kind", ["per_class", "exits", "cascade"])
def test_the_page_is_drawn_again_from_its_archive(evaluated: Evaluated, kind: str) -> None:
    run, _ = evaluated(kind)
    page, _ = load_report(RunDirectory.open(run))
    assert render(page).encode() == (run / "report.html").read_bytes()


def test_targets_are_an_object_a_list_or_none(evaluated: Evaluated) -> None:
    target = {
        kind: json.loads((evaluated(kind)[0] / "metrics.json").read_text())["target"]
        for kind in ("softmax", "two_sided", "cost", "gate", "sets", "cascade")
    }
    assert target["softmax"] == {"risk": "error", "alpha": 0.1}
    assert target["two_sided"] == [{"risk": "fnr", "alpha": 0.1}, {"risk": "fpr", "alpha": 0.12}]
    assert target["cost"] == []
    assert target["gate"] == [{"risk": "error", "alpha": 0.12}, {"risk": "deferral", "alpha": 0.9}]
    assert target["sets"] == {"risk": "error", "alpha": 0.1}
    assert [t["risk"] for t in target["cascade"]] == ["error", "deferral"]


@pytest.mark.parametrize("kind", ["cost", "cost_target"])
def test_costs_are_measured_and_compared(evaluated: Evaluated, kind: str) -> None:
    run, evaluation = evaluated(kind)
    rows, decision, policy = decided(run)
    spent = policy.costs.of(decision, rows.y, 1)
    document = evaluation.document
    assert document["metrics"]["operating"]["mean_cost"]["value"] == pytest.approx(spent.mean())
    active, everything, *_ = document["policies"]
    assert active["cost"]["value"] == pytest.approx(spent.mean())
    assert everything["policy"] == "accept everything"
    header, table = evaluation.policy_table()
    assert header[-1] == "mean cost"
    assert all(len(line) == len(header) for line in table)
    if kind == "cost":
        (promise,) = document["promises"]
        assert promise["estimate"]["value"] == pytest.approx(spent.mean())
        assert promise["events"] is None


def test_everything_is_judged_by_the_most_probable_class(evaluated: Evaluated) -> None:
    """Two-sided thresholds may call an image positive that is more probably negative."""
    run, evaluation = evaluated("cost")
    opened = RunDirectory.open(run)
    rows, outputs = opened.outputs(opened.store(), "val_test", opened.calibrator()[0])
    _, decision, _ = decided(run)
    assert (decision.prediction != outputs.prediction).any()
    (everything,) = [r for r in evaluation.policies if r.policy == "accept everything"]
    assert everything.error[0] == pytest.approx((outputs.prediction != rows.y).mean())


def test_promises_of_classes_and_groups(evaluated: Evaluated, made: Path) -> None:
    run, evaluation = evaluated("per_class")
    rows, decision, _ = decided(run)
    for promise in evaluation.promises:
        code = rows.classes.index(str(promise.about).removeprefix("class "))
        about = decision.accepted & (decision.prediction == code)
        assert promise.trials == about.sum()
        assert promise.events == (decision.prediction != rows.y)[about].sum()
    run, evaluation = evaluated("per_group")
    rows, decision, _ = decided(run)
    numbers = np.array([int(str(i).removeprefix("image-")) for i in rows.ids])
    for promise, night in zip(evaluation.promises, (False, True), strict=True):
        assert promise.about == f"group {'night' if night else 'day'}"
        about = decision.accepted & ((numbers % 3 == 0) == night)
        assert promise.trials == about.sum()
    moved = made / "labels.moved"
    (made / "labels.csv").rename(moved)
    try:
        lost = evaluate(run, replicates=100, thumbnails=0)
    finally:
        moved.rename(made / "labels.csv")
        evaluate(run, replicates=100, thumbnails=0)
    assert any("could not be checked" in warning for warning in lost.warnings)
    assert [p.held for p in lost.promises] == [None, None]


def test_sets_are_measured_where_the_score_passes(evaluated: Evaluated) -> None:
    for kind in ("sets", "exits"):
        run, evaluation = evaluated(kind)
        rows, decision, policy = decided(run)
        assert isinstance(policy, ScrcPolicy)
        opened = RunDirectory.open(run)
        _, outputs = opened.outputs(opened.store(), "val_test", opened.calibrator()[0])
        passed = outputs.probabilities.max(axis=1) > policy.lambda1
        sets = decision.prediction_set
        inside = sets[np.arange(len(rows.y)), rows.y]
        single = passed & (sets.sum(axis=1) == 1)
        found = {k: v["value"] for k, v in evaluation.document["metrics"]["sets"].items()}
        assert found["mean_set_size"] == pytest.approx(sets[passed].sum(axis=1).mean())
        assert found["set_coverage"] == pytest.approx(inside[passed].mean())
        assert found["singleton_share"] == pytest.approx(single.sum() / passed.sum())
        wrong = decision.prediction != rows.y
        assert found["singleton_error"] == pytest.approx(wrong[single].mean())
        document = evaluation.document["sets"]
        assert document["decides"] == policy.exits
        assert sum(row["n"] for row in document["sizes"]) == passed.sum()
        assert sum(row["inside"] for row in document["classes"]) == inside[passed].sum()
        (of_sets,) = [p for p in evaluation.promises if p.risk == "set_error"]
        assert of_sets.estimate[0] == pytest.approx(1 - found["set_coverage"])
        assert any("answered with sets" in w for w in evaluation.warnings) == (kind == "sets")


def test_the_stages_of_a_cascade(evaluated: Evaluated) -> None:
    run, evaluation = evaluated("cascade")
    rows, decision, policy = decided(run)
    document = evaluation.document
    stage, wrong = decision.stage, decision.prediction != rows.y
    for j, row in enumerate(document["stages"]):
        assert row["reached"] == (stage >= j).sum()
        assert row["decided"] == (stage == j).sum()
        assert row["wrong"] == wrong[stage == j].sum()
    spent = np.array([0.1, 2.1, 7.1])[stage]
    assert document["cost"]["mean"]["value"] == pytest.approx(spent.mean())
    assert document["metrics"]["operating"]["mean_cost"]["value"] == pytest.approx(spent.mean())
    assert [row["policy"] for row in document["policies"][1:]] == ["only cascade", "only second"]
    page, _ = load_report(RunDirectory.open(run))
    assert page.flow is not None
    assert len(page.flow.front) == len(policy.points)
    assert sum(point.chosen for point in page.flow.front) == 1
    assert np.isnan(page.threshold)


def test_runs_of_all_kinds_are_compared(evaluated: Evaluated) -> None:
    kinds = ("softmax", "two_sided", "per_class", "no_class", "sets")
    runs = [evaluated(kind)[0] for kind in kinds]
    comparison = compare_runs(runs, replicates=50)
    assert comparison.n == len(decided(runs[0])[0].y)
    assert len(comparison.differences) == 4 * len(METRICS)
    for d in comparison.differences:
        if d.metric not in {"coverage", "error"}:
            continue
        rows, decision, _ = decided(runs[comparison.runs.index(d.run)])
        wrong, taken = decision.prediction != rows.y, decision.accepted
        if d.metric == "error" and not taken.any():
            assert np.isnan([d.value, d.difference.value, d.p_holm]).all()
            continue
        expected = taken.mean() if d.metric == "coverage" else wrong[taken].mean()
        assert d.value == pytest.approx(expected)
        assert d.difference.low <= d.value - d.reference <= d.difference.high
    of_sets = comparison.lines()[-1]
    assert of_sets.endswith("by the most probable class of each set")
    assert b"by the most probable class" in comparison.as_bytes("html")
    cascade = compare_runs([runs[0], evaluated("cascade")[0]], replicates=50)
    (accuracy,) = [d for d in cascade.differences if d.metric == "accuracy"]
    rows, decision, _ = decided(evaluated("cascade")[0])
    assert accuracy.value == pytest.approx((decision.prediction == rows.y).mean())


def test_images_that_a_stage_lacks_are_named(tmp_path: Path) -> None:
    x, labels = blobs(N, distance=1.5)
    store = store_of(tmp_path / "s.zarr", x + 0.5, labels)
    add_view(store, "part", x, shards=20)
    for name, view in (("first", "base"), ("later", "part")):
        fit(str(store.path), out=tmp_path / name, view=view)
    calibrate(tmp_path / "later", target="coverage=0.5")
    calibrate(tmp_path / "first", policy="cascade", target="error=0.2", human_cost=1.0,
              stages=str(tmp_path / "later"))  # fmt: skip
    evaluation = evaluate(tmp_path / "first", replicates=100, thumbnails=0)
    lacking = len(store.rows_of("base", "val_test").ids) - evaluation.document["split"]["n"]
    assert lacking > 0
    assert f"{lacking:,} images of val_test were left out" in evaluation.warnings[-1]


def test_reports_as_markdown_and_pictures(evaluated: Evaluated, tmp_path: Path) -> None:
    run, _ = evaluated("cascade")
    text = write_report(run, format="md", out=tmp_path / "r.md").files[0].read_text()
    assert "## Promises, checked" in text
    assert "## Stages" in text
    pictures = write_report(run, format="svg", out=tmp_path / "figures").files
    assert {"stages.svg", "front.svg"} <= {file.name for file in pictures}
    sets = write_report(evaluated("sets")[0], format="md", out=tmp_path / "s.md").files
    assert "## Prediction sets" in sets[0].read_text()
    assert "set-sizes.png" in {file.name for file in sets}


def test_promises_count_one_image_of_each_group(tmp_path: Path) -> None:
    x, labels = blobs(N, distance=1.5)
    groups = [str(i // 3) for i in range(N)]
    store = store_of(tmp_path / "s.zarr", x, labels, groups=groups)
    fit(str(store.path), out=tmp_path / "run", positive="b")
    calibrate(tmp_path / "run", target="fnr=0.2")
    evaluation = evaluate(tmp_path / "run", replicates=100, thumbnails=0)
    rows, decision, _ = decided(tmp_path / "run")
    positives = np.asarray(rows.y == 1)
    alone = one_per_group(rows, positives)
    accepted = alone[decision.accepted[alone]]
    (promise,) = evaluation.promises
    assert promise.trials == len(accepted) < (positives & decision.accepted).sum()
    assert promise.events == (decision.prediction[accepted] != 1).sum()
    assert "One image of each group counts" in (tmp_path / "run/report.html").read_text()


def test_pictures_say_how_they_were_answered(evaluated: Evaluated) -> None:
    """A thumbnail says which set an image got, and which stage decided it."""
    for kind, words in (("sets", "set: "), ("cascade", "decided by ")):
        run, _ = evaluated(kind)
        evaluate(run, replicates=100, thumbnails=4)
        page, _ = load_report(RunDirectory.open(run))
        assert {thumb.note[: len(words)] for thumb in page.errors} == {words}
        assert {thumb.note for thumb in page.deferrals} == {""}
