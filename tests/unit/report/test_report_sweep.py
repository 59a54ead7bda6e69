import re
from dataclasses import replace

from selectkit.report.sweep import Axis, Picture, page, parallel, scatter
from tests.unit.report.test_report_page import Page

PICTURE = Picture(
    title="Sweep of <run>",
    axes=(
        Axis("head", ("linear", "mlp", "mlp", "mlp")),
        Axis("rate", (None, 0.1, 0.2, 0.3)),
        Axis("nll", (0.5, 0.51, 0.9, 0.905)),
    ),
    order=(0.5, 0.51, 0.9, 0.905),
    numbers=(1, 2, 3, 4),
    winner=1,
    x=("NLL", (0.5, 0.51, 0.9, 0.905)),
    y=("AUGRC", (1.0, 2.0, 3.0, 4.0)),
    notes=("kept number 2", "report what `selectkit evaluate` says of <it>"),
    table=(["number", "nll", "won"], [["2 *", "0.51", "0.9"], ["1", "0.5", "0.1"]]),
)


def test_the_page_is_made_of_parts_that_a_screen_reader_can_name() -> None:
    found = Page(page(PICTURE))
    assert found.open == []
    assert all(a["role"] == "img" and a["aria-label"] for a in found.all("svg"))
    regions = [a for _, a in found.tags if a.get("role") == "region"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)
    assert len(regions) == 2
    assert [a["scope"] for a in found.all("th")] == ["col"] * 3 + ["row"] * 2
    assert [a["data-label"] for a in found.all("td")] == ["nll", "won"] * 2


def test_notes_are_sentences_and_columns_are_explained() -> None:
    html = page(PICTURE)
    assert "Kept number 2.</p>" in html
    assert "Report what <code>selectkit evaluate</code> says of &lt;it&gt;." in html
    assert "nll: Mean negative log-likelihood in nats. Less is better." in html
    assert "won: Share of the resamples of val_select in which it was the best." in html
    assert "epochs:" not in html


def test_labels_do_not_cover_each_other_and_that_of_the_chosen_one_stays() -> None:
    labels = re.findall(r">([^<>]+)</text>", parallel(PICTURE))
    assert "0.51" in labels
    assert "0.5" not in labels
    assert "0.905" in labels
    assert "0.9" not in labels
    assert "-" in labels
    chosen_first = replace(PICTURE, winner=0)
    assert "0.5" in re.findall(r">([^<>]+)</text>", parallel(chosen_first))


def test_the_chosen_one_is_marked() -> None:
    assert "number 2" in scatter(PICTURE)
    assert "number 2" in parallel(PICTURE)
