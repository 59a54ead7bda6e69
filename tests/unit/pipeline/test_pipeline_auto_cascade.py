"""`calibrate --policy auto --stages`: a cascade is tried too, and judged by what it costs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.errors import ConfigError
from selectkit.pipeline import RunDirectory, calibrate, fit
from selectkit.pipeline.calibration import Calibration
from selectkit.pipeline.calibration_rows import evidence_of
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.certify import POLICIES, Question
from selectkit.pipeline.choice import Tried, choose_policy
from selectkit.pipeline.evidence import Evidence, one_per_group
from selectkit.pipeline.prepared import PreparedCascade
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.pipeline.tries import CascadeTry, Draw
from selectkit.policies import CascadePolicy, Guide, StageCosts, Targets
from tests.unit.pipeline.pipeline_samples import add_view, blobs, small_and_big

N = 3000
ASKED: dict[str, Any] = {"policy": "auto", "target": "error=0.12"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_and_big(tmp_path_factory.mktemp("auto"), N, positive="b")


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "there")


def auto(place: Path, **settings: Any) -> Calibration:
    stages = settings.pop("stages", str(place / "big"))
    asked = {**ASKED, "stages": stages, "store": place / "s.zarr", **settings}
    return calibrate(place / "small", **asked)


def prepared(place: Path, **settings: Any) -> tuple[PreparedCascade, StageSettings]:
    asked = StageSettings((place / "big",), **settings)
    stages = asked.opened(place / "small", place / "s.zarr")
    select, raw = stages[0].run.outputs(stages[0].store, "val_select")
    fit_ = fitted_calibrator("temperature", raw, select)
    return (
        PreparedCascade.of(stages, asked, fit=fit_, fitted_on=select.fingerprint, scores="msp"),
        asked,
    )


def test_a_cascade_that_accepts_most_is_certified_as_if_it_had_been_named(place: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    answer = auto(place, stage_costs="1,4", watch=lambda *told: seen.append(told))
    assert [t.policy for t in answer.tried] == [*POLICIES, "cascade"]
    judged = {t.policy: t.coverage for t in answer.tried if t.coverage is not None}
    assert max(judged, key=lambda name: judged[name]) == "cascade"
    assert [t.policy for t in answer.tried if t.chosen] == ["cascade"]
    assert seen[-1][:2] == (20 * len(judged), 20 * len(judged))
    assert isinstance(answer.policy, CascadePolicy)
    assert not (place / "small/thresholds.json").exists()
    run = RunDirectory.open(place / "small")
    assert run.policy()[0] == answer.policy
    assert run.config.calibrate.policy == "auto"
    assert run.events()[-1]["policies"][-1]["policy"] == "cascade"
    named = auto(place, policy="cascade", stage_costs="1,4")
    assert named.policy == answer.policy


def test_the_table_says_what_computing_costs(place: Path) -> None:
    answer = auto(place, stage_costs="1,4", cost_unit="EUR")
    by_name = {t.policy: t for t in answer.tried}
    assert by_name["softmax"].computing == 1
    spent = by_name["cascade"].computing or 0.0
    assert 1 < spent < 5
    assert by_name["softmax"].cost is by_name["cascade"].cost is None
    printed = "\n".join(answer.lines())
    assert "(higher coverage is better, then what is cheaper to compute)" in printed
    assert f"computing {spent:.4g} EUR  chosen" in printed
    assert json.loads(json.dumps(answer.to_dict()))["policies"][-1]["unit"] == "EUR"
    silent = auto(place)
    assert all(t.computing is None and t.cost is None for t in silent.tried)
    assert "(higher coverage is better):" in "\n".join(silent.lines())


@pytest.mark.parametrize(("costs", "human", "best"), [("1,2", 50.0, True), ("1,900", 50.0, False)])
def test_with_the_price_of_a_person_the_cheapest_is_taken(
    place: Path, costs: str, human: float, best: bool
) -> None:
    answer = auto(place, stage_costs=costs, human_cost=human)
    spent = {t.policy: t.cost for t in answer.tried if t.cost is not None}
    (chosen,) = (t.policy for t in answer.tried if t.chosen)
    assert spent[chosen] == min(spent.values())
    assert (chosen == "cascade") is best
    softmax = next(t for t in answer.tried if t.policy == "softmax")
    assert softmax.coverage is not None
    assert softmax.cost == pytest.approx(1 + human * (1 - softmax.coverage))
    assert "(lower cost is better)" in "\n".join(answer.lines())


def test_it_is_tried_on_the_draws_of_the_others(place: Path) -> None:
    """Its outcome is that of a cascade fitted on the drawn rows, counted on the others."""
    found, _ = prepared(place, costs=(1.0, 4.0), human=20.0)
    alone = one_per_group(found.select)
    units = Guide(found.guides[0], found.select.y).take(alone)
    draw = Draw.of(units, 300, np.random.default_rng(0))
    parts = [set(part) for part in (draw.guide, draw.calib, draw.other)]
    assert len(draw.calib) == 300
    assert len(set.union(*parts)) == sum(map(len, parts))  # no row has two roles
    question = Question(Targets.parse("error=0.2"), 0.1, ("a", "b"), 1)
    outcome = CascadeTry.of(found, alone, priced=True).outcome(question, draw)
    labels = found.select.y[alone]
    seen = [said.take(alone) for said in found.guides]
    policy = CascadePolicy.fit(
        [s.take(draw.calib) for s in seen], labels[draw.calib],
        costs=StageCosts((1.0, 4.0), 20.0), target=question.targets,
        select=([s.take(draw.guide) for s in seen], labels[draw.guide]),
    )  # fmt: skip
    decision = policy.decide([s.take(draw.other) for s in seen])
    assert decision.stage is not None
    price = np.array([1.0, 5.0, 25.0])
    assert outcome.certified
    assert outcome.coverage == pytest.approx(decision.accepted.mean())
    assert outcome.cost == pytest.approx(price[decision.stage].mean())
    assert outcome.computing == pytest.approx(np.minimum(price, 5)[decision.stage].mean())


def test_no_label_and_no_output_of_the_calibration_split_is_looked_at(place: Path) -> None:
    found, _ = prepared(place, costs=(1.0, 4.0))
    alone = one_per_group(found.select)
    units = Guide(found.guides[0], found.select.y).take(alone)
    question = Question(Targets.parse("error=0.12"), 0.1, ("a", "b"), 1)
    rows = evidence_of(found.calib, found.outputs[0], None, None)
    scores = {name: "msp" for name in POLICIES if name != "gate"}

    def tried(rows: Evidence, found: PreparedCascade) -> tuple[Tried, ...]:
        staged = CascadeTry.of(found, alone, priced=True)
        return choose_policy(question, rows, scores, units, cascade=staged)

    blind = replace(
        found,
        calib=replace(found.calib, y=1 - found.calib.y),
        outputs=tuple(o.take(np.zeros(len(o), int)) for o in found.outputs),
    )
    assert tried(rows, found) == tried(replace(rows, labels=1 - rows.labels), blind)


def test_policies_of_one_run_are_tried_on_the_images_that_all_stages_have(place: Path) -> None:
    store = FeatureStore.open(place / "s.zarr")
    add_view(store, "part", blobs(N)[0], shards=20)
    fit(str(store.path), out=place / "part", view="part", positive="b")
    calibrate(place / "part", target="coverage=0.5", store=place / "s.zarr")
    answer = auto(place, stages=str(place / "part"), stage_costs="1,4")
    whole = calibrate(place / "small", store=place / "s.zarr", **ASKED)
    first, second = (a.tried[0].coverage for a in (answer, whole))
    assert first != second
    lines = "\n".join(answer.warnings)
    assert "images of val_calib that another stage lacks" in lines


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": None, "human_cost": 3.0}, "--human-cost is about the stages of a cascade"),
        ({"stages": None, "last_decides": True}, "--last-decides is about the stages"),
        ({"cost": "error=5,defer=1", "target": None}, "--cost and --per-group belong"),
        ({"per_group": "camera"}, "--cost and --per-group belong"),
        ({"score": "knn"}, "--score knn cannot rank the images of a cascade's stages"),
        ({"stage_costs": "1"}, "2 stages need as many costs, got 1"),
        ({"stage_costs": "1,x"}, "--stage-costs 1,x: give one number for each stage"),
        ({"stage_costs": "1,-2"}, "costs must be finite and at least 0"),
        ({"human_cost": -1.0}, "costs must be finite and at least 0"),
        ({"stage_costs": "1,2", "view_seconds": "base=1,large=2"}, "not both"),
        ({"stages": " ,"}, "give one run or more"),
        ({"target": "coverage=0.8"}, "chooses by coverage"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    place: Path, settings: dict[str, Any], message: str
) -> None:
    before = {p.name: p.read_bytes() for p in (place / "small").iterdir()}
    with pytest.raises(ConfigError, match=message):
        auto(place, **settings)
    assert {p.name: p.read_bytes() for p in (place / "small").iterdir()} == before


def test_an_infeasible_target_says_so_whoever_was_tried(place: Path) -> None:
    answer = auto(place, target="error=0.0001", stage_costs="1,4")
    assert not answer.feasible
    assert all(t.coverage in {0, None} for t in answer.tried)
    assert "none was certified in any of them" in "\n".join(answer.lines())
