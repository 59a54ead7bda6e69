"""The files of a store in an object store, with copies in a local folder that can be mapped.

The truth is in the object store. A listing says which objects there are; an object is downloaded
when it is first read, and kept under a name that holds its tag, so that a copy is of one content
for ever and a later listing says whether it is still the right one. Any number of processes share
the copies; to delete them costs nothing but the download.
"""

import errno
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import google_crc32c

from selectkit.cache.leases import LeaseLock
from selectkit.errors import CacheError
from selectkit.location import Url
from selectkit.objects import Entry, Objects

_READERS = 16
_OLD = 3600.0  # seconds


class MirroredFiles:
    """The files below a URL.

    Attributes:
        place: The URL.
    """

    readers = _READERS

    def __init__(self, place: Url) -> None:
        """List nothing yet.

        Args:
            place: The URL.

        Raises:
            MissingExtraError: If the extra is not installed.
        """
        self.place = place
        self._objects = Objects(place)
        self._copies = _Copies(place)
        self._known = _Known()
        self._lock: LeaseLock | None = None

    def where(self, path: str) -> str:
        """Return the URL of a file."""
        return str(self.place / path)

    def make(self, *folders: str) -> None:
        """Do nothing: object stores have no folders."""

    def exists(self, path: str) -> bool:
        """Return whether there was a file when it was last looked."""
        return self._known.find(path) is not None

    def size(self, path: str) -> int:
        """Return the bytes of a file; OSError if it is missing."""
        return self._entry(path).size

    def read(self, path: str) -> bytes:
        """Return the content of a file, of the local copy if there is an intact one."""
        entry = self._entry(path)
        data = self._copies.read(entry)
        return self._download(path) if data is None else data

    def write(self, path: str, data: bytes) -> None:
        """Write a file: all of it or, when this fails, nothing."""
        if self._lock is not None:
            self._lock.require()
        self._keep(self._objects.put(path, data), data)

    def remove(self, *paths: str) -> None:
        """Remove files, those that are there."""
        self._objects.remove(paths)
        for path in paths:
            self._forget(path)

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        return sorted(self._known.folders(path))

    def names(self, path: str) -> list[str]:
        """Return the names of the files in a folder."""
        return self._known.names(path)

    def walk(self) -> Iterator[tuple[str, int]]:
        """Yield path and bytes of all files."""
        for entry in self._known.entries():
            yield entry.path, entry.size

    def clean(self, *names: str) -> None:
        """Do nothing: an interrupted upload is no object."""

    def local(self, path: str) -> str:
        """Return the local copy of a file, downloaded if it is not there."""
        entry = self._entry(path)
        if not self._copies.has(entry):
            data = self._download(path)
            entry = self._entry(path)
            if not self._copies.has(entry):  # a copy saves time; this one is needed
                self._copies.write(entry, data)
        return str(self._copies.file(entry))

    def renew(self, path: str) -> bool:
        """Download a file again, whatever the copy looks like."""
        self._copies.drop(self._entry(path))
        self._download(path)
        return True

    def fetch(self, paths: Iterable[str]) -> None:
        """Download what is not here, several files at a time."""
        if not self._copies.are_kept:
            return
        found = map(self._known.find, paths)
        missing = [e.path for e in found if e is not None and not self._copies.has(e)]
        if missing:
            with ThreadPoolExecutor(min(_READERS, len(missing)), "download") as pool:
                for _ in pool.map(self._download_if_there, missing):
                    pass

    def refresh(self, *folders: str) -> None:
        """See what others wrote since, in these folders (the whole store when none is named)."""
        for folder in folders or ("",):
            began = self._known.now()
            found = list(self._objects.list(folder))
            for entry in self._known.replace(folder, found, began):
                self._copies.drop(entry)
        if not folders:
            self._copies.sweep(self._known.entries())

    def look(self, *paths: str) -> None:
        """See what others did with these files since."""
        for path in paths:
            entry = self._objects.head(path)
            if entry is None:
                self._forget(path)
            else:
                self._remember(entry)

    def direct(self) -> "MirroredFiles":
        """Return the same files, every read a download."""
        twin = MirroredFiles.__new__(MirroredFiles)
        twin.__dict__ |= self.__dict__ | {"_copies": _NoCopies(self.place)}
        return twin

    def lock(self) -> LeaseLock:
        """Return a new handle on the right to write; what is written from now on asks it."""
        self._lock = LeaseLock(self.place)
        return self._lock

    def _entry(self, path: str) -> Entry:
        if self._known.find(path) is None:
            self.look(path)  # somebody else may have made it since
        entry = self._known.find(path)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", self.where(path))
        return entry

    def _download(self, path: str) -> bytes:
        data, entry = self._objects.get(path)
        self._keep(entry, data)
        return data

    def _download_if_there(self, path: str) -> None:
        with suppress(OSError):  # whoever reads it says so
            self._download(path)

    def _keep(self, entry: Entry, data: bytes) -> None:
        self._remember(entry)
        with suppress(OSError):
            self._copies.write(entry, data)

    def _remember(self, entry: Entry) -> None:
        old = self._known.put(entry)
        if old is not None and old.tag != entry.tag:
            self._copies.drop(old)

    def _forget(self, path: str) -> None:
        old = self._known.drop(path)
        if old is not None:
            self._copies.drop(old)


