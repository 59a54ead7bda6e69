"""Where something lies: in a local folder or in an object store.

A URL must not become a `Path`, which would make `s3:/bucket/x` of `s3://bucket/x`. So what a user
writes is parsed once, here, into a `Path` or a `Url`; both know `/`, `name`, `suffix`, `parent`,
`resolve()` and `str()`.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote

from selectkit.errors import ConfigError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_SCHEMES = {
    "s3": "s3", "s3a": "s3",
    "gs": "gs", "gcs": "gs",
    "az": "az", "azure": "az", "abfs": "az", "abfss": "az",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Url:
    """A place in an object store.

    Attributes:
        scheme: "s3", "gs" or "az".
        container: The bucket.
        key: What follows, without slashes at its ends; "" for the bucket itself.

    Examples:
        >>> place = location("s3://photos/road.zarr/")
        >>> str(place), str(place / "zarr.json"), place.name
        ('s3://photos/road.zarr', 's3://photos/road.zarr/zarr.json', 'road.zarr')
    """

    scheme: str
    container: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.container}" + (f"/{self.key}" if self.key else "")

    def __truediv__(self, path: str) -> "Url":
        return Url(self.scheme, self.container, f"{self.key}/{path}".strip("/"))

    @property
    def name(self) -> str:
        """Its last part."""
        return PurePosixPath(self.key).name or self.container

    @property
    def suffix(self) -> str:
        """What its last part ends in, for instance ".zarr"."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "Url":
        """The folder it is in; of a bucket, itself."""
        return Url(self.scheme, self.container, self.key.rpartition("/")[0])

    def resolve(self) -> "Url":
        """Return itself: a URL means the same from everywhere."""
        return self


Location: TypeAlias = Path | Url


def location(place: "str | Path | Url") -> Location:
    """Return where something lies.

    Args:
        place: A path, or a URL that begins with s3://, gs://, az:// or file://.

    Returns:
        A `Path`, also for file://; else a `Url`.

    Raises:
        ConfigError: If the URL is of another kind or names no place, or the path is no UTF-8 text.
    """
    if isinstance(place, Url):
        return place
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{str(place)!r} is no UTF-8 text, and cannot be kept. Rename it."
        ) from None
    if isinstance(place, Path):
        if place.parts and _COLLAPSED.fullmatch(place.parts[0]) and not place.exists():
            raise ConfigError(f"{place} is a URL made into a Path: pass it as text.")
        return place
    found = _URL.fullmatch(place)
    if not found:
        return Path(place)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        return _local(place, rest)
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"{place}: {scheme}:// is not a place this can use. Use a path, s3://, gs://, az:// or "
            "file://."
        )
    container, _, key = rest.partition("/")
    key = key.rstrip("/")
    if not container or (any(part in {"", ".", ".."} for part in key.split("/")) and key):
        raise ConfigError(f"{place} names no place: write {scheme}://BUCKET/FOLDER.")
    return Url(_SCHEMES[scheme], container, key)


def local_path(place: str | Path, what: str) -> Path:
    """Return a path, for what has to be a local folder.

    Args:
        place: A path or a file:// URL.
        what: What it is for, with its article; used in the message.

    Returns:
        The path.

    Raises:
        ConfigError: If it is in an object store.
    """
    found = location(place)
    if isinstance(found, Url):
        raise ConfigError(f"{found}: {what} must be a local folder. Copy it there afterwards.")
    return found


def _local(place: str, rest: str) -> Path:
    host, slash, path = rest.partition("/")
    if not slash or host not in {"", "localhost"}:
        raise ConfigError(f"{place} is no local place: write file:///FOLDER with three slashes.")
    return Path(unquote(f"/{path}"))
