"""The bytes of images: files, and objects that are read ahead because a request takes its time."""

import stat
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from selectkit.errors import RemoteError
from selectkit.extract.listing import Record, unescaped
from selectkit.location import Location, Url, location
from selectkit.objects import DeniedError, Objects

MAX_FILE_BYTES = 1 << 30
AHEAD = 32  # requests in flight


def place_of(base: Location, path: str) -> Location:
    """Return where the image of a record is.

    Args:
        base: The folder that relative paths are relative to.
        path: Relative, absolute, or a URL.

    Returns:
        The place.

    Raises:
        FileNotFoundError: If there can be no such place.
    """
    if "://" in path:
        try:
            return location(path)
        except ValueError as error:
            raise FileNotFoundError(str(error)) from None
    if isinstance(base, Path) or path.startswith("/"):
        return Path(base, path) if isinstance(base, Path) else Path(path)
    parts = base.key.split("/") if base.key else []
    for part in path.split("/"):
        if part == ".." and not parts:
            raise FileNotFoundError(f"{path} is outside of {base}")
        if part == "..":
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return Url(base.scheme, base.container, "/".join(parts))


def read_image(place: Location) -> bytes:
    """Read a file or an object.

    Args:
        place: Where it is.

    Returns:
        Its content.

    Raises:
        OSError: If this one cannot be read.
        RemoteError: If none can be read from there.
    """
    if isinstance(place, Path):
        return _read_file(place)
    objects = _objects(Url(place.scheme, place.container, ""))
    try:
        return objects.get(place.key, at_most=MAX_FILE_BYTES)[0]
    except DeniedError as error:
        if _is_readable(place.parent):
            raise PermissionError(str(error)) from None
        raise


class ReadAhead:
    """Reads images one by one; while they come in the order of a listing, those that follow too."""

    def __init__(self, listing: Sequence[Record], base: Location) -> None:
        """Read nothing yet.

        Args:
            listing: All images, in the order in which they will most often be read.
            base: The folder that relative paths are relative to.
        """
        self._listing, self._base = listing, base
        self._guard = threading.Lock()
        self._waiting: dict[int, Future[bytes]] = {}
        self._at = self._next = -1
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[type["ReadAhead"], tuple[Sequence[Record], Location]]:
        return ReadAhead, (self._listing, self._base)

    def read(self, path: str) -> bytes:
        """Return the bytes of one image; errors as for `read_image`."""
        place = place_of(self._base, path)
        if isinstance(place, Path):
            return read_image(place)
        with self._guard:
            at = self._find(path)
            future = None if at is None else self._waiting.pop(at, None)
            if at is not None:
                self._go_on(at)
        if future is not None:
            with suppress(RemoteError, CancelledError):  # that may have been long ago
                return future.result()
        return read_image(place)

    def _find(self, path: str) -> int | None:
        """Its place in the listing: near the last one, or anywhere."""
        near = range(max(0, self._at - AHEAD), min(len(self._listing), self._at + 2 * AHEAD))
        for at in near:
            if self._listing[at].path == path:
                return at
        return next((at for at, record in enumerate(self._listing) if record.path == path), None)

    def _go_on(self, at: int) -> None:
        in_order = abs(at - self._at) <= AHEAD
        self._at = at
        if not in_order:
            for future in self._waiting.values():
                future.cancel()
            self._waiting.clear()
            self._next = at + 1
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="download")
        self._next = max(self._next, at + 1)
        while self._next < min(len(self._listing), at + 1 + AHEAD):
            path = self._listing[self._next].path
            self._waiting[self._next] = self._pool.submit(self._fetch, path)
            self._next += 1

    def _fetch(self, path: str) -> bytes:
        return read_image(place_of(self._base, path))


@cache
def _objects(container: Url) -> Objects:
    return Objects(container)


def _is_readable(folder: Url) -> bool:
    """Whether it is one object, and not everything, that is denied."""
    try:
        next(iter(Objects(folder).list()), None)
    except RemoteError:
        return False
    return True


def _read_file(path: Path) -> bytes:
    """The bytes of a regular file of sensible size; devices, pipes and giants are no images."""
    try:
        if "\\x" in str(path) and not path.exists():
            path = unescaped(path)
        status = path.stat()
    except ValueError as error:  # a NUL byte in the path
        raise OSError(str(error)) from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
        raise OSError(f"{path} is no regular file of at most {MAX_FILE_BYTES:,} bytes")
    return path.read_bytes()
