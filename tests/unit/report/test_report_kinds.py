"""What reports show of promises, prediction sets, cascades and costs."""

import re
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from selectkit.report import PolicyRow, RunReport, Thumbnail, kept, markdown, render, sets, stages
from selectkit.report.archive import from_artifact, to_artifact
from selectkit.report.comparison import Contrast, contrasts
from selectkit.report.parts import (
    ClassSets,
    Flow,
    FrontPoint,
    PromiseRow,
    Sets,
    SizeRow,
    StageRow,
)
from selectkit.report.sections import drawings

EVIL = "\">'><script>alert('x')</script>"


def _promise(**changes: object) -> PromiseRow:
    row = PromiseRow(
        promise="at most 5 % of automatically decided images are wrong", risk="error", about=None,
        kind="pac", limit=0.05, estimate=(0.04, 0.01, 0.09), events=4, trials=100,
        unit="decided images", held=True, verdict="held",
    )  # fmt: skip
    return replace(row, **changes)  # type: ignore[arg-type]


SETS = Sets(
    decides="accepted",
    metrics={
        "mean_set_size": (1.5, 1.2, 1.8), "set_coverage": (0.875, 0.6, 0.98),
        "singleton_share": (0.5, 0.3, 0.7), "singleton_error": (nan, nan, nan),
    },
    sizes=(SizeRow(1, 4, 4), SizeRow(2, 4, 3)),
    classes=(ClassSets("no", 5, 4, 4, 2, 0, 1.5), ClassSets(EVIL, 3, 0, 0, 0, 0, nan)),
    n_classes=2,
)  # fmt: skip
FLOW = Flow(
    stages=(
        StageRow(EVIL, "msp >= 0.9", 0.1, 8, 4, 1, (0.25, 0.01, 0.8), (1.0, 0.6, 0.1)),
        StageRow("big", "always", 2.0, 4, 2, 0, (0.0, 0.0, 0.84), (0.4, 0.5, nan)),
    ),
    n=8, unit="EUR", human=5.0, cost=(2.35, 1.0, 4.0), risk="error", limit=0.2,
    measured=(2.35, 1 / 6),
    front=(FrontPoint(2.0, 0.1, 0.9, True, True), FrontPoint(1.0, 0.3, 1.0, False, False)),
)  # fmt: skip


def _report(**parts: object) -> RunReport:
    report = RunReport(
        title="t", run="r", created="c", target="error <= 5 %", promise="pac",
        certificate=("It holds.",), policies=(), metrics={}, classes=("no", "yes"), positive=None,
        labels=np.array([0, 0, 0, 0, 1, 1, 1, 1]), predictions=np.array([0, 0, 1, 0, 1, 1, 0, 1]),
        confidence=np.linspace(0.9, 0.5, 8), accepted=np.arange(8) < 4, threshold=0.7, score="msp",
    )  # fmt: skip
    return replace(report, **parts)  # type: ignore[arg-type]


def test_a_promise_stands_beside_its_figure() -> None:
    html = kept.section(_report(promises=(_promise(),)))
    assert "At most 5 % of automatically decided images are wrong" in html
    assert '<data value="0.04">4\xa0%</data>' in html
    assert "1 to 9\xa0%" in html
    assert "4 of 100 decided images" in html
    assert '<tr class="held">' in html
    assert kept.section(_report()) == ""


@pytest.mark.parametrize(
    ("changes", "tone"),
    [
        ({}, "held"),
        ({"held": False, "verdict": "above, within chance"}, "open"),
        ({"held": False, "verdict": "exceeded"}, "exceeded"),
        ({"held": None, "verdict": "no such image", "estimate": (nan, nan, nan)}, "open"),
        ({"kind": "none", "verdict": "met, not promised"}, "open"),
    ],
)
def test_the_tone_of_a_verdict(changes: dict[str, object], tone: str) -> None:
    html = kept.section(_report(promises=(_promise(**changes),)))
    assert f'<tr class="{tone}">' in html


def test_costs_are_no_percentages() -> None:
    row = _promise(risk="cost", limit=3.0, estimate=(2.5, 1.0, 4.0), events=None, unit="images")
    assert kept.figure(row) == ("2.5", "1 to 4", "100 images")
    assert kept.figure(_promise(held=None)) == ("–", "–", "–")


