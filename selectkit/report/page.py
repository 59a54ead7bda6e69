"""One run as one HTML page: no script, no request, every text escaped."""

from collections.abc import Iterable
from importlib.resources import files
from string import Template

from selectkit.report import gallery, sections
from selectkit.report.model import RunReport
from selectkit.report.wording import text


def render(report: RunReport) -> str:
    """Return the report of one run as a complete, self-contained HTML document.

    Equal reports give equal documents. The page holds its style and pictures itself, asks no
    server for anything, and needs no script.

    Args:
        report: The measured run.

    Returns:
        The document, to be written as UTF-8.

    Raises:
        DataError: If a thumbnail is neither PNG nor JPEG.
    """
    parts: Iterable[str] = (
        sections.verdict(report),
        sections.warnings(report),
        sections.policies(report),
        sections.figures(report),
        sections.metrics(report),
        gallery.thumbnails(report),
        sections.provenance(report),
    )
    folder = files("selectkit.report")
    template = (folder / "template.html").read_text(encoding="utf-8")
    style = (folder / "style.css").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=text(report.title),
        style=style.strip(),
        body="\n".join(part for part in parts if part),
    )
