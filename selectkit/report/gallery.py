"""The pictures of the page: accepted errors and deferred samples, embedded."""

from base64 import b64encode
from math import isfinite

from selectkit.errors import DataError
from selectkit.report import wording
from selectkit.report.model import RunReport, Thumbnail
from selectkit.report.wording import number, text


def thumbnails(report: RunReport) -> str:
    """Return the pictures of the worst accepted errors and of deferred samples."""
    n_errors = int((report.accepted & ~report.correct).sum())
    what, none = "Decided and wrong", "No decided image is wrong."
    if report.answers_with_sets and report.sets is not None:
        n_errors = report.sets.missed
        what, none = "True class not in the set", "Every set has the true class in it."
    n_deferred = int((~report.accepted).sum())
    return (
        "<section><h2>Images worth a look</h2>"
        f"<h3>{what}, most confident first{_of(report.errors, n_errors)}</h3>"
        + _gallery(report.errors, none, n_errors)
        + f"<h3>Deferred, least confident first{_of(report.deferrals, n_deferred)}</h3>"
        + _gallery(report.deferrals, "No image was deferred.", n_deferred)
        + "</section>"
    )


def _of(shown: tuple[Thumbnail, ...], total: int) -> str:
    return f" ({len(shown)} of {total:,})" if shown else ""


def _gallery(thumbs: tuple[Thumbnail, ...], empty: str, total: int) -> str:
    if not thumbs:
        words = f"{total:,} image{'s' * (total > 1)}, not shown here." if total else empty
        return f'<p class="lead">{words}</p>'
    return f'<div class="thumbs">{"".join(map(_thumb, thumbs))}</div>'


def _thumb(thumb: Thumbnail) -> str:
    if thumb.image is None:
        picture = '<div class="blank">image not available</div>'
    else:
        data = b64encode(thumb.image).decode("ascii")
        alt = text(f"{thumb.id}: {thumb.label}, predicted {thumb.prediction}")
        picture = f'<img src="data:{_media_type(thumb)};base64,{data}" alt="{alt}">'
    tone = "right" if thumb.label == thumb.prediction else "said"
    note = f'<span class="id">{text(thumb.note)}</span>' if thumb.note else ""
    name = text(wording.shorten(thumb.id, 48))
    return (
        f'<figure class="panel">{picture}<figcaption>'
        f"<b>{_class(thumb.label)}</b>, predicted "
        f'<span class="{tone}">{_class(thumb.prediction)}</span> '
        f"{_at(thumb.confidence)}{note}"
        f'<span class="id" title="{text(thumb.id)}">{name.replace("/", "/<wbr>")}</span>'
        "</figcaption></figure>"
    )


def _at(confidence: float) -> str:
    """The score, unless the image is one that no threshold on it decides."""
    return f"at {number(confidence)}" if isfinite(confidence) else "(always deferred)"


def _class(name: str) -> str:
    short = text(wording.shorten(name, 32))
    return short if len(name) <= 32 else f'<span title="{text(name)}">{short}</span>'


def _media_type(thumb: Thumbnail) -> str:
    image = thumb.image or b""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    raise DataError(f"thumbnail of {thumb.id!r} is neither PNG nor JPEG; encode it as one of them.")
