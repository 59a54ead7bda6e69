"""Local copies of the objects of a store, shared by all processes of a user."""

import hashlib
import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import google_crc32c

from selectkit.errors import CacheError
from selectkit.location import Url
from selectkit.objects import Entry

_OLD = 3600.0  # seconds


class Copies:
    """Local copies of objects, one file for each content.

    The copy of a chunk is the chunk, which ends in its own checksum. Other copies have a checksum
    appended. Whoever reads a copy compares it, so that a wrong byte costs a download.
    """

    are_kept: ClassVar[bool] = True

    def __init__(self, place: Url) -> None:
        known = re.sub(r"[^A-Za-z0-9.-]+", "-", place.name)[:60]
        digest = hashlib.sha256(str(place).encode()).hexdigest()[:16]
        self._root = cache_folder() / "stores" / f"{known}-{digest}"

    def file(self, entry: Entry) -> Path:
        """Where the copy is or would be."""
        tag = hashlib.sha256(entry.tag.encode()).hexdigest()[:16]
        return self._root / f"{entry.path}@{tag}"

    def has(self, entry: Entry) -> bool:
        """Whether there is one, of the right size."""
        try:
            return self.file(entry).stat().st_size == entry.size + _extra(entry.path)
        except OSError:
            return False

    def read(self, entry: Entry) -> bytes | None:
        """The content, None when there is no intact copy."""
        try:
            stored = self.file(entry).read_bytes()
        except OSError:
            return None
        body, checksum = stored[:-4], stored[-4:]
        intact = len(stored) == entry.size + _extra(entry.path) and _checksum(body) == checksum
        if not intact:
            return None
        return body if _extra(entry.path) else stored

    def write(self, entry: Entry, data: bytes) -> None:
        """Make a copy, whole or not at all; it need not survive a power cut."""
        target = self.file(entry)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    if _extra(entry.path):
                        file.write(_checksum(data))
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise CacheError(
                f"{self._root}, where copies of {entry.path} and others are kept, cannot be "
                f"written: {error.strerror}. Set SELECTKIT_CACHE to a folder with room."
            ) from None

    def drop(self, entry: Entry) -> None:
        """Remove a copy if there is one; who has mapped it keeps it."""
        with suppress(OSError):
            self.file(entry).unlink()

    def sweep(self, entries: list[Entry]) -> None:
        """Remove copies of what is no longer so."""
        wanted = {str(self.file(entry)) for entry in entries}
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = f"{folder}/{name}"
                if path not in wanted and _is_old(path):
                    with suppress(OSError):
                        Path(path).unlink()


class NoCopies(Copies):
    """Where every read has to be of the original."""

    are_kept: ClassVar[bool] = False

    def has(self, entry: Entry) -> bool:
        """Nothing is kept."""
        return False

    def read(self, entry: Entry) -> bytes | None:
        """Nothing is kept."""
        return None

    def write(self, entry: Entry, data: bytes) -> None:
        """Keep nothing."""


def cache_folder() -> Path:
    """Return where copies of what is elsewhere are kept: $SELECTKIT_CACHE or ~/.cache/selectkit."""
    chosen = os.environ.get("SELECTKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selectkit"


def _extra(path: str) -> int:
    """Bytes that a copy has more than the object: chunk files end in a checksum already."""
    return 0 if path.startswith("views/") and not path.endswith("/zarr.json") else 4


def _checksum(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(4, "little")


def _is_old(path: str) -> bool:
    """Whether no other process can have made a copy a moment ago, or be about to."""
    try:
        return time.time() - Path(path).stat().st_mtime > _OLD
    except OSError:
        return False
