"""Every text of a page can be read: contrast as the browser computes it, in light and in dark."""

from dataclasses import replace
from pathlib import Path

import pytest

from selectkit.report import contest as contests
from selectkit.report import render, sweep
from tests.e2e.devtools import Page
from tests.e2e.test_report_browser import BROWSER, _report
from tests.e2e.test_report_kinds_browser import FLOW, PROMISE, SETS
from tests.unit.report.test_report_contest import _contest
from tests.unit.report.test_report_sweep import PICTURE

# Each text with its contrast (WCAG 2.2) to what lies under it: backgrounds of the elements around
# it, one over the other; inside a figure also the filled shapes drawn before it at its place.
CONTRASTS = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below, opacity = 1) => {
    const a = top[3] * opacity;
    return [0, 1, 2].map((k) => a * top[k] + (1 - a) * below[k]).concat(1);
  };
  const light = (c) => {
    const [r, g, b] = c.map((v) => v / 255).map(
      (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(getComputedStyle(e));
    return chain.reduce((below, s) => over(rgba(s.backgroundColor), below), [255, 255, 255, 1]);
  };
  const under = (text) => {
    const svg = text.closest("svg"), box = text.getBoundingClientRect();
    const x = box.left + box.width / 2, y = box.top + box.height / 2;
    let colour = ground(svg);
    for (const shape of svg.querySelectorAll("path, rect, use")) {
      if (shape.closest("defs") || !(shape.compareDocumentPosition(text) & 4)) continue;
      const s = getComputedStyle(shape), b = shape.getBoundingClientRect();
      if (s.fill === "none" || b.width < 4 || b.height < 4) continue;
      if (x < b.left || x > b.right || y < b.top || y > b.bottom) continue;
      colour = over(rgba(s.fill), colour, s.fillOpacity * s.opacity);
    }
    return colour;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const words = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!words || e.closest("script, style, noscript") || !e.checkVisibility()) continue;
    const inside = e.closest("svg"), style = getComputedStyle(e);
    const below = inside ? under(e.closest("text")) : ground(e);
    const ink = over(rgba(inside ? style.fill : style.color), below);
    const [low, high] = [light(ink), light(below)].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), words.slice(0, 60)]);
  }
  return found;
})()"""

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome on the PATH")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("looks")
    kinds = replace(_report(2), promises=(PROMISE,), sets=SETS, flow=FLOW)
    texts = {"two": render(_report(2)), "ten": render(_report(10)), "kinds": render(kinds),
             "compared": contests.render(_contest()), "sweep": sweep.page(PICTURE)}  # fmt: skip
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return [folder / f"{name}.html" for name in texts]


def test_every_text_stands_out_from_what_is_below_it(pages: list[Path], tmp_path: Path) -> None:
    with Page(tmp_path / "profile") as page:
        for file in pages:
            for dark in (False, True):
                page.open(file, dark=dark)
                found = page.ask(CONTRASTS)
                assert len(found) > 40
                faint = [(round(ratio, 2), words) for ratio, words in found if ratio < 4.5]
                assert not faint, (file.name, dark, faint)
        assert page.console == []


def test_faint_text_would_be_found(pages: list[Path], tmp_path: Path) -> None:
    faint = '<p style="background:#fff"><span style="color:#888">faint</span></p></main>'
    file = tmp_path / "faint.html"
    file.write_text(pages[0].read_text(encoding="utf-8").replace("</main>", faint))
    with Page(tmp_path / "profile") as page:
        page.open(file)
        assert [words for ratio, words in page.ask(CONTRASTS) if ratio < 4.5] == ["faint"]
