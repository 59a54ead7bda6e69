"""Flags made from the fields of `selectkit.config`, so that each setting is described once."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_type_hints

import typer

from selectkit.config import Help, build, read_toml

T = TypeVar("T")

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document for programs, nothing else.")
]
ConfigFile: TypeAlias = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings; flags win over it.")
]
Store: TypeAlias = Annotated[str, typer.Argument(help="Feature store (a folder or URL, *.zarr).")]
Run: TypeAlias = Annotated[str, typer.Argument(help="Run directory made by `selectkit fit`.")]
StoreOverride: TypeAlias = Annotated[
    str | None, typer.Option("--store", help="Where the feature store is now, if it was moved.")
]


def flag(cls: type[Any], name: str) -> Any:
    """Return the typer option for one field of a configuration class.

    Args:
        cls: A class of `selectkit.config`.
        name: The field.

    Returns:
        An option whose help is the field's meaning and default.
    """
    meaning = next(
        m
        for m in get_type_hints(cls, include_extras=True)[name].__metadata__
        if isinstance(m, Help)
    )
    default = cls.__dataclass_fields__[name].default
    shown = "" if default is None or default is False else f" (default: {default})"
    return typer.Option(
        "--" + name.replace("_", "-"),
        help=meaning.text + shown,
        show_default=False,
        rich_help_panel=meaning.panel,
    )


def settings(context: typer.Context, cls: type[T], table: str, config: Path | None) -> T:
    """Merge one table of a configuration file with the flags that were given.

    Args:
        context: The running command; its parameters named like fields of `cls` are the flags.
        cls: A class of `selectkit.config`.
        table: Its table in the file.
        config: The file, or None.

    Returns:
        The checked configuration.
    """
    values = asdict(getattr(read_toml(config), table)) if config else {}
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type] # every T is a dataclass
    given = {k: v for k, v in context.params.items() if k in names and v not in (None, ())}
    return build(cls, values | given, where="settings")
