import json
from pathlib import Path

import pytest

from benchmarks._scaling_results import Results
from benchmarks._scaling_tables import document, tables
from benchmarks.scaling import DOCUMENT, RESULTS, print_plan

BY = ("model", "simulation")


def test_the_tables_are_made_from_the_committed_results() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    results = Results.read(RESULTS)
    assert document(text, results) == text
    for name, table in tables(results).items():
        assert f"<!-- table: {name} -->\n{table}\n<!-- end -->" in text


def test_the_document_is_short() -> None:
    assert len(DOCUMENT.read_text(encoding="utf-8").splitlines()) < 240


def test_every_linked_file_exists() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for link in (part.partition(")")[0] for part in text.split("](")[1:]):
        if not link.startswith("https://"):
            assert (DOCUMENT.parent / link).exists(), link


def test_the_predictions_are_near_the_committed_runs() -> None:
    results = Results.read(RESULTS)
    quiet = [q for q in results.figures if "free cores" in q and results.number(q) >= 1.6]
    errors = [q.replace("free cores", f"error of the {by}") for q in quiet for by in BY]
    assert len(errors) >= 20
    near = [abs(results.number(q)) < 0.25 for q in errors]
    assert sum(near) >= 0.9 * len(near)


def test_a_plan_can_be_made_for_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(10**6, 2, ["cores=10000", "start=0", "storage=1e15", "device_hour=1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rates = {q["question"]: q["number"] for q in lines if q["unit"] == "images/s"}
    large = "plan, 1,000,000 images, 2 devices, 7B: rate per device, limited by forward"
    assert rates[large] == pytest.approx(790e12 * 0.7 / 2725e9, rel=0.01)


@pytest.mark.parametrize("setting", ["gpus=3", "cores", "cores=many"])
def test_a_setting_that_does_not_exist_is_refused(setting: str) -> None:
    with pytest.raises(SystemExit, match=r"parameter|name=number"):
        print_plan(10**6, 1, [setting])


def test_results_are_lines_with_the_usual_keys() -> None:
    keys = {"question", "number", "unit", "spread", "versions", "machine", "commit"}
    for line in Path(RESULTS).read_text(encoding="utf-8").splitlines():
        assert set(json.loads(line)) == keys
