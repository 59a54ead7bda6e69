import re
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from math import inf, nan

import numpy as np
import pytest

from selectkit.errors import DataError
from selectkit.report import (
    Curve,
    PolicyRow,
    Promise,
    Reliability,
    RunReport,
    Thumbnail,
    render,
    wording,
)
from selectkit.report.svg import PALETTE

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
METRICS = {
    "coverage": (0.5, 0.4, 0.6),
    "fnr": (0.0123456, 0.001, 0.09),
    "augrc": (0.010885, 0.0099, 0.0119),
    "coverage_at_risk@0.05": (0.81, 0.79, 0.83),
    "my_own": (1.5, nan, nan),
}


class Page(HTMLParser):
    """Tags, texts and the numbers of every row; refuses tags that do not nest."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] != "style" else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_complete_and_its_tags_nest() -> None:
    document = render(_report())
    page = Page(document)
    assert document.startswith("<!DOCTYPE html>\n<html lang")
    assert page.open == []
    assert [h for h in ("Policies", "All metrics", "Provenance", "Reproduce") if h in page.text]
    assert len(page.all("svg")) == 5
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )


def test_the_answer_comes_before_the_evidence() -> None:
    text = Page(render(_report())).text
    order = [
        "Certified",
        "at most 5\xa0% of",
        "Decided automatically",
        "Before you rely",
        "Policies",
    ]
    order += [
        "Risk and coverage",
        "Reliability",
        "Scores of right",
        "Confusion among",
        "All metrics",
    ]
    order += ["Images worth a look", "Provenance", "Reproduce"]
    assert sorted(order, key=text.index) == order


def test_numbers_of_the_metrics_table_are_those_given() -> None:
    rows = re.findall(r'<tr data-metric="(.*?)">(.*?)</tr>', render(_report()))
    assert [name for name, _ in rows] == list(METRICS)
    for name, row in rows:
        cells = Page(row)
        found = (cells.all("data")[0]["value"], *_interval(cells.all("td")[1]))
        assert [float(str(value)) for value in found] == pytest.approx(METRICS[name], nan_ok=True)


def test_metrics_stand_under_what_they_are_about() -> None:
    table = render(_report()).split('<table class="metrics">')[1].split("</table>")[0]
    parts = re.findall(r'<tr class="part">.*?>([^<>]+)</th></tr>|data-metric="(.*?)"', table)
    assert [part or f"- {name}" for part, name in parts] == [
        "This policy: what it decides", "- coverage", "- fnr",
        "How well the score ranks, at any threshold", "- augrc", "- coverage_at_risk@0.05",
        "Further figures", "- my_own",
    ]  # fmt: skip


def test_measured_figures_are_told_from_the_promise() -> None:
    text = Page(render(_report())).text
    told = text.index("These figures are measured, not promised.")
    assert text.index("at most 5\xa0% of") < told < text.index("Decided automatically")
    assert "nothing in this table is certified" in text


def test_metrics_are_worded_and_rates_are_percentages() -> None:
    text = Page(render(_report())).text
    assert "FNRMissed positives among the positives decided automatically.1.23\xa0%" in text
    assert "0.10 to 9\xa0%" in text
    assert "Coverage at risk 5\xa0%" in text
    assert "0.0109" in text
    assert "my own1.500–" in text


def test_numbers_of_the_policy_table_are_those_given() -> None:
    table = render(_report()).split('<table class="policies">')[1].split("</table>")[0]
    page = Page(table.replace("</table>", ""))
    assert [d["value"] for d in page.all("data")] == ["0.5", "0.25", "4", "1.0", "0.375", "0"]
    spans = [s for s in page.all("span") if s.get("class") == "interval"]
    assert [_interval(s) for s in spans] == [
        ("0.4", "0.6"), ("0.1", "0.5"), ("nan", "nan"), ("0.2", "0.6"),
    ]  # fmt: skip
    assert page.text.count("this report") == 1
    assert "error <= 5\xa0% (confidence 90\xa0%)" in page.text


def test_big_numbers_are_counted_from_the_arrays() -> None:
    report = _report()
    tiles = render(report).split('<dl class="tiles">')[1].split("</dl>")[0]
    assert [d["value"] for d in Page(tiles).all("data")] == ["0.5", "4", "0.25", "0.5"]
    assert "1 of 4; 95\xa0% interval 10 to 50\xa0%" in tiles
    assert "Missed of class yes" in tiles
    assert "1 of 2 that were decided" in tiles
    multi = render(replace(report, positive=None)).split('<dl class="tiles">')[1]
    assert "Wrong if nothing were deferred" in multi
    assert "3 of 8 images" in multi


def test_every_text_is_escaped() -> None:
    evil = "\">'><script>alert('x')</script><b onerror=x>&amp;"
    picture = Thumbnail(evil, None, evil, evil, 0.5, evil)
    report = replace(
        _report(), title=evil, run=evil, created=evil, target=evil, certificate=(evil, evil),
        policies=(PolicyRow(evil, (1, 1, 1), (0, 0, 0), 0, evil, active=True),),
        metrics={evil: (0.0, 0.0, 0.0)}, classes=(evil, evil + "2"), score=evil,
        errors=(picture,), deferrals=(picture,), provenance={evil: evil}, commands=(evil,),
        warnings=(evil,), split=evil, curve=replace(_curve(), label=evil),
    )  # fmt: skip
    document = render(report)
    page = Page(document)
    assert page.open == []
    assert page.all("script") == [{"type": "application/json", "id": "explorer-data"}, {}]
    assert page.text.count("alert") >= 17
    assert not any("onerror" in attributes for _, attributes in page.tags)


def test_a_dollar_sign_is_no_placeholder() -> None:
    assert "costs $style and $5" in render(replace(_report(), run="costs $style and $5"))


def test_equal_reports_give_equal_pages() -> None:
    assert render(_report()) == render(_report())


def test_nothing_is_fetched() -> None:
    document = render(replace(_report(), errors=(_thumb(_png()),)))
    page = Page(document)
    assert "http://" not in document
    assert "https://" not in document
    assert "@import" not in document
    assert not page.all("link") + page.all("iframe")
    references = [a.get("href") or a.get("src") for _, a in page.tags if "href" in a or "src" in a]
    assert references
    assert all(str(r).startswith(("#", "data:image/")) for r in references)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", document))


def test_every_picture_has_words_in_its_place() -> None:
    page = Page(render(replace(_report(), errors=(_thumb(_png()),))))
    assert all(a["role"] == "img" and len(str(a["aria-label"])) > 40 for a in page.all("svg"))
    assert [a["alt"] for a in page.all("img")] == ["a.png: yes, predicted no"]


def test_ids_are_unique() -> None:
    ids = [a["id"] for _, a in Page(render(_report())).tags if "id" in a]
    assert ids
    assert len(ids) == len(set(ids))


def test_pictures_are_embedded_by_their_kind() -> None:
    document = render(
        replace(_report(), errors=(_thumb(_png()), _thumb(b"\xff\xd8\xff\xe0 and so on")))
    )
    assert 'src="data:image/png;base64,iVBORw0KGgo' in document
    assert 'src="data:image/jpeg;base64,/9j/4C' in document


def test_a_picture_of_another_kind_is_refused() -> None:
    with pytest.raises(DataError, match=r"thumbnail of 'a\.png' is neither PNG nor JPEG; encode"):
        render(replace(_report(), errors=(_thumb(b"GIF89a"),)))


def test_missing_pictures_are_named() -> None:
    assert "image not available" in render(replace(_report(), errors=(_thumb(None),)))
    text = Page(render(_report())).text
    assert "1 images, none of them available here." not in text
    assert "1 image, not shown here." in text
    assert "4 images, not shown here." in text


def test_long_ids_are_cut_in_the_middle_and_kept_whole_in_the_title() -> None:
    long = "site/" + "x" * 300 + "/end.jpg"
    document = render(replace(_report(), errors=(replace(_thumb(None), id=long),)))
    assert f'title="{long}"' in document
    assert document.count(long) == 1
    assert "…" in document
    assert "/<wbr>end.jpg" in document


@pytest.mark.parametrize(
    ("promise", "badge"),
    [("pac", "Certified"), ("expectation", "Holds on average"), ("none", "No guarantee")],
)
def test_the_badge_names_the_kind_of_promise(promise: Promise, badge: str) -> None:
    document = render(replace(_report(), promise=promise))
    assert f'<span class="badge">{badge}</span>' in document
    assert f'class="verdict panel {promise}"' in document


def test_nobody_accepted() -> None:
    report = replace(
        _report(), accepted=np.zeros(8, dtype=np.bool_), threshold=inf, promise="infeasible",
        target="fnr <= 2 %",
        certificate=("INFEASIBLE: needs at least 114 positives.",),
        curve=replace(_curve(), point=None),
        policies=(PolicyRow("p", (0.0, 0.0, 0.3), (nan, nan, nan), 8, "nothing", active=True),),
    )  # fmt: skip
    page = Page(render(report))
    assert "Not certifiable" in page.text
    assert page.text.index("Nothing is promised") < page.text.index("needs at least 114 positives")
    assert "nothing to count" in page.text
    assert "fnr: Missed positives among the positives decided automatically." in page.text
    assert "needs at least 114 positives" in page.text
    assert "No decided image is wrong." in page.text
    assert "every image deferred" in page.text
    assert len(page.all("svg")) == 4
    assert not re.search(r"\bnan\b", page.text)


def test_everybody_accepted_and_nothing_wrong() -> None:
    labels = np.array([0, 1] * 4)
    report = replace(
        _report(), labels=labels, predictions=labels, accepted=np.ones(8, dtype=np.bool_),
        threshold=-inf, confidence=np.full(8, 0.7),
    )  # fmt: skip
    text = Page(render(report)).text
    assert "every image accepted" in text
    assert "No decided image is wrong." in text
    assert "No image was deferred." in text


def test_one_sample_and_none() -> None:
    one = replace(
        _report(), labels=np.array([1]), predictions=np.array([0]), confidence=np.array([-inf]),
        accepted=np.array([False]), curve=None, reliability=None,
    )  # fmt: skip
    assert "0 of 1 images" in render(one)
    empty = np.array([], dtype=np.int64)
    none = replace(
        one, labels=empty, predictions=empty, confidence=np.array([]),
        accepted=empty.astype(np.bool_), policies=(), metrics={}, provenance={}, commands=(),
        warnings=(), certificate=(),
    )  # fmt: skip
    page = Page(render(none))
    assert "No certificate was asked for." in page.text
    assert "Policies" not in page.text
    assert "Before you rely" not in page.text


def test_arrays_must_fit_each_other() -> None:
    with pytest.raises(
        DataError, match=r"arrays of the report must have one shape \(N,\), got .*5"
    ):
        replace(_report(), confidence=np.zeros(5))
    with pytest.raises(DataError, match="label 2 in row 0 is outside"):
        replace(_report(), predictions=np.full(8, 2))
    with pytest.raises(DataError, match="accepted must be boolean, got dtype int64"):
        replace(_report(), accepted=np.zeros(8, dtype=np.int64))
    with pytest.raises(DataError, match="positive is 2, but there are 2 classes"):
        replace(_report(), positive=2)
    with pytest.raises(DataError, match="arrays of the curve must have one shape"):
        replace(_curve(), risk=np.zeros(7))
    with pytest.raises(DataError, match="arrays of the reliability must have one shape"):
        replace(_reliability(), count=np.zeros(7, dtype=np.int64))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 %"), (0.00001, "< 0.01 %"), (0.0061, "0.61 %"), (0.02, "2 %"), (0.027, "2.70 %"),
        (0.833333, "83.3 %"), (0.99999, "> 99.9 %"), (1.0, "100 %"), (nan, "–"),
    ],
)  # fmt: skip
def test_percentages(value: float, shown: str) -> None:
    assert wording.percent(value) == shown.replace(" %", "\xa0%")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8.7483, "8.748"), (10.7799, "10.78"), (999.96, "1000"), (-1234.5, "-1,234"),
        (0.90123, "0.9012"), (0.010885, "0.0109"), (12345.0, "12,345"), (3.2e-7, "3.20e-07"),
        (0.0, "0"), (-0.25, "-0.2500"), (-inf, "-∞"), (inf, "∞"), (nan, "–"),
    ],
)  # fmt: skip
def test_numbers(value: float, shown: str) -> None:
    assert wording.number(value) == shown


def test_text_is_readable_in_both_themes() -> None:
    style = (files("selectkit.report") / "style.css").read_text(encoding="utf-8")
    light, dark, printed = (
        _variables(block) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    assert {name: light[name] for name in PALETTE} == PALETTE
    for theme in (light, dark, printed):
        for ink in ("ink", "muted", "accent", "wrong", "good", "caution"):
            assert min(_contrast(theme[ink], theme[on]) for on in ("paper", "ground")) >= 4.5
        for shade in ("accent", "wrong"):
            assert _contrast(theme["ink"], _blend(theme[shade], theme["paper"], 0.5)) >= 4.5


def test_matplotlib_is_not_loaded_before_a_figure_is_drawn() -> None:
    code = "import sys, selectkit.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _curve() -> Curve:
    grid = np.linspace(0.125, 1, 8)
    return Curve(grid, grid / 3, grid / 4, grid / 2, point=(0.5, 0.25), limit=0.05)


def _reliability() -> Reliability:
    return Reliability(
        low=np.array([0.0, 0.5, 0.75]),
        high=np.array([0.5, 0.75, 1.0]),
        confidence=np.array([0.0, 0.6, 0.9]),
        accuracy=np.array([0.0, 0.5, 0.75]),
        count=np.array([0, 4, 4]),
        ece=0.125,
        null_level=0.2,
    )


def _report() -> RunReport:
    """Eight samples, four accepted, of which one is wrong: a missed positive."""
    return RunReport(
        title="Road works",
        run="runs/demo",
        created="2026-01-02 03:04 UTC",
        target="error <= 5 %, confidence 90 %",
        promise="pac",
        certificate=("With 90 % confidence at most 5 % of decided images are wrong.", "And more."),
        policies=(
            PolicyRow(
                "softmax", (0.5, 0.4, 0.6), (0.25, 0.1, 0.5), 4,
                "error <= 5 % (confidence 90 %)", active=True,
            ),
            PolicyRow("everything", (1.0, nan, nan), (0.375, 0.2, 0.6), 0, "nothing"),
        ),
        metrics=METRICS,
        classes=("no", "yes"),
        positive=1,
        labels=np.array([1, 1, 0, 0, 0, 0, 1, 1]),
        predictions=np.array([1, 0, 0, 0, 1, 0, 0, 1]),
        confidence=np.linspace(0.95, 0.55, 8),
        accepted=np.arange(8) < 4,
        threshold=0.76,
        score="msp",
        curve=_curve(),
        reliability=_reliability(),
        provenance={"Weights": "sha256:" + "0f" * 32},
        commands=("selectkit fit store.zarr --out run", "selectkit evaluate run"),
        warnings=("val_calib holds 37 positives.",),
    )  # fmt: skip


def _thumb(image: bytes | None) -> Thumbnail:
    return Thumbnail("a.png", image, "yes", "no", 0.9)


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def _interval(attributes: dict[str, str | None]) -> tuple[str | None, str | None]:
    return attributes["data-low"], attributes["data-high"]


def _variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _blend(top: str, bottom: str, opacity: float) -> str:
    pairs = zip(_rgb(top), _rgb(bottom), strict=True)
    return "#" + "".join(f"{round(255 * (opacity * a + (1 - opacity) * b)):02x}" for a, b in pairs)


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in _rgb(colour)]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00005471, "0.00005471"), (0.0002, "0.0002"), (8.7483, "8.748"), (1234.56, "1,235"),
        (0.1 + 0.2, "0.3"), (0.0, "0"), (30.0, "30"), (nan, "–"), (inf, "∞"),
    ],
)  # fmt: skip
def test_costs_have_four_digits_and_no_exponent(value: float, shown: str) -> None:
    assert wording.cost(value) == shown
