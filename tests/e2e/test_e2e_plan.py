"""`selectkit plan`: without a run from arithmetic, with a run from its val_select."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectkit.errors import LeakageError
from selectkit.pipeline import RunDirectory, plan
from selectkit.pipeline.plan_run import sources_of
from tests.e2e.conftest import Result, run_cli

Cli = Callable[..., Result]
ROAD = ("plan", "--target", "fnr=0.02", "--delta", "0.1", "--prevalence", "0.1")


@pytest.fixture
def mine(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture(scope="module")
def uncalibrated(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uncalibrated") / "run"
    assert run_cli("fit", store, "--out", path).code == 0
    return path


def _json(result: Result) -> Any:
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_the_budget_of_two_per_cent(cli: Cli) -> None:
    found = _json(cli(*ROAD, "--json"))
    assert [b["evidence"] for b in found["budget"]] == [49, 114, 194, 265, 333, 398, 462]
    assert [b["kind"] for b in found["budget"]] == ["expectation"] + 6 * ["pac"]
    assert found["budget"][1] == {
        "promise": "90 % sure, no error", "kind": "pac", "errors": 0, "evidence": 114,
        "calib": 1312, "labelled": 6597, "verified": 13202,
    }  # fmt: skip
    assert (found["share"], found["fractions"]) == (0.1, {"val_calib": 0.2, "val_test": 0.1})
    curves = {c["true_rate"]: c for c in found["power"]["curves"]}
    assert sorted(curves) == pytest.approx([0.005, 0.01, 0.015])
    half = curves[0.01]
    assert half["needed"]["0.8"] == 8210
    assert 5 * half["needed"]["0.8"] == pytest.approx(half["labelled"]["0.8"], rel=0.01)
    assert found["forecasts"] == []
    assert found["run"] is None


def test_the_tables_say_the_same(cli: Cli) -> None:
    done = cli(*ROAD)
    assert done.code == 0
    for part in (
        "90 % sure, no error", "114", "1,312", "6,597", "13,202", "Chance of a certificate",
        "8,210", "█", "at 10 % of all", "20 % of the images are in val_calib", "count as one",
        "next: selectkit plan RUN --target fnr=0.02",
    ):  # fmt: skip
        assert part in done.out, part
    assert done.err == ""


def test_the_documented_output_is_the_real_one(cli: Cli) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "planning.md").read_text("utf-8")
    shown = text.split("--prevalence 0.1\n\n")[1].split("\n```")[0]
    lines = [line.rstrip() for line in cli(*ROAD).out.rstrip().splitlines()]
    assert shown.splitlines() == lines


def test_without_a_prevalence_evidence_is_counted(cli: Cli) -> None:
    done = cli("plan", "--target", "fpr=0.05")
    assert done.code == 0
    assert "decided negatives" in done.out
    assert "val_calib" not in done.out
    assert "--prevalence, the share of positives" in done.out


@pytest.mark.parametrize(
    ("target", "settings", "share"),
    [
        ("fnr=0.1", {"prevalence": 0.2, "coverage": 0.5}, 0.1),
        ("miss_rate=0.1", {"prevalence": 0.2}, 0.2),
        ("fpr=0.1", {"prevalence": 0.2, "coverage": 0.5}, 0.4),
        ("false_alarm=0.1", {"prevalence": 0.2}, 0.8),
        ("error=0.1", {}, 1.0),
        ("error=0.1", {"coverage": 0.5}, 0.5),
    ],
)
def test_the_share_of_images_that_is_evidence(
    target: str, settings: dict[str, Any], share: float
) -> None:
    assert plan(target=target, **settings).share == pytest.approx(share)


def test_a_split_without_test_rows_verifies_nothing() -> None:
    found = plan(target="error=0.1", fractions="0.5,0.2,0.3,0")
    assert {b.verified for b in found.budget} == {None}
    assert found.budget[1].labelled is not None


def test_numbers_of_labels_can_be_asked_for(cli: Cli) -> None:
    found = _json(cli("plan", "--target", "error=0.05", "--labels", "90,45,44", "--json"))
    curve = found["power"]["curves"][0]
    assert curve["numbers"] == [44, 45, 90]
    assert curve["at"][0] == 0
    assert curve["at"][1] == pytest.approx((1 - curve["true_rate"]) ** 45)


@pytest.mark.parametrize("rate", ["0.05", "0.2"])
def test_no_number_of_labels_is_exit_code_1(cli: Cli, rate: str) -> None:
    done = cli("plan", "--target", "error=0.05", "--true-risk", rate)
    assert done.code == 1
    assert "INFEASIBLE: no number of labels will do" in done.out
    document = cli("plan", "--target", "error=0.05", "--true-risk", rate, "--json")
    assert document.code == 1
    assert json.loads(document.out)["feasible"] is False


@pytest.mark.parametrize(("prevalence", "code"), [(1e-9, 0), (0.999, 0), (1e-300, 2)])
def test_extreme_prevalences(cli: Cli, prevalence: float, code: int) -> None:
    done = cli("plan", "--target", "fnr=0.02", "--prevalence", prevalence, "--json")
    assert done.code == code
    if code:
        assert done.err.startswith("error: more than 10^15 images would be needed")
        return
    found = json.loads(done.out)
    assert found["budget"][1]["calib"] >= 114 / prevalence
    for curve in found["power"]["curves"]:
        assert curve["numbers"][-1] >= curve["needed"]["0.95"]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_plot_is_drawn_where_it_was_asked(
    cli: Cli, mine: Path, tmp_path: Path, suffix: str
) -> None:
    start = b"<svg" if suffix == "svg" else b"\x89PNG"
    for name, arguments in (
        ("power", ROAD),
        ("forecast", ("plan", mine, "--target", "error=0.2", "--draws", 20, "--labels", "20,60")),
    ):
        drawn = []
        for i in range(2):
            path = tmp_path / f"{name}{i}.{suffix}"
            done = cli(*arguments, "--plot", path)
            assert done.code == 0, done.err
            assert f"plot: {path}" in done.out
            drawn.append(path.read_bytes())
        assert drawn[0] == drawn[1]
        assert drawn[0].startswith(start)
        if suffix == "svg":
            text = drawn[0].decode()
            assert ("true rate 0.5" in text) == (name == "power")
            assert ("INFEASIBLE" in text) == (name == "forecast")


def test_a_run_says_what_coverage_to_expect(cli: Cli, mine: Path) -> None:
    before = {p.name: p.read_bytes() for p in mine.iterdir() if p.name != "log.jsonl"}
    arguments = ("plan", mine, "--target", "error=0.2", "--labels", "5,30,300", "--draws", 60)
    found = _json(cli(*arguments, "--json"))
    few, some, many = found["forecasts"]
    assert few["infeasible"] == 1  # ten would be needed without an error
    assert few["mean"] is None
    assert many["infeasible"] < 0.1
    assert some["expected"] <= many["expected"] + 0.05
    assert 0 < many["low"] <= many["mean"] <= many["high"] <= 1
    assert found["judged_by"] == "the score of the run's policy, msp"
    assert found["share"] == 1
    assert _json(cli(*arguments, "--json")) == found
    assert {p.name: p.read_bytes() for p in mine.iterdir() if p.name != "log.jsonl"} == before
    assert json.loads((mine / "log.jsonl").read_text().splitlines()[-1])["event"] == "plan"
    text = cli(*arguments)
    assert "with 300 labelled images in val_calib you can expect to decide" in text.out or (
        "with 30 labelled images in val_calib you can expect to decide" in text.out
    )
    assert "an estimate, and an optimistic one" in text.err
    again = cli("calibrate", mine, "--target", "error=0.2")  # a plan is no earlier threshold
    assert "2 earlier policies" not in again.err


def test_before_calibrate_msp_decides(cli: Cli, uncalibrated: Path) -> None:
    found = _json(cli("plan", uncalibrated, "--target", "miss_rate=0.2", "--draws", 20, "--json"))
    assert found["judged_by"].startswith("msp")
    assert 0 < found["share"] < 1
    assert found["evidence"] == "positives"
    assert len(found["forecasts"]) > 3


def test_only_val_select_is_looked_at(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    read = RunDirectory.outputs

    def outputs(self: RunDirectory, store: Any, split: str, calibrator: Any = None) -> Any:
        seen.append(split)
        return read(self, store, split, calibrator)

    monkeypatch.setattr(RunDirectory, "outputs", outputs)
    plan(mine, target="error=0.2", labels="50", draws=20)
    assert seen == ["val_select"]
    opened = RunDirectory.open(mine)
    for split in ("train", "val_calib", "val_test"):
        rows, answers = read(opened, opened.store(), split)
        with pytest.raises(LeakageError, match=f"val_select only; got the rows of {split}"):
            sources_of(
                rows, answers.prediction, answers.probabilities.max(axis=1), risk="error",
                positive=None,
            )  # fmt: skip


def test_a_rate_above_that_of_all_images_decides_all_of_them(mine: Path) -> None:
    opened = RunDirectory.open(mine)
    select, answers = opened.outputs(opened.store(), "val_select", opened.calibrator()[0])
    assert (answers.prediction != select.y).mean() < 0.15
    assert plan(mine, target="error=0.25", labels="20000", draws=40).forecasts[0].mean == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no target: say what is to be promised"),
        (("--target", "fnr=2"), "did you mean fnr=0.02"),
        (("--target", "fnr=0.02,fpr=0.1"), "one target is asked for here"),
        (("--target", "coverage=0.8"), "is no promise about errors"),
        (("--target", "deferral=0.3"), "is no promise about errors"),
        (("--target", "fnr=0.02", "--delta", "1"), "delta = 1"),
        (("--target", "fnr=0.02", "--prevalence", "0"), "prevalence = 0"),
        (("--target", "fnr=0.02", "--coverage", "0.5"), "need --prevalence"),
        (("--target", "error=0.02", "--prevalence", "0.5"), "has no say in error=0.02"),
        (
            ("--target", "miss_rate=0.02", "--prevalence", "0.5", "--coverage", "0.5"),
            "has no say in miss_rate=0.02",
        ),
        (("--target", "error=0.02", "--fractions", "1,2"), "give four numbers"),
        (("--target", "error=0.02", "--fractions", "0.9,0.1,0,0"), "nothing can be certified"),
        (("--target", "error=0.02", "--fractions", "0.9,0.1,0.5,0"), "must sum to 1"),
        (("--target", "error=0.02", "--labels", "many"), "give whole numbers of images"),
        (("--target", "error=0.02", "--labels", "0,10"), "numbers from 1 to 1,000,000"),
        (("--target", "error=0.02", "--labels", "2000000"), "numbers from 1 to 1,000,000"),
        (("--target", "error=0.02", "--draws", "1"), "draws = 1"),
        (("--target", "error=0.02", "--plot", "x.pdf"), "written as .svg or .png"),
        (("--target", "error=0.02", "--plot", "no/such/x.svg"), "in a folder that exists"),
        (("--target", "error=0.02", "--store", "s.zarr"), "--store belongs to a run"),
        (("no-such-run", "--target", "error=0.02"), "no run at no-such-run"),
    ],
)
def test_unusable_plans_are_one_line(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    done = cli("plan", *arguments)
    assert done.code == 2, done
    assert len(done.err.strip().splitlines()) == 1
    assert message in done.err


@pytest.mark.parametrize("setting", ["prevalence", "coverage", "fractions", "true-risk"])
def test_what_a_run_knows_itself_is_refused(cli: Cli, mine: Path, setting: str) -> None:
    value = "0.5,0.1,0.2,0.2" if setting == "fractions" else "0.5"
    done = cli("plan", mine, "--target", "error=0.2", f"--{setting}", value)
    assert done.code == 2
    assert f"--{setting} is for planning without a run" in done.err


def test_scores_that_never_will_do(cli: Cli, mine: Path) -> None:
    done = cli("plan", mine, "--target", "error=0.001", "--labels", "100", "--draws", 20)
    assert done.code == 1
    assert "it takes at least 2,302 decided images" in done.out
    done = cli("plan", mine, "--target", "error=0.001", "--labels", "20000", "--draws", 20)
    assert (done.code == 1) == ("with these scores no number of labels will do" in done.out)
