"""Small pictures for the report, read from where the images were; never required."""

import io
from collections.abc import Callable, Sequence

import numpy as np

from selectkit.arrays import Bools, Floats, Ints
from selectkit.cache import Features, FeatureStore
from selectkit.errors import RemoteError, SelectkitError
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

    pictures = _Pictures(store)

    def show(chosen: Ints) -> tuple[Thumbnail, ...]:
        images = pictures.of([str(paths[int(rows.rows[i])]) for i in chosen])
        return tuple(
            Thumbnail(
                id=str(rows.ids[i]),
                image=image,
                label=rows.classes[rows.y[i]],
                prediction=rows.classes[prediction[i]],
                confidence=float(confidence[i]),
                note=note(int(i)),
            )
            for i, image in zip(chosen, images, strict=True)
        )

    return show


def hardest(score: Floats, among: Bools, n: int, *, highest: bool, likely: Floats) -> Ints:
    """Return the positions of the n highest (or lowest) scores among the marked rows.

    Args:
        score: Shape (N,).
        among: Shape (N,).
        n: How many.
        highest: The highest instead of the lowest.
        likely: Shape (N,): what decides between equal scores.

    Returns:
        Positions, the most extreme first.
    """
    places = among.nonzero()[0]
    sign = -1 if highest else 1
    order = np.lexsort((sign * likely[places], sign * score[places]))
    return places[order[:n]]


class _Pictures:
    """Small pictures of images, None of those that cannot be read any more."""

    def __init__(self, store: FeatureStore) -> None:
        self._source = store.source
        self._gone = False

    def of(self, paths: Sequence[str]) -> list[bytes | None]:
        from selectkit.extract import image_reader

        try:
            fetch = image_reader(self._source, paths)
        except SelectkitError:
            return [None] * len(paths)
        return [self._picture(fetch, path) for path in paths]

    def _picture(self, fetch: Callable[[str], bytes], path: str) -> bytes | None:
        from selectkit.extract import decode

        if self._gone:
            return None
        try:
            image = decode(fetch(path))
        except RemoteError:  # each of the others would be waited for as long
            self._gone = True
            return None
        except (SelectkitError, OSError, ValueError):
            return None
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()
