"""The ledger: a shard exists for readers once its commit does.

Files are written first, each atomically, and their commit last. To replace a committed shard, the
commit first names both states of every file (`next`); then the files are replaced, then the commit.
So a writer that is killed leaves the old rows or the new ones, never a file nobody vouches for.

A commit also names the images its rows came from. A view's shard counts only while the index still
lists these images, so features can never be read beside another image's label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import google_crc32c
import numpy as np

from selectkit import artifact
from selectkit.cache import layout
from selectkit.cache.files import Files
from selectkit.errors import CacheError


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size of a file and its CRC-32C in hex digits (a chunk's: of all but its last four bytes)."""

    size: int
    crc32c: str

    @classmethod
    def of(cls, path: str, data: bytes) -> Self:
        """Return the stamp of a file's content; `path` tells whether it is a chunk."""
        body = np.frombuffer(data, dtype=np.uint8)[: -4 if is_chunk(path) else None]
        return cls(len(data), f"{int(google_crc32c.value(body)):08x}")


@dataclass(frozen=True, slots=True)
class Commit:
    """What the ledger says about one shard.

    Attributes:
        rows: Rows of the shard that exist.
        images: Content hash of [id, content hash, status] of these rows.
        files: Stamp of each file by its path relative to the store.
        unsettled: Whether its replacement was interrupted; publish the shard again.
    """

    rows: int
    images: str
    files: Mapping[str, Stamp]
    unsettled: bool = field(default=False, compare=False)


def is_chunk(path: str) -> bool:
    """Return whether a path relative to the store is a chunk file of an array."""
    return path.startswith("views/")


def scopes(files: Files) -> list[str]:
    """Return the scopes that have a folder in the ledger, sorted."""
    return files.folders("commits")


def shards(files: Files, scope: str) -> list[int]:
    """Return the numbers of the shards that have a commit in a scope, ascending."""
    names = files.names(f"commits/{scope}")
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def find(files: Files, scope: str, shard: int) -> Commit | None:
    """Return one commit, or None when there is none; errors as for `read`."""
    exists = files.exists(layout.commit_path(scope, shard))
    return read(files, scope, shard) if exists else None


def read(files: Files, scope: str, shard: int) -> Commit:
    """Read one commit.

    Args:
        files: The store's.
        scope: Ledger scope.
        shard: Number of the shard.

    Returns:
        The commit; of a shard whose replacement was interrupted, the state its files are in.

    Raises:
        CacheError: If the commit is missing or damaged.
    """
    path = layout.commit_path(scope, shard)
    document = read_document(files, path)
    if (document["scope"], document["shard"]) != (scope, shard):
        found = f"shard {document['shard']} of {document['scope']!r}"
        raise CacheError(
            f"{files.where(path)} is the commit of {found}: it lies in the wrong "
            "place. Delete it to have the shard extracted again."
        )
    old = _parse(document)
    return _settle(files, old, _parse(document["next"])) if "next" in document else old


def read_document(files: Files, path: str) -> dict[str, Any]:
    """Read a commit file and check its own checksum.

    Args:
        files: The store's.
        path: The commit file.

    Returns:
        The document.

    Raises:
        CacheError: If it is missing, no JSON, not what was written, or of another format version.
    """
    document, intact = layout.read_sealed(files, path)
    if not intact:
        raise CacheError(
            f"{files.where(path)} is damaged: its checksum does not match. "
            "Delete it to have the shard extracted again."
        )
    if document.get("kind") != "commit" or document.get("format_version") != layout.FORMAT_VERSION:
        where = files.where(path)
        raise CacheError(f"{where} is no commit of format version {layout.FORMAT_VERSION}.")
    return document


def publish(
    files: Files, scope: str, shard: int, rows: int, images: str, contents: Mapping[str, bytes]
) -> None:
    """Write the files of a shard and then their commit; replaces an earlier one as a whole.

    Args:
        files: The store's. The caller holds its lock.
        scope: Ledger scope.
        shard: Number of the shard.
        rows: Rows of the shard that exist after this.
        images: Content hash of the images these rows come from.
        contents: Content of each file by its path relative to the store.
    """
    new = Commit(rows, images, {path: Stamp.of(path, data) for path, data in contents.items()})
    try:
        old = find(files, scope, shard)
    except CacheError:  # a damaged commit is replaced like a missing one
        old = None
    if old is not None and old != new:
        _write(files, scope, shard, old, new)
    for path, data in contents.items():
        if is_chunk(path):
            files.clean(path.rpartition("/")[0])
        files.write(path, data)
    _write(files, scope, shard, new, None)


def read_file(files: Files, path: str, stamp: Stamp) -> bytes:
    """Read a committed file that is not a chunk and compare it with its stamp.

    Args:
        files: The store's.
        path: The file, relative to the store.
        stamp: What its commit says.

    Returns:
        The content.

    Raises:
        CacheError: If the file is missing or not what was written.
    """
    hint = "Run `selectkit verify` to see what else is."
    try:
        data = files.read(path)
    except OSError:
        raise CacheError(
            f"{files.where(path)} is missing though its shard is committed. {hint}"
        ) from None
    if Stamp.of(path, data) != stamp:
        raise CacheError(f"{files.where(path)} is damaged: its checksum does not match. {hint}")
    return data


def withdraw(files: Files, scope: str) -> None:
    """Remove all commits of a scope: its shards stop to exist for readers."""
    files.remove(*(layout.commit_path(scope, shard) for shard in shards(files, scope)))


def _write(files: Files, scope: str, shard: int, commit: Commit, following: Commit | None) -> None:
    document = {
        "kind": "commit",
        "format_version": layout.FORMAT_VERSION,
        "scope": scope,
        "shard": shard,
        **_as_json(commit),
        **({"next": _as_json(following)} if following is not None else {}),
    }
    document["checksum"] = artifact.content_hash(document)
    files.write(layout.commit_path(scope, shard), artifact.canonical_json(document) + b"\n")


def _as_json(commit: Commit) -> dict[str, Any]:
    files = {path: {"bytes": s.size, "crc32c": s.crc32c} for path, s in commit.files.items()}
    return {"rows": commit.rows, "images": commit.images, "files": files}


def _parse(document: Mapping[str, Any]) -> Commit:
    files = {path: Stamp(s["bytes"], s["crc32c"]) for path, s in document["files"].items()}
    return Commit(document["rows"], document["images"], files)


def _settle(files: Files, old: Commit, new: Commit) -> Commit:
    """The state of an interrupted replacement; mixed files share at least the old rows."""
    replaced = {path for path, stamp in new.files.items() if _found(files, path) == stamp}
    if replaced == set(new.files):
        return replace(new, unsettled=True)
    stamps = {path: new.files[path] if path in replaced else s for path, s in old.files.items()}
    return Commit(min(old.rows, new.rows), old.images, stamps, unsettled=True)


def _found(files: Files, path: str) -> Stamp | None:
    try:
        return Stamp.of(path, files.read(path))
    except OSError:
        return None