def test_of_very_many_promises_the_worst_are_shown() -> None:
    rows = tuple(
        _promise(about=f"class {i}", estimate=(i / 1000, 0.0, 1.0)) for i in range(kept.MOST + 20)
    )
    shown = kept.foremost((*rows, _promise(about="class none", estimate=(nan, nan, nan))))
    assert [row.about for row in shown] == [f"class {i}" for i in range(20, kept.MOST + 20)]
    assert f"{kept.MOST} of {len(rows)}" in kept.section(_report(promises=rows))


def test_sets_in_numbers() -> None:
    report = _report(sets=SETS)
    html = sets.section(report)
    assert '<data value="1.5">1.50</data>' in html
    assert "7 of 8; 95 % interval 60 to 98\xa0%" in html
    assert "nothing is promised of it" in html
    assert "100\xa0% (4 of 4)" in html
    assert "alert" in html
    assert "<script" not in html
    tiles = render(report)
    assert "True class not in the set" in tiles
    assert "1 of 8; 95 % interval 2 to 40\xa0%" in tiles
    assert "True class not in the set, most confident first" in tiles
    exits = replace(SETS, decides="singletons")
    assert "certified on its own" in sets.section(_report(sets=exits))
    assert "Wrong among decided" in render(_report(sets=exits))


def test_no_set_at_all() -> None:
    nothing = replace(SETS, sizes=(), metrics=dict.fromkeys(SETS.metrics, (nan, nan, nan)))
    html = render(_report(sets=nothing, accepted=np.zeros(8, dtype=bool)))
    assert "0 of 8 images" in html
    assert "<svg" in html
    assert "set-sizes" not in drawings(_report(sets=nothing))


def test_large_sets_share_a_bar() -> None:
    many = replace(SETS, sizes=tuple(SizeRow(size, 2, 1) for size in (1, 11, 12, 40)))
    alt = sets.sizes(many).alt
    assert "1: 2, 1 without" in alt
    assert "11: 2, 1 without" in alt
    assert "12+: 4, 2 without" in alt
    twelve = replace(SETS, sizes=(SizeRow(12, 3, 3),))
    assert "12: 3, 0 without" in sets.sizes(twelve).alt


def test_stages_in_numbers() -> None:
    html = stages.section(_report(flow=FLOW))
    assert "An image costs 2.35 EUR on average (95 % interval 1 to 4)" in html
    assert "a deferred one 5 EUR more" in html
    assert "100\xa0% (8)" in html
    assert "25\xa0% (1 of 4)" in html
    assert "val_calib: 60\xa0%" in html
    assert "<script" not in html
    alt = stages.flow(FLOW).alt
    assert "decides 4 of 8, 25\xa0% wrong" in alt
    assert alt.endswith("deferred: 2.")
    assert "1 of them certified. This policy costs 2 EUR at risk 10\xa0%." in stages.front(FLOW).alt
    unknown = replace(FLOW, human=None, front=(), measured=(2.35, nan))
    html = stages.section(_report(flow=unknown))
    assert "not counting what becomes of deferred images" in html
    assert "Cost against risk" not in html


def test_a_stage_that_nothing_reaches() -> None:
    idle = replace(FLOW.stages[1], reached=0, decided=0, wrong=0, error=(nan, nan, nan),
                   before=(0.0, nan, nan))  # fmt: skip
    flow = replace(FLOW, stages=(FLOW.stages[0], idle))
    assert "no image reaches it" in stages.flow(flow).alt
    assert "nan" not in re.sub(r'value="nan"', "", stages.section(_report(flow=flow)))


def test_nothing_is_shown_of_what_a_policy_lacks() -> None:
    report = _report()
    assert (sets.section(report), stages.section(report)) == ("", "")
    assert not {"set-sizes", "stages", "front"} & set(drawings(report))


def test_a_cascade_has_no_threshold_to_explore() -> None:
    assert '<section id="explorer"' in render(_report())
    html = render(_report(tunable=False, threshold=nan))
    assert '<section id="explorer"' not in html
    assert "this policy is no threshold on it" in html
    assert "threshold –" not in html


