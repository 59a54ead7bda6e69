"""Files that the user names for an answer: refused before anything is computed, not after."""

from collections.abc import Sequence
from pathlib import Path

from selectkit.errors import ConfigError

PICTURES = ("svg", "png")


def require_output(path: Path, option: str, what: str, endings: Sequence[str] = PICTURES) -> None:
    """Refuse a file that cannot be written.

    Args:
        path: Where it should go.
        option: The flag that names it, "--out".
        what: What is written, "a chart".
        endings: Endings of the name that say how, two or more.

    Raises:
        ConfigError: If the name ends otherwise, is that of a folder, or the folder that the file
            would be in does not exist.
    """
    if path.suffix.removeprefix(".") not in endings:
        *others, last = (f".{ending}" for ending in endings)
        raise ConfigError(f"{option} {path}: {what} is written as {', '.join(others)} or {last}.")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ConfigError(f"{option} {path}: a file is needed here, in a folder that exists.")
