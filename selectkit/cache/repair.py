"""Making a damaged store valid again.

What can be made anew is withdrawn: a shard whose commit, index part or chunk is damaged or missing
loses its commit and is written by the next extraction (or, if it holds logits, by the next fit).
Descriptions cannot be made anew; but they carry a SHA-256 of themselves, so that a single wrong
byte is found by trying, and array descriptions follow from their view's.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from selectkit import artifact
from selectkit.cache import layout, manifest
from selectkit.cache.lock import WriteLock
from selectkit.cache.splits import SplitScheme
from selectkit.cache.store import FeatureStore
from selectkit.cache.verify import Problem, damaged_shards, documents
from selectkit.cache.views import HeadInfo, ViewInfo
from selectkit.errors import CacheError

_TEXT = bytes([*range(32, 127), 10, 9])  # what most bytes of a description are


def repair(path: str | Path) -> list[Problem]:
    """Withdraw damaged shards and mend damaged descriptions, so that `verify` finds nothing.

    Args:
        path: The store.

    Returns:
        The files concerned and what was done about each; what could not be mended is left as it
        is, for `verify` to tell.

    Raises:
        CacheError: If there is no store, its manifest cannot be mended, or somebody is writing it.
    """
    root = Path(path)
    if not (root / "zarr.json").is_file():
        manifest.read(root)  # says that there is no store
    with WriteLock(root).held():
        done = [*_descriptions(root)]
    store = FeatureStore.open(root)
    with store.writing():
        for folder, document in documents(store):
            if _document_differs(store.path / folder, document):
                layout.write_zarr(store.path / folder, document)
                done.append(Problem(f"{folder}/zarr.json", "was damaged: written anew."))
        for scope, shard in damaged_shards(store):
            name = layout.commit_path(scope, shard)
            (root / name).unlink(missing_ok=True)
            layout.sync_folder((root / name).parent)
            verb = "fit" if ".logits." in scope else "extract"
            what = f"withdrawn: run `selectkit {verb}` again to have the shard written anew."
            done.append(Problem(name, what))
    return done


def _descriptions(root: Path) -> Iterator[Problem]:
    """Mend what nothing else says: manifest, splits, views and heads."""
    yield from _mend(root / "zarr.json", root, partial(manifest.read, root), _zarr_intact)
    splits = root / "splits.json"
    yield from _mend(splits, root, partial(SplitScheme.load, splits), _splits_intact)
    for view in layout.folders(root / "views"):
        if (view / "zarr.json").is_file():
            read = partial(ViewInfo.read, root, view.name)
            yield from _mend(view / "zarr.json", root, read, _zarr_intact)
        for head in layout.folders(view / "logits"):
            if (head / "zarr.json").is_file():
                read_head = partial(HeadInfo.read, root, view.name, head.name)
                yield from _mend(head / "zarr.json", root, read_head, _zarr_intact)


def _mend(
    file: Path, root: Path, read: Callable[[], object], intact: Callable[[Any], bool]
) -> Iterator[Problem]:
    try:
        read()
    except CacheError:
        data = file.read_bytes() if file.is_file() else b""
        found = next((d for d in _neighbours(data) if _is_intact(d, intact)), None)
        if found is not None:
            artifact.write_bytes(file, found)
            what = "had one wrong byte: mended by its checksum."
            yield Problem(file.relative_to(root).as_posix(), what)


def _neighbours(data: bytes) -> Iterator[bytes]:
    """All contents that differ in one byte, likely ones first."""
    for values in (_TEXT, bytes(set(range(256)) - set(_TEXT))):
        for at in range(len(data)):
            head, tail = data[:at], data[at + 1 :]
            for value in values:
                yield head + bytes((value,)) + tail


def _is_intact(data: bytes, intact: Callable[[Any], bool]) -> bool:
    try:
        document = json.loads(data)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"  # as all are written
        return intact(document) and text.encode() == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _zarr_intact(document: Any) -> bool:
    return bool(layout.sealed(document) == document)


def _splits_intact(document: Any) -> bool:
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return bool(document["checksum"] == artifact.content_hash(rest))


def _document_differs(folder: Path, document: dict[str, Any]) -> bool:
    try:
        found = layout.read_zarr(folder)
    except CacheError:
        return True
    return found != layout.like(document, found)
