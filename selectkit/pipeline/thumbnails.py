"""Small pictures for the report, read from where the images were; never required."""

import io
from collections.abc import Callable

from selectkit.arrays import Bools, Floats, Ints
from selectkit.cache import Features, FeatureStore
from selectkit.errors import SelectkitError
from selectkit.report import Thumbnail

SIDE = 128


def thumbnails(
    store: FeatureStore,
    rows: Features,
    prediction: Ints,
    confidence: Floats,
    note: Callable[[int], str] = lambda i: "",
) -> Callable[[Ints], tuple[Thumbnail, ...]]:
    """Return a function that makes captioned thumbnails of some rows.

    Args:
        store: The store; says where its images were.
        rows: Rows of the split, N of them.
        prediction: Shape (N,), class codes.
        confidence: Shape (N,).
        note: A few words on a row, by its position.

    Returns:
        From positions in the N rows to one thumbnail each, in that order; without a picture where
        the image is no longer readable.
    """
    paths = dict(zip(store.index().row.tolist(), store.index().path, strict=True))
    read = _reader(store)
    return lambda chosen: tuple(
        Thumbnail(
            id=str(rows.ids[i]),
            image=read(str(paths[int(rows.rows[i])])),
            label=rows.classes[rows.y[i]],
            prediction=rows.classes[prediction[i]],
            confidence=float(confidence[i]),
            note=note(int(i)),
        )
        for i in chosen
    )


def hardest(score: Floats, among: Bools, n: int, *, highest: bool) -> Ints:
    """Return the positions of the n highest (or lowest) scores among the marked rows."""
    places = among.nonzero()[0]
    order = (-score[places] if highest else score[places]).argsort(kind="stable")
    return places[order[:n]]


def _reader(store: FeatureStore) -> Callable[[str], bytes | None]:
    from selectkit.extract import decode, reopen

    try:
        source = reopen(store.source)
    except (SelectkitError, OSError):
        return lambda path: None

    def read(path: str) -> bytes | None:
        try:
            image = decode(source.read(path))
        except (SelectkitError, OSError, ValueError):
            return None
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    return read
