"""The report in a real browser: it fits a phone, asks for nothing and reports no error."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.report import Curve, PolicyRow, Reliability, RunReport, Thumbnail, render

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
# A window cannot be narrower than 500 px, a frame can. The page has one script of its own.
# The frame inherits the policy: whatever the page wants beyond its own text is a console error.
MEASURE = """<!DOCTYPE html><title>waiting</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const inner = document.querySelector("iframe").contentWindow;
  const scale = (text) => Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b);
  const right = (e) => e.closest(".scroll, pre") ? 0 : e.getBoundingClientRect().right;
  document.title = JSON.stringify({{
    inner: inner.innerWidth,
    scroll: inner.document.documentElement.scrollWidth,
    right: Math.ceil(Math.max(...[...inner.document.querySelectorAll("body *")].map(right))),
    pictures: [...inner.document.images].map((image) => image.naturalWidth),
    figures: [...inner.document.querySelectorAll("svg")].map((svg) => svg.clientWidth),
    smallest: Math.min(...[...inner.document.querySelectorAll("svg text")].map(
      (text) => parseFloat(inner.getComputedStyle(text).fontSize) * scale(text))),
  }});
}};
</script>"""

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome on the PATH")


@pytest.mark.parametrize("width", [390, 820, 1200])
@pytest.mark.parametrize("n_classes", [2, 40])
def test_the_page_fits_its_window(tmp_path: Path, width: int, n_classes: int) -> None:
    seen, console = _measure(tmp_path, render(_report(n_classes)), width)
    assert console == []
    assert seen["inner"] == width
    assert seen["scroll"] == width
    assert seen["right"] <= width
    assert seen["pictures"] == [1]
    assert len(seen["figures"]) == 5
    assert min(seen["figures"]) >= 330
    assert seen["smallest"] >= 8


def test_the_measurement_sees_overflow_errors_and_requests(tmp_path: Path) -> None:
    broken = '<p style="width:700px">wide<img src="missing.png"><script>missing()</script>'
    page = render(_report(2)).replace("</main>", broken + "</main>")
    seen, console = _measure(tmp_path, page, 390)
    assert seen["scroll"] > 390
    assert seen["right"] > 390
    assert any("missing is not defined" in line for line in console)
    assert any("missing.png" in line and "Content Security Policy" in line for line in console)


def _measure(folder: Path, page: str, width: int) -> tuple[dict[str, Any], list[str]]:
    """What the browser measured, and the lines on its console."""
    file = folder / "page.html"
    file.write_text(MEASURE.format(width=width, page=escape(page)), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1300,900"]
    result = subprocess.run(
        [*command, "--dump-dom", file.as_uri()],
        capture_output=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    title = re.search("<title>(.*?)</title>", result.stdout)
    assert title, result.stderr
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(title[1])), console


def _report(n_classes: int) -> RunReport:
    rng = np.random.default_rng(7)
    n = 400
    labels = rng.integers(0, n_classes, n)
    confidence = rng.uniform(0.3, 1, n)
    predictions = np.where(rng.random(n) < confidence, labels, (labels + 1) % n_classes)
    accepted = confidence >= 0.8
    grid = np.linspace(0.05, 1, 20)
    long = "site-17/" + "very-long-name-" * 20 + ".jpg"
    red = bytes.fromhex(
        "89504e470d0a1a0a0000000d494844520000000100000001080200000090"
        "7753de0000000c49444154789c63f8cfc00000030101" + "00c9fe92ef0000000049454e44ae426082"
    )
    return RunReport(
        title="Road works on the A7, " + "x" * 120,
        run="runs/" + "y" * 120,
        created="2026-01-02 03:04 UTC",
        target="fnr <= 2 %, confidence 90 %",
        promise="pac",
        certificate=("With 90 % confidence at most 2 % of decided road works are missed.",),
        policies=(
            PolicyRow("softmax (msp)", (0.29, 0.2, 0.3), (0.1, 0.05, 0.2), 284, "fnr <= 2 %", True),
            PolicyRow("everything " * 4, (1.0, 1.0, 1.0), (0.35, 0.3, 0.4), 0, "nothing"),
        ),
        metrics={"fnr": (0.01, 0.0, 0.03), "a_long_name_of_a_metric" * 3: (0.5, nan, nan)},
        classes=tuple(f"class-{i}-{'z' * 30}" for i in range(n_classes)),
        positive=1,
        labels=labels,
        predictions=predictions,
        confidence=confidence,
        accepted=accepted,
        threshold=0.8,
        score="msp",
        curve=Curve(grid, grid / 3, grid / 4, grid / 2, point=(0.29, 0.1), limit=0.2),
        reliability=Reliability(
            low=np.array([0.0, 0.5]), high=np.array([0.5, 1.0]), confidence=np.array([0.4, 0.75]),
            accuracy=np.array([0.4, 0.7]), count=np.array([110, 290]),
            ece=0.03, null_level=0.02,
        ),
        errors=(
            Thumbnail(long, red, "yes", "n" * 60, 0.99, "w" * 80), Thumbnail(long, None, "", "", 1),
        ),
        provenance={"Weights": "sha256:" + "0f" * 32, "v" * 60: "w" * 200},
        commands=("selectkit extract " + "manifest.csv " * 20,),
        warnings=("u" * 200,),
    )  # fmt: skip
