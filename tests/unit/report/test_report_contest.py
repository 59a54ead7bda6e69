import re
from dataclasses import replace
from math import inf, nan

import numpy as np

from selectkit.report import PolicyRow
from selectkit.report.contest import Contest, Line, curve, look, markdown, render
from tests.unit.report.test_report_page import Page, _report

LINES = (
    Line("other", "augrc", 0.31, 0.37, (-0.06, -0.09, -0.03), 0.02, "better"),
    Line("other", "accuracy", 0.625, 0.5, (0.125, -0.01, 0.26), 0.4, "not told apart"),
    Line("other", "auroc_failure", nan, 0.5, (nan, nan, nan), nan, "not told apart"),
    Line("other", "coverage", 0.0, 0.5, (-0.5, -0.7, -0.3), 0.01, "worse"),
    Line("other", "error", nan, 0.25, (nan, nan, nan), nan, "not told apart"),
)


def test_a_wish_is_not_shown_as_a_promise() -> None:
    text = Page(render(_contest())).text
    assert "Certified: error <= 5\xa0%, confidence 90\xa0%" in text
    assert "Not certifiable: error <= 1\xa0%" in text
    assert "nothing was decided" in text
    assert "they are no promise" in text
    assert "25\xa0% (1 of 4); 95\xa0% interval 10 to 50\xa0%" in text


def test_differences_say_which_way_is_better_and_in_what_unit() -> None:
    text = Page(render(_contest())).text
    assert "AUGRC, less is better0.31000.3700-0.0600-0.0900 to -0.03000.02better" in text
    assert "Accuracy, more is better62.5\xa0%50\xa0%+12.50 points-1.00 to +26.000.4" in text
    assert "Failure AUROC, more is better–0.5000–––not told apart" in text
    assert "Coverage, more is better0\xa0%50\xa0%-50.00 points-70.00 to -30.000.01worse" in text
    assert "Error among decided, less is better–25\xa0%–––not told apart" in text


def test_every_cell_names_its_column_where_columns_do_not_fit() -> None:
    page = Page(render(_contest()))
    assert all(cell["data-label"] for cell in page.all("td"))


def test_markdown_says_the_same() -> None:
    document = markdown(replace(_contest(), notes=("few errors",)))
    assert "* few errors" in document
    assert "| the\\_other | Not certifiable: error &lt;= 1 % | 0 % | nothing" in document
    assert "| other | AUGRC, less is better | 0.3100 | 0.3700 | -0.0600 |" in document


def test_a_warning_comes_first() -> None:
    text = Page(render(replace(_contest(), notes=("few <errors>",)))).text
    assert text.index("few <errors>") < text.index("Policies")


def test_the_words_for_the_picture_say_what_the_policies_do() -> None:
    alt = curve(_contest(), generalized=False).alt
    assert "demo: error 37.5\xa0% if everything is decided, 25\xa0% among the 50\xa0%" in alt
    assert "its policy decides nothing" in alt


def test_no_two_of_twelve_curves_look_alike() -> None:
    assert len({look(i) for i in range(12)}) == 12
    names = tuple(f"a-run-with-a-very-long-name-and-number-{i}" for i in range(12))
    drawn = curve(Contest(names, (_report(),) * 12, 8, LINES), generalized=True).svg().decode()
    assert len(set(re.findall(r">(a-run-[^<]*)</text>", drawn))) == 12


def _contest() -> Contest:
    first = _report()
    infeasible = replace(
        first, promise="infeasible", target="error <= 1 %", threshold=inf,
        accepted=np.zeros(8, dtype=np.bool_),
        policies=(PolicyRow("p", (0.0, 0.0, 0.3), (nan, nan, nan), 8, "nothing", active=True),),
    )  # fmt: skip
    return Contest(("demo", "the_other"), (first, infeasible), 8, LINES)
