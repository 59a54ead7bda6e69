"""The files of a store, by path relative to it, wherever it lies.

A file is written whole or not at all, and a reader finds the old content or the new. In a local
folder that is a rename; in an object store every write is so (`selectkit.cache.mirror`).
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from selectkit import artifact
from selectkit.cache.lock import Lock, WriteLock
from selectkit.location import Location, Url, location

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # of an atomic write that was interrupted


class Files(Protocol):
    """What the parts of a store need of the place where it lies."""

    @property
    def place(self) -> Location:
        """Where it lies."""
        ...

    @property
    def readers(self) -> int:
        """How many reads at once pay."""
        ...

    def where(self, path: str) -> str:
        """Return the whole path or URL of a file, for messages."""
        ...

    def make(self, *folders: str) -> None:
        """Make the place, and folders in it, where that has to be done."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether there is a file."""
        ...

    def size(self, path: str) -> int:
        """Return the bytes of a file; OSError if it is missing."""
        ...

    def read(self, path: str) -> bytes:
        """Return the content of a file; OSError if it is missing."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Replace a file as a whole, for good."""
        ...

    def remove(self, *paths: str) -> None:
        """Remove files, those that are there."""
        ...

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it, if it is there. Only for the one writer."""
        ...

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, sorted; none when it does not exist."""
        ...

    def names(self, path: str) -> list[str]:
        """Return the names of the files in a folder; none when it does not exist."""
        ...

    def walk(self) -> Iterator[tuple[str, int]]:
        """Yield path and bytes of all files."""
        ...

    def clean(self, *names: str) -> None:
        """Remove what interrupted writes left in folders. Only for the one writer."""
        ...

    def local(self, path: str) -> str:
        """Return a local file with the content of a file, to be mapped; OSError if missing."""
        ...

    def renew(self, path: str) -> bool:
        """Get a file again whose content is not what it should be; whether there is hope."""
        ...

    def fetch(self, paths: Iterable[str]) -> None:
        """Get ready to read these files."""
        ...

    def refresh(self, *folders: str) -> None:
        """See what others wrote since, in these folders (the whole store when none is named)."""
        ...

    def look(self, *paths: str) -> None:
        """See what others did with these files since."""
        ...

    def direct(self) -> "Files":
        """Return the same files, read from where they lie and not from a copy."""
        ...

    def lock(self) -> Lock:
        """Return a new handle on the right to write."""
        ...


def files_at(place: "str | Path | Url") -> Files:
    """Return the files of the store at a path or URL, existing or not.

    Args:
        place: Where it lies.

    Returns:
        The files.

    Raises:
        ConfigError: If the URL is of another kind.
        MissingExtraError: If what reads such URLs is not installed.
        RemoteError: If the object store cannot be reached.
    """
    found = location(place)
    if isinstance(found, Url):
        from selectkit.cache.mirror import MirroredFiles

        return MirroredFiles(found)
    return LocalFiles(found)


class LocalFiles:
    """The files of a local folder.

    Attributes:
        place: The folder.
    """

    readers = 1

    def __init__(self, place: Path) -> None:
        self.place = place
        self._root = str(place)  # 10,000 commits are read by joining texts; Path takes too long

    def where(self, path: str) -> str:
        """Return the whole path of a file."""
        return str(self.place / path)

    def make(self, *folders: str) -> None:
        """Make the folder, and folders in it."""
        self.place.mkdir(parents=True, exist_ok=True)
        for name in folders:
            (self.place / name).mkdir(exist_ok=True)

    def exists(self, path: str) -> bool:
        """Return whether there is a file."""
        return os.path.isfile(f"{self._root}/{path}")  # noqa: PTH113 # 10,000 of them

    def size(self, path: str) -> int:
        """Return the bytes of a file; OSError if it is missing."""
        return os.stat(f"{self._root}/{path}").st_size  # noqa: PTH116 # 10,000 of them

    def read(self, path: str) -> bytes:
        """Return the content of a file; OSError if it is missing."""
        handle = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return b"".join(iter(partial(os.read, handle, 1 << 20), b""))
        finally:
            os.close(handle)

    def write(self, path: str, data: bytes) -> None:
        """Replace a file as a whole; it survives a power cut."""
        target = self.place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_bytes(target, data)
        self._sync(target.parent)

    def remove(self, *paths: str) -> None:
        """Remove files, those that are there."""
        for path in paths:
            (self.place / path).unlink(missing_ok=True)
        for folder in {(self.place / path).parent for path in paths}:
            self._sync(folder)

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it, if it is there. Only for the one writer."""
        folder = self.place / path
        if folder.is_dir():
            shutil.rmtree(folder)
            self._sync(folder.parent)

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, sorted; none when it does not exist."""
        return sorted(entry.name for entry in self._entries(path) if entry.is_dir())

    def names(self, path: str) -> list[str]:
        """Return the names of the files in a folder; none when it does not exist."""
        return [entry.name for entry in self._entries(path) if entry.is_file()]

    def walk(self) -> Iterator[tuple[str, int]]:
        """Yield path and bytes of all files."""
        for file in self.place.rglob("*"):
            if file.is_file():
                yield file.relative_to(self.place).as_posix(), file.stat().st_size

    def clean(self, *names: str) -> None:
        """Remove what interrupted writes left in folders. Only for the one writer."""
        for folder in names:
            for name in self.names(folder):
                if _TEMPORARY.fullmatch(name):
                    (self.place / folder / name).unlink(missing_ok=True)

    def local(self, path: str) -> str:
        """Return the file itself."""
        return f"{self._root}/{path}"

    def renew(self, path: str) -> bool:
        """Return False: there is no other copy."""
        return False

    def fetch(self, paths: Iterable[str]) -> None:
        """Do nothing: they are here."""

    def refresh(self, *folders: str) -> None:
        """Do nothing: what others write is seen at once."""

    def look(self, *paths: str) -> None:
        """Do nothing: what others write is seen at once."""

    def direct(self) -> "LocalFiles":
        """Return itself."""
        return self

    def lock(self) -> WriteLock:
        """Return a new handle on the right to write."""
        return WriteLock(self.place)

    def _entries(self, path: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(f"{self._root}/{path}") as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _sync(self, folder: Path) -> None:
        """Make the renames in a folder survive a power cut."""
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
