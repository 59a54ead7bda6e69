"""The files of a store in an object store, with copies in a local folder that can be mapped.

The truth is in the object store. A listing says which objects there are; an object is downloaded
when it is first read, and kept under a name that holds its tag, so that a copy is of one content
for ever and a later listing says whether it is still the right one. Any number of processes share
the copies; to delete them costs nothing but the download.
"""

import errno
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from selectkit.cache.copies import Copies, NoCopies
from selectkit.cache.known import Known
from selectkit.cache.leases import LeaseLock
from selectkit.location import Url
from selectkit.objects import Entry, Objects

_READERS = 16


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
        self._copies = Copies(place)
        self._known = Known()
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

    def remove_folder(self, path: str) -> None:
        """Remove all files below a path."""
        self.remove(*(file for file, _ in self.walk() if file.startswith(f"{path}/")))

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
        twin.__dict__ |= self.__dict__ | {"_copies": NoCopies(self.place)}
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
