"""The threshold explorer of a real run, under a real mouse and real keys."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import run_cli
from tests.e2e.devtools import Page
from tests.e2e.test_report_browser import BROWSER

SLIDER = "#explorer-threshold"
READ = """(() => {
  const slider = document.querySelector("#explorer-threshold");
  const at = {place: Number(slider.value), last: Number(slider.max),
              said: slider.getAttribute("aria-valuetext"),
              threshold: document.querySelector("#explorer output").textContent,
              note: document.querySelector("[data-note=cost]").textContent};
  for (const d of document.querySelectorAll("[data-of]"))
    at[d.dataset.of] = {value: d.value, shown: d.textContent};
  return at;
})()"""

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome on the PATH")


@pytest.fixture(scope="module")
def evaluated(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("explorer") / "run"
    for command in (
        ("fit", store, "--out", run, "--positive", "high"),
        ("calibrate", run, "--target", "error=0.12"),
        ("evaluate", run, "--replicates", 100),
    ):
        done = run_cli(*command)
        assert done.code == 0, done.err
    return run


@pytest.fixture
def page(evaluated: Path, tmp_path: Path) -> Iterator[Page]:
    with Page(tmp_path / "profile") as page:
        page.open(evaluated / "report.html")
        yield page
        assert page.console == []


def test_at_first_it_shows_the_policy_as_it_was_measured(evaluated: Path, page: Page) -> None:
    measured = json.loads((evaluated / "metrics.json").read_text())
    operating = measured["metrics"]["operating"]
    seen = page.ask(READ)
    named = {"coverage": "coverage", "error": "error", "fnr": "fnr", "miss": "miss_rate"}
    for place, name in named.items():
        assert float(seen[place]["value"]) == pytest.approx(operating[name]["value"], abs=1e-12)
        assert _rate(seen[place]["shown"]) == pytest.approx(operating[name]["value"], abs=6e-4)
    active = next(row for row in measured["policies"] if row["active"])
    per_day = 1000 * active["deferred"] / measured["split"]["n"]
    assert float(seen["deferred"]["value"]) == pytest.approx(per_day)
    assert "(this policy)" in seen["threshold"]


def test_the_mouse_moves_the_slider_and_the_numbers_follow(evaluated: Path, page: Page) -> None:
    before = page.ask(READ)
    page.drag(_thumb(page), _along(page, 1.0))
    all_decided = page.ask(READ)
    assert all_decided["place"] == all_decided["last"] > before["place"]
    assert all_decided["coverage"] == {"value": "1", "shown": "100\u00a0%"}
    assert float(all_decided["deferred"]["value"]) == 0
    whole = json.loads((evaluated / "metrics.json").read_text())["metrics"]["all"]
    wrong = float(all_decided["error"]["value"])
    assert wrong == pytest.approx(1 - whole["accuracy"]["value"], abs=1e-12)
    page.drag(_thumb(page), _along(page, 0.3))
    third = page.ask(READ)
    assert third["place"] == pytest.approx(0.3 * third["last"], abs=0.02 * third["last"] + 1)
    assert 0 < float(third["coverage"]["value"]) < 1
    assert "(this policy)" not in third["threshold"]
    page.drag(_along(page, 0.6), _along(page, 0.6), steps=0)
    clicked = page.ask(READ)
    assert third["place"] < clicked["place"] < clicked["last"]
    page.click("#explorer-policy")
    assert page.ask(READ) == before


def test_keys_do_what_the_mouse_does(page: Page) -> None:
    first = page.ask(READ)
    _tab_to(page, "explorer-threshold")
    for keys, place in (
        (["ArrowRight"], first["place"] + 1),
        (["ArrowLeft"] * 3, first["place"] - 2),
        (["ArrowUp"], first["place"] - 1),
        (["End"], first["last"]),
        (["Home"], 0),
    ):
        for key in keys:
            page.press(key)
        seen = page.ask(READ)
        assert seen["place"] == place
        assert seen["coverage"]["shown"] in seen["said"]
    assert seen["coverage"]["shown"] == "0\u00a0%"
    assert seen["error"]["shown"] == "–"
    page.press("PageUp")
    assert page.ask(READ)["place"] > 1


def test_volume_and_cost_are_typed_and_buttons_pressed_from_the_keyboard(page: Page) -> None:
    first = page.ask(READ)
    _tab_to(page, "explorer-volume")
    page.write("5000")
    for name in ("miss", "false_alarm"):
        _tab_to(page, f"explorer-{name}")
        page.write("0")
    seen = page.ask(READ)
    assert float(seen["deferred"]["value"]) == pytest.approx(5 * float(first["deferred"]["value"]))
    assert float(seen["cost"]["value"]) == pytest.approx(float(seen["deferred"]["value"]))
    _tab_to(page, "explorer-defer")
    page.write("2.5")
    dearer = page.ask(READ)
    assert float(dearer["cost"]["value"]) == pytest.approx(2.5 * float(seen["cost"]["value"]))
    assert page.ask("document.querySelector('[data-command]').textContent") == (
        "selectkit calibrate RUN --policy two_sided --cost miss=0,false_alarm=0,defer=2.5"
    )
    _tab_to(page, "explorer-policy")
    _tab_to(page, "explorer-cheapest")
    page.press("Enter")
    cheapest = page.ask(READ)
    assert cheapest["place"] == cheapest["last"]
    assert float(cheapest["cost"]["value"]) == 0


def test_a_policy_of_least_cost_is_shown_at_its_costs(evaluated: Path, tmp_path: Path) -> None:
    run = shutil.copytree(evaluated, tmp_path / "run")
    for command in (
        ("calibrate", run, "--policy", "two_sided", "--cost", "miss=12,defer=0.5,false_alarm=3"),
        ("evaluate", run, "--replicates", 100),
    ):
        done = run_cli(*command)
        assert done.code == 0, done.err
    measured = json.loads((run / "metrics.json").read_text())
    active = next(row for row in measured["policies"] if row["active"])
    with Page(tmp_path / "profile") as page:
        page.open(run / "report.html")
        seen = page.ask(READ)
        assert page.console == []
    assert 0 < active["deferred"] < measured["split"]["n"]
    assert float(seen["cost"]["value"]) == pytest.approx(1000 * active["cost"]["value"])
    assert "12 × " in seen["note"]
    assert "3 × " in seen["note"]
    assert "0.5 × " in seen["note"]


def test_everything_that_moves_can_be_reached_with_tab_and_shows_where_it_is(page: Page) -> None:
    reachable = page.ask(
        "[...document.querySelectorAll('input, button, [tabindex]')]"
        ".filter((e) => e.checkVisibility()).length"
    )
    seen = []
    for _ in range(reachable):
        page.press("Tab")
        seen.append(page.ask(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            "return [[...document.querySelectorAll('*')].indexOf(e), e.tagName, s.outlineStyle,"
            "parseFloat(s.outlineWidth)]; })()"
        ))  # fmt: skip
    assert len({place for place, *_ in seen}) == reachable >= 5
    assert all(outline != "none" and width >= 1 for _, _, outline, width in seen), seen


def _thumb(page: Page) -> tuple[float, float]:
    seen = page.ask(READ)
    return _along(page, seen["place"] / seen["last"])


def _along(page: Page, share: float) -> tuple[float, float]:
    """A place on the slider; its thumb is 16 px wide and stays inside."""
    left, top, width, height = page.box(SLIDER)
    return left + 8 + share * (width - 16), top + height / 2


def _tab_to(page: Page, name: str) -> None:
    for _ in range(40):
        page.press("Tab")
        if page.ask("document.activeElement.id") == name:
            return
    raise AssertionError(f"Tab never reaches {name}")


def _rate(shown: str) -> Any:
    return float(shown.removesuffix("\u00a0%")) / 100
