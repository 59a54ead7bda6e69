"""JSON Schemas (2020-12) of every artifact, one file per kind and version, and their check.

A released schema never changes: a new version is a new file.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from selectkit.errors import ArtifactError


@cache
def schema(kind: str, version: int) -> dict[str, Any]:
    """Return the JSON Schema of one artifact kind.

    Args:
        kind: For instance "head" or "thresholds".
        version: Format version, a positive integer.

    Returns:
        The schema.

    Raises:
        ArtifactError: If this release knows no such kind or version.
    """
    resource = files("selectkit.schemas") / f"{kind}.v{version}.schema.json"
    if not resource.is_file():
        raise ArtifactError(
            f"artifact kind {kind!r} in format version {version} is unknown to this release. "
            "Upgrade selectkit, or make the artifact again with this release."
        )
    document: dict[str, Any] = json.loads(resource.read_text(encoding="utf-8"))
    return document


def validate(document: dict[str, Any], where: str) -> None:
    """Check an artifact against the schema that its `kind` and `format_version` name.

    Args:
        document: The parsed JSON.
        where: File name for the message.

    Raises:
        ArtifactError: If `kind` or `format_version` is missing or unknown, or with all the
            places at which the document breaks its schema.
    """
    from jsonschema import Draft202012Validator

    kind, version = document.get("kind"), document.get("format_version")
    if not isinstance(kind, str) or not isinstance(version, int):
        raise ArtifactError(f"{where} is no selectkit artifact: no kind and format_version in it.")
    try:
        validator = Draft202012Validator(schema(kind, version))
    except ArtifactError as error:
        raise ArtifactError(f"{where}: {error}") from None
    problems = [
        f"{'/'.join(map(str, e.absolute_path)) or '(top)'}: {e.message}"
        for e in sorted(validator.iter_errors(document), key=lambda e: list(map(str, e.path)))
    ]
    if problems:
        raise ArtifactError(f"{where} does not match its schema: " + "; ".join(problems) + ".")