def test_mean_costs_have_a_column() -> None:
    row = PolicyRow("p", (0.5, 0.4, 0.6), (0.1, 0.0, 0.2), 4, "nothing", active=True,
                    cost=(1.25, 1.0, 1.5))  # fmt: skip
    other = replace(row, policy="q", active=False, cost=None)
    html = render(_report(policies=(row, other)))
    assert '<data value="1.25">1.25</data>' in html
    assert '<span class="interval" data-low="1.0" data-high="1.5">1 to 1.5</span>' in html
    assert "Mean cost" in html
    assert "Mean cost" not in render(_report(policies=(other,)))
    assert "| 1.25 |" in markdown.document(_report(policies=(row, other)), "figures")


def test_the_archive_keeps_every_part() -> None:
    row = PolicyRow("p", (0.5, 0.4, 0.6), (nan, nan, nan), 4, "nothing", cost=(1.0, nan, nan))
    unmeasured = _promise(held=None, estimate=(nan, nan, nan), events=None)
    report = _report(promises=(_promise(), unmeasured), sets=SETS, flow=FLOW, policies=(row,),
                     tunable=False, ranked_by="by luck")  # fmt: skip
    values, arrays = to_artifact(report)
    again = from_artifact(values, arrays)
    assert repr(again.promises) == repr(report.promises)
    assert repr(again.sets) == repr(report.sets)
    assert repr(again.flow) == repr(report.flow)
    assert repr(again.policies) == repr(report.policies)
    assert (again.tunable, again.ranked_by) == (False, "by luck")
    assert render(again) == render(report)


def test_archives_of_before_are_read() -> None:
    values, arrays = to_artifact(_report())
    for later in ("ranked_by", "tunable", "promises", "sets", "flow"):
        del values[later]
    again = from_artifact(values, arrays)
    assert (again.ranked_by, again.tunable, again.promises) == ("", True, ())
    assert (again.sets, again.flow) == (None, None)


def test_markdown_has_the_tables() -> None:
    report = _report(promises=(_promise(),), sets=SETS, flow=FLOW, ranked_by="Ranked by luck.")
    text = markdown.document(report, "figures")
    for heading in ("## Promises, checked", "## Prediction sets", "## Stages"):
        assert heading in text
    assert "| 4 % | 1 to 9 % | 4 of 100 decided images | held |" in text
    assert "| 2 | 4 | 1 | 25 % |" in text
    assert "| --- | ---: | ---: | ---: | --- |\n| At most 5 %" in text
    assert "### Images through the stages\n\n![Of 8 images: " in text
    assert "Ranked by luck." in text
    assert "<script" not in text
    nothing = replace(report, promise="infeasible", certificate=("INFEASIBLE: too few.",))
    told = markdown.document(nothing, "figures")
    assert told.index("Nothing is promised") < told.index("INFEASIBLE: too few.")


def test_images_that_no_threshold_decides_have_no_score() -> None:
    never = Thumbnail("a.png", None, "cat", "dog", -np.inf)
    html = render(_report(deferrals=(never, replace(never, confidence=0.25))))
    assert "dog</span> (always deferred)" in html
    assert "dog</span> at 0.2500" in html
    assert "∞" not in html


def test_the_slider_ends_where_nothing_more_can_be_decided() -> None:
    report = _report()
    assert "<span>decide everything</span>" in render(report)
    confidence = np.where(report.accepted, report.confidence, -np.inf)
    html = render(replace(report, confidence=confidence))
    assert "<span>decide every image that it may decide</span>" in html


def test_a_chart_of_scores_says_what_it_shows() -> None:
    lines = [Contrast("msp", 0.0, nan, nan, False), Contrast("knn", 2.5, 1.0, 4.0, True)]
    drawn = contrasts(lines, reference="msp", about="AUGRC on val_select")
    told = drawn.svg().decode()
    assert 'role="img"' in told
    assert "AUGRC on val_select. Difference from msp in thousandths: knn +2.50." in told
    assert "1e-3" not in told
    assert drawn.png().startswith(b"\x89PNG")
