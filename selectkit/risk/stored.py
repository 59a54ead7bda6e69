"""Reading back what `to_dict` of a dataclass wrote."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from selectkit.errors import ArtifactError


def exact_fields(
    document: Mapping[str, Any], cls: type[Any], what: str, **tag: str
) -> dict[str, Any]:
    """Return the fields of a dataclass; what is missing or unknown is refused.

    Args:
        document: The fields and the tag, by name.
        cls: The dataclass.
        what: What the document is, for the message: "a risk monitor".
        **tag: The name and the value that tell this kind of document from others.

    Returns:
        The fields by name, without the tag.

    Raises:
        ArtifactError: If names differ, or the tag says that it is something else.
    """
    names = {*tag, *(field.name for field in fields(cls))}
    if set(document) != names or any(document[name] != value for name, value in tag.items()):
        told = ", ".join(f'{name} = "{value}"' for name, value in tag.items())
        raise ArtifactError(f"{what} must have {told} and exactly the fields {sorted(names)}.")
    return {name: value for name, value in document.items() if name not in tag}
