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
from selectkit.cache import layout, manifest, splits
from selectkit.cache.files import Files, files_at
from selectkit.cache.splits import SplitScheme
from selectkit.cache.store import FeatureStore
from selectkit.cache.verify import Problem, damaged_shards, documents
from selectkit.cache.views import HeadInfo, ViewInfo
from selectkit.errors import CacheError
from selectkit.location import Url

_TEXT = bytes([*range(32, 127), 10, 9])  # what most bytes of a description are


def repair(path: str | Path | Url) -> list[Problem]:
    """Withdraw damaged shards and mend damaged descriptions, so that `verify` finds nothing.

    Args:
        path: The store's folder or URL.

    Returns:
        The files concerned and what was done about each; what could not be mended is left as it
        is, for `verify` to tell.

    Raises:
        CacheError: If there is no store, its manifest cannot be mended, or somebody is writing it.
    """
    files = files_at(path)
    files.refresh()
    if not files.exists("zarr.json"):
        manifest.read(files)  # says that there is no store
    with files.lock().held():
        files.refresh()
        done = [*_descriptions(files.direct())]
    store = FeatureStore.open(path)
    with store.writing():
        direct = store.direct()
        for folder, document in documents(direct):
            if _document_differs(direct.files, folder, document):
                layout.write_zarr(direct.files, folder, document)
                done.append(Problem(f"{folder}/zarr.json", "was damaged: written anew."))
        for scope, shard in [*damaged_shards(direct)]:
            name = layout.commit_path(scope, shard)
            store.files.remove(name)
            verb = "fit" if ".logits." in scope else "extract"
            what = f"withdrawn: run `selectkit {verb}` again to have the shard written anew."
            done.append(Problem(name, what))
    return done


def _descriptions(files: Files) -> Iterator[Problem]:
    """Mend what nothing else says: manifest, splits, views and heads."""
    yield from _mend(files, "zarr.json", partial(manifest.read, files), _zarr_intact)
    yield from _mend(files, splits.PATH, partial(SplitScheme.load, files), _splits_intact)
    for view in files.folders("views"):
        path = f"views/{view}/zarr.json"
        if files.exists(path):
            yield from _mend(files, path, partial(ViewInfo.read, files, view), _zarr_intact)
        for head in files.folders(f"views/{view}/logits"):
            path = f"{layout.logits_folder(view, head)}/zarr.json"
            if files.exists(path):
                read = partial(HeadInfo.read, files, view, head)
                yield from _mend(files, path, read, _zarr_intact)


def _mend(
    files: Files, path: str, read: Callable[[], object], intact: Callable[[Any], bool]
) -> Iterator[Problem]:
    try:
        read()
    except CacheError:
        data = files.read(path) if files.exists(path) else b""
        found = next((d for d in _neighbours(data) if _is_intact(d, intact)), None)
        if found is not None:
            files.write(path, found)
            yield Problem(path, "had one wrong byte: mended by its checksum.")


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


def _document_differs(files: Files, folder: str, document: dict[str, Any]) -> bool:
    try:
        found = layout.read_zarr(files, folder)
    except CacheError:
        return True
    return found != layout.like(document, found)
