"""Reading, checking and writing configuration."""

import tomllib
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from selectkit.config.run_config import RunConfig
from selectkit.errors import ConfigError

T = TypeVar("T")


def build(cls: type[T], settings: Mapping[str, Any], where: str = "settings") -> T:
    """Build a configuration class from plain values.

    Args:
        cls: A class of `selectkit.config`.
        settings: Values by key; tables are nested mappings.
        where: What to call the source in the message.

    Returns:
        The checked, frozen configuration.

    Raises:
        ConfigError: With all unknown keys and unusable values in one message.
    """
    from pydantic import ValidationError

    try:
        built: T = _adapter(cast(Hashable, cls)).validate_python(dict(settings))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(map(_problem, error.errors())) + ".") from None
    problems = list(_no_switches(settings, built))
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems) + ".")
    return built


@cache
def _adapter(cls: Hashable) -> Any:
    """Checks settings: unknown keys, NaN and infinity are refused."""
    from pydantic import ConfigDict, TypeAdapter, with_config

    strict = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
    return TypeAdapter(strict(cast(type[Any], cls)))


def _no_switches(settings: Mapping[str, Any], built: object, table: str = "") -> Iterator[str]:
    """Say where true or false stands for a number, which would otherwise be 1 or 0."""
    for name, value in settings.items():
        found = getattr(built, name)
        if isinstance(value, Mapping):
            yield from _no_switches(value, found, f"{table}{name}.")
        elif isinstance(value, bool) and not isinstance(found, bool):
            yield f"{table}{name} = {value!r}: Input should be a value, not true or false"


def read_toml(path: Path) -> RunConfig:
    """Read a configuration file.

    Args:
        path: TOML file.

    Returns:
        The checked configuration; what the file leaves out has its default.

    Raises:
        ConfigError: If the file is missing or no TOML, or with all its mistakes in one message.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return build(RunConfig, tomllib.loads(text), where=str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing. `selectkit config init` writes one.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not readable TOML: {error}.") from None


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return tables of settings as TOML; settings that are None are left out."""
    import tomli_w

    return tomli_w.dumps(_without_none(tables))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the configuration file."""
    from pydantic import ConfigDict, TypeAdapter, with_config

    schema = TypeAdapter(with_config(ConfigDict(extra="forbid"))(RunConfig)).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _problem(error: Any) -> str:
    key = ".".join(map(str, error["loc"])) or "(top)"
    if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"unknown key {key}"
    return f"{key} = {error['input']!r}: {error['msg']}"
