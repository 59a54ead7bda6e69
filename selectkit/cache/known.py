"""What objects a store consists of, as far as this process knows."""

import threading

from selectkit.objects import Entry


class Known:
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
        """Return what is known of an object, None when it is not known."""
        return self._entries.get(path)

    def entries(self) -> list[Entry]:
        """Return all objects."""
        with self._guard:
            return list(self._entries.values())

    def folders(self, path: str) -> set[str]:
        """Return the names of the folders in a folder."""
        with self._guard:
            return set(self._folders.get(path, ()))

    def names(self, path: str) -> list[str]:
        """Return the names of the objects in a folder."""
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