class _Known:
    """What objects there are, as far as it is known, by path and by folder."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._files: dict[str, set[str]] = {}
        self._folders: dict[str, set[str]] = {}
        self._changed: dict[str, int] = {}  # what this process changed, and when
        self._clock = 0
        self._guard = threading.RLock()

    def now(self) -> int:
        """A time to compare changes with."""
        with self._guard:
            self._clock += 1
            return self._clock

    def find(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def entries(self) -> list[Entry]:
        with self._guard:
            return list(self._entries.values())

    def folders(self, path: str) -> set[str]:
        with self._guard:
            return set(self._folders.get(path, ()))

    def names(self, path: str) -> list[str]:
        with self._guard:
            return list(self._files.get(path, ()))

    def put(self, entry: Entry) -> Entry | None:
        """Take over an object; returns what was known of it."""
        with self._guard:
            self._changed[entry.path] = self.now()
            return self._put(entry)

    def drop(self, path: str) -> Entry | None:
        """Forget an object; returns what was known of it."""
        with self._guard:
            self._changed[path] = self.now()
            return self._drop(path)

    def replace(self, folder: str, found: list[Entry], began: int) -> list[Entry]:
        """Take over a listing that began at some time; returns what is no longer so."""
        with self._guard:
            inside = {e.path: e for e in found}
            old = [e for p, e in self._entries.items() if not folder or p.startswith(f"{folder}/")]
            mine = {path for path, when in self._changed.items() if when > began}
            gone = [e for e in old if e.path not in inside and e.path not in mine]
            for entry in gone:
                self._drop(entry.path)
            for path, entry in inside.items():
                if path not in mine:
                    before = self._put(entry)
                    if before is not None and before.tag != entry.tag:
                        gone.append(before)
            return gone

    def _put(self, entry: Entry) -> Entry | None:
        before = self._entries.get(entry.path)
        self._entries[entry.path] = entry
        if before is None:
            folder, _, name = entry.path.rpartition("/")
            self._files.setdefault(folder, set()).add(name)
            while folder:
                above, _, name = folder.rpartition("/")
                self._folders.setdefault(above, set()).add(name)
                folder = above
        return before

    def _drop(self, path: str) -> Entry | None:
        before = self._entries.pop(path, None)
        if before is not None:
            folder, _, name = path.rpartition("/")
            self._files[folder].discard(name)
            while folder and not self._files.get(folder) and not self._folders.get(folder):
                above, _, name = folder.rpartition("/")
                self._folders[above].discard(name)
                folder = above
        return before


class _Copies:
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


class _NoCopies(_Copies):
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
