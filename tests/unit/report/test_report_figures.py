import re
from dataclasses import replace
from html.parser import HTMLParser
from math import inf, nan

import matplotlib as mpl
import numpy as np
import pytest

from selectkit.metrics import reliability_bins
from selectkit.report import Curve, Reliability, figures


def test_figures_use_theme_colours_only_and_leave_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)
    for picture in _all():
        assert "var(--ink)" in picture
        assert "#" not in re.sub(r'url\(#\w+\)|"#\w+"', "", picture)
        assert picture.startswith("<svg viewBox=")
        assert picture.rstrip().endswith("</svg>")
        assert "<?xml" not in picture
        assert "xmlns" not in picture
        assert "font-family" not in picture
    assert dict(mpl.rcParams) == before


def test_equal_input_draws_equal_pictures() -> None:
    assert list(_all()) == list(_all())


def test_the_curve_names_the_point_and_the_target() -> None:
    picture = figures.risk_coverage(_curve()).inline()
    assert "● 2\xa0% at 50\xa0% decided" in _texts(picture)
    assert {"target", "5\xa0%"} <= set(_texts(picture))
    assert "works at coverage 50\xa0%, risk 2\xa0%. The target is 5\xa0%." in picture
    plain = figures.risk_coverage(replace(_curve(), point=None, limit=None)).inline()
    assert "target" not in plain
    assert "●" not in plain


def test_a_curve_without_a_band_or_beyond_the_target_is_drawn() -> None:
    bare = replace(_curve(), low=np.full(4, nan), high=np.full(4, nan))
    assert figures.risk_coverage(bare).inline().count("<path") >= 2
    flat = replace(_curve(), risk=np.zeros(4), low=np.zeros(4), high=np.zeros(4), limit=None)
    assert "1\xa0%" in _texts(figures.risk_coverage(flat).inline())
    single = Curve(np.ones(1), np.ones(1), np.ones(1), np.ones(1), (1.0, 1.0))
    assert "100\xa0%" in _texts(figures.risk_coverage(single).inline())


def test_reliability_states_its_null_level() -> None:
    picture = figures.reliability(_bins()).inline()
    assert "error 0.1500; perfect probabilities would show 0.0210 on this many images" in picture
    assert "Largest gap: probability 90\xa0%, right 60\xa0% of 40." in picture
    unknown = figures.reliability(replace(_bins(), null_level=nan)).inline()
    assert "perfect probabilities" not in unknown


def test_reliability_takes_measured_bins() -> None:
    probabilities = np.array([[0.95, 0.05], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    bins = reliability_bins(probabilities, np.array([0, 0, 0, 1]), n_bins=10)
    diagram = Reliability.of(bins, null_level=0.3)
    assert diagram.low.tolist() == pytest.approx([0.6, 0.8, 0.9])
    assert diagram.high.tolist() == pytest.approx([0.7, 0.9, 1.0])
    assert diagram.count.tolist() == [2, 1, 1]
    assert diagram.accuracy.tolist() == [0.5, 1.0, 1.0]
    assert diagram.ece == pytest.approx((2 * 0.2 + 0.1 + 0.05) / 4)
    assert "3 filled bins" in figures.reliability(diagram).inline()


def test_reliability_without_samples_is_drawn() -> None:
    picture = figures.reliability(
        replace(_bins(), count=np.zeros(2, dtype=np.int64), ece=nan)
    ).inline()
    assert "0 filled bins" in picture


def test_scores_count_both_sides_of_the_threshold() -> None:
    confidence = np.array([0.3, 0.5, 0.7, 0.9, -inf])
    correct = np.array([True, False, True, True, False])
    picture = figures.scores(confidence, correct, confidence >= 0.6, 0.6, "margin").inline()
    assert "Right: 2 decided, 1 deferred" in _texts(picture)
    assert "Wrong: 0 decided, 2 deferred" in _texts(picture)
    assert "Decided: 2 right, 0 wrong. Deferred: 1 right, 2 wrong." in picture
    assert "Score: margin" in _texts(picture)


def test_crowded_probabilities_stretch_the_axis() -> None:
    confidence = 1 - np.logspace(-7, -0.5, 50)
    every = np.ones(50, dtype=np.bool_)
    crowded = _texts(figures.scores(confidence, every, every, 0.95, "msp").inline())
    assert {"0.9", "0.99", "0.999", "0.9999", "1"} <= set(crowded)
    assert "Score: msp, axis stretched towards 1" in crowded
    energy = _texts(figures.scores(10 * confidence, every, every, 9.5, "energy").inline())
    assert "Score: energy" in energy


@pytest.mark.parametrize("threshold", [0.5, 2.0, inf, -inf, nan])
def test_constant_scores_are_drawn(threshold: float) -> None:
    every = np.ones(5, dtype=np.bool_)
    picture = figures.scores(np.full(5, 0.5), every, every, threshold, "msp").inline()
    assert "Right: 5 decided, 0 deferred" in _texts(picture)
    assert "Wrong: 0 decided, 0 deferred" in _texts(picture)


def test_only_infinite_scores_are_drawn() -> None:
    none = np.zeros(3, dtype=np.bool_)
    picture = figures.scores(np.full(3, -inf), ~none, none, inf, "msp").inline()
    assert "Right: 0 decided, 3 deferred" in _texts(picture)


def test_confusion_prints_counts_of_few_classes() -> None:
    picture = figures.confusion(np.array([[1234, 5], [0, 678]]), ("<a> & $b$", "yes")).inline()
    assert {"1,234", "5", "678", "<a> & $b$", "yes"} <= set(_texts(picture))
    assert "0" not in _texts(picture)
    assert (
        "1,912 right and 5 wrong. Most frequent mistake: &lt;a&gt; &amp; $b$ taken for yes, 5"
        in (picture)
    )


def test_confusion_of_a_hundred_classes_shades_without_counts() -> None:
    matrix = 7 * np.eye(100, dtype=np.int64)
    matrix[3, 5] = 123
    texts = _texts(figures.confusion(matrix, tuple(f"c{i}" for i in range(100))).inline())
    assert "123" not in texts
    assert "c90" in texts
    assert "c91" not in texts


def test_confusion_without_mistakes_or_with_an_absent_class() -> None:
    picture = figures.confusion(np.diag([3, 0, 2]), ("a", "b", "c")).inline()
    assert "5 right and 0 wrong." in picture
    assert "Most frequent" not in picture


def _all() -> tuple[str, ...]:
    confidence = np.linspace(0.2, 1, 9)
    correct = confidence > 0.4
    return (
        figures.risk_coverage(_curve()).inline(),
        figures.reliability(_bins()).inline(),
        figures.scores(confidence, correct, confidence >= 0.5, 0.5, "msp").inline(),
        figures.confusion(np.array([[3, 1], [0, 2]]), ("no", "yes")).inline(),
    )


def _curve() -> Curve:
    grid = np.array([0.25, 0.5, 0.75, 1.0])
    return Curve(grid, grid / 25, grid / 50, grid / 10, point=(0.5, 0.02), limit=0.05)


def _bins() -> Reliability:
    return Reliability(
        low=np.array([0.0, 0.5]),
        high=np.array([0.5, 1.0]),
        confidence=np.array([0.4, 0.9]),
        accuracy=np.array([0.5, 0.6]),
        count=np.array([10, 40]),
        ece=0.15,
        null_level=0.021,
    )


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag in ("text", "tspan")

    def handle_data(self, data: str) -> None:
        if self.inside and data.strip():
            self.found.append(data.strip())


def _texts(picture: str) -> list[str]:
    parser = _Texts()
    parser.feed(picture)
    return parser.found
