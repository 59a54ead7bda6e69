"""The ledger: a shard exists for readers once its commit does.

Files are written first, each atomically, and their commit last. To replace a committed shard, the
commit first names both states of every file (`next`); then the files are replaced, then the commit.
So a writer that is killed leaves the old rows or the new ones, never a file nobody vouches for.

A commit also names the images its rows came from. A view's shard counts only while the index still
lists these images, so features can never be read beside another image's label.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import google_crc32c

from selectkit import artifact
from selectkit.cache import layout
from selectkit.errors import CacheError


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size of a file and its CRC-32C in hex digits (a chunk's: of all but its last four bytes)."""

    size: int
    crc32c: str

    @classmethod
    def of(cls, path: str, data: bytes) -> Self:
        """Return the stamp of a file's content; `path` tells whether it is a chunk."""
        body = data[:-4] if is_chunk(path) else data
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


def scopes(root: Path) -> list[str]:
    """Return the scopes that have a folder in the ledger, sorted."""
    return [folder.name for folder in layout.folders(root / "commits")]


def shards(root: Path, scope: str) -> list[int]:
    """Return the numbers of the shards that have a commit in a scope, ascending."""
    try:
        with os.scandir(root / "commits" / scope) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:
        return []
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def find(root: Path, scope: str, shard: int) -> Commit | None:
    """Return one commit, or None when there is none; errors as for `read`."""
    exists = (root / layout.commit_path(scope, shard)).exists()
    return read(root, scope, shard) if exists else None


def read(root: Path, scope: str, shard: int) -> Commit:
    """Read one commit.

    Args:
        root: The store.
        scope: Ledger scope.
        shard: Number of the shard.

    Returns:
        The commit; of a shard whose replacement was interrupted, the state its files are in.

    Raises:
        CacheError: If the commit is missing or damaged.
    """
    path = f"{root}/{layout.commit_path(scope, shard)}"  # 10,000 of them: Path takes too long
    document = read_document(path)
    if (document["scope"], document["shard"]) != (scope, shard):
        raise CacheError(
            f"{path} is the commit of shard {document['shard']} of {document['scope']!r}: "
            "it lies in the wrong place. Delete it to have the shard extracted again."
        )
    old = _parse(document)
    return _settle(root, old, _parse(document["next"])) if "next" in document else old


def read_document(path: str | Path) -> dict[str, Any]:
    """Read a commit file and check its own checksum.

    Args:
        path: The commit file.

    Returns:
        The document.

    Raises:
        CacheError: If it is missing, no JSON, not what was written, or of another format version.
    """
    document, intact = layout.read_sealed(path)
    if not intact:
        raise CacheError(
            f"{path} is damaged: its checksum does not match. "
            "Delete it to have the shard extracted again."
        )
    if document.get("kind") != "commit" or document.get("format_version") != layout.FORMAT_VERSION:
        raise CacheError(f"{path} is no commit of format version {layout.FORMAT_VERSION}.")
    return document


def publish(
    root: Path, scope: str, shard: int, rows: int, images: str, files: Mapping[str, bytes]
) -> None:
    """Write the files of a shard and then their commit; replaces an earlier one as a whole.

    Args:
        root: The store. The caller holds its lock.
        scope: Ledger scope.
        shard: Number of the shard.
        rows: Rows of the shard that exist after this.
        images: Content hash of the images these rows come from.
        files: Content of each file by its path relative to the store.
    """
    new = Commit(rows, images, {path: Stamp.of(path, data) for path, data in files.items()})
    try:
        old = find(root, scope, shard)
    except CacheError:  # a damaged commit is replaced like a missing one
        old = None
    if old is not None and old != new:
        _write(root, scope, shard, old, new)
    for path, data in files.items():
        folder = (root / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        if is_chunk(path):
            layout.clean(folder)
        artifact.write_bytes(root / path, data)
        layout.sync_folder(folder)
    _write(root, scope, shard, new, None)


def read_file(root: Path, path: str, stamp: Stamp) -> bytes:
    """Read a committed file that is not a chunk and compare it with its stamp.

    Args:
        root: The store.
        path: The file, relative to the store.
        stamp: What its commit says.

    Returns:
        The content.

    Raises:
        CacheError: If the file is missing or not what was written.
    """
    hint = "Run `selectkit verify` to see what else is."
    try:
        data = (root / path).read_bytes()
    except OSError:
        raise CacheError(
            f"{root / path} is missing though its shard is committed. {hint}"
        ) from None
    if Stamp.of(path, data) != stamp:
        raise CacheError(f"{root / path} is damaged: its checksum does not match. {hint}")
    return data


def withdraw(root: Path, scope: str) -> None:
    """Remove all commits of a scope: its shards stop to exist for readers."""
    for shard in shards(root, scope):
        (root / layout.commit_path(scope, shard)).unlink(missing_ok=True)


def _write(root: Path, scope: str, shard: int, commit: Commit, following: Commit | None) -> None:
    document = {
        "kind": "commit",
        "format_version": layout.FORMAT_VERSION,
        "scope": scope,
        "shard": shard,
        **_as_json(commit),
        **({"next": _as_json(following)} if following is not None else {}),
    }
    document["checksum"] = artifact.content_hash(document)
    path = root / layout.commit_path(scope, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    artifact.write_bytes(path, artifact.canonical_json(document) + b"\n")
    layout.sync_folder(path.parent)


def _as_json(commit: Commit) -> dict[str, Any]:
    files = {path: {"bytes": s.size, "crc32c": s.crc32c} for path, s in commit.files.items()}
    return {"rows": commit.rows, "images": commit.images, "files": files}


def _parse(document: Mapping[str, Any]) -> Commit:
    files = {path: Stamp(s["bytes"], s["crc32c"]) for path, s in document["files"].items()}
    return Commit(document["rows"], document["images"], files)


def _settle(root: Path, old: Commit, new: Commit) -> Commit:
    """The state of an interrupted replacement; mixed files share at least the old rows."""
    replaced = {path for path, stamp in new.files.items() if _found(root / path, path) == stamp}
    if replaced == set(new.files):
        return replace(new, unsettled=True)
    files = {path: new.files[path] if path in replaced else s for path, s in old.files.items()}
    return Commit(min(old.rows, new.rows), old.images, files, unsettled=True)


def _found(path: Path, relative: str) -> Stamp | None:
    try:
        return Stamp.of(relative, path.read_bytes())
    except OSError:
        return None
