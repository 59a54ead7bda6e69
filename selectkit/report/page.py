"""One run as one HTML page: no request, one script, every text escaped."""

from collections.abc import Iterable
from importlib.resources import files
from string import Template

from selectkit.report import card, explorer, gallery, kept, sections, sets, stages
from selectkit.report.model import RunReport
from selectkit.report.wording import text


def render(report: RunReport) -> str:
    """Return the report of one run as a complete, self-contained HTML document.

    Equal reports give equal documents. The page holds its style, pictures and script itself and
    asks no server for anything; only the threshold explorer needs the script.

    Args:
        report: The measured run.

    Returns:
        The document, to be written as UTF-8.

    Raises:
        DataError: If a thumbnail is neither PNG nor JPEG.
    """
    parts: Iterable[str] = (
        card.verdict(report),
        card.warnings(report),
        kept.section(report),
        sections.policies(report),
        sets.section(report),
        stages.section(report),
        explorer.section(report),
        sections.figures(report),
        sections.groups(report),
        sections.metrics(report),
        gallery.thumbnails(report),
        sections.provenance(report),
    )
    return document(report.title, parts)


def document(title: str, parts: Iterable[str]) -> str:
    """Return a complete HTML document.

    Args:
        title: Its title, as text.
        parts: HTML of its sections; empty ones are left out.

    Returns:
        The document.
    """
    folder = files("selectkit.report")
    template = (folder / "template.html").read_text(encoding="utf-8")
    style = (folder / "style.css").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=text(title),
        style=style.strip(),
        body="\n".join(part for part in parts if part),
    )
