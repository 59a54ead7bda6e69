"""The objects below a URL: list, read, write, remove. The only file that knows obstore.

Every request is tried again for a while when the other side is busy or away. What is still wrong
then is told in one line: FileNotFoundError for an object that is not there, RemoteError for
everything that is not about one object.
"""

import configparser
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from selectkit.errors import MissingExtraError, RemoteError
from selectkit.location import Url

_NO_CONTAINER = re.compile(r"NoSuchBucket|ContainerNotFound|specified (bucket|container) does not")
_REFUSED = re.compile(r"\b(401|403)\b|Unauthenticated|PermissionDenied|AccessDenied|privileges")
_NO_CREDENTIALS = re.compile(
    r"169\.254\.\d+\.\d+|metadata\.google|credential|Missing \w*Key|Account must be", re.IGNORECASE
)
_REGION = re.compile(r"redirect|\b301\b|AuthorizationHeaderMalformed")
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_ENDPOINT_URL for a server other "
    "than Amazon's), name a profile of ~/.aws/credentials with AWS_PROFILE, or set "
    "AWS_SKIP_SIGNATURE=true for a public bucket.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS to the file of an account.",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY.",
}


class DeniedError(RemoteError):
    """The object store knows who asks, or not, and says no."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing.

    Attributes:
        path: Relative to the place that was listed.
        size: Bytes.
        tag: Differs when the content does.
        touched: When it was written, by the server's clock, in seconds.
    """

    path: str
    size: int
    tag: str
    touched: float


class Objects:
    """The objects below a URL, by path relative to it. May be used by several threads."""

    def __init__(self, place: Url, *, patient: bool = True) -> None:
        """Ask for nothing yet.

        Args:
            place: The URL.
            patient: Whether to try again for a while; else a request takes ten seconds at most.

        Raises:
            MissingExtraError: If the extra is not installed.
        """
        self.place = place
        self._patient = patient
        _obstore(place)

    def list(self, folder: str = "") -> Iterator[Entry]:
        """List what is below a folder, in no certain order.

        Args:
            folder: Relative to the place.

        Yields:
            The objects.

        Raises:
            RemoteError: If it cannot be listed.
        """
        import obstore

        cut = len(self.place.key) + 1 if self.place.key else 0
        with self._told(folder):
            for part in obstore.list(self._client, self._key(folder) or None, chunk_size=1000):
                for meta in part:
                    if path := meta["path"][cut:]:
                        yield _entry(path, meta)

    def head(self, path: str) -> Entry | None:
        """Return what there is to say about one object, None when it is not there."""
        import obstore

        with suppress(FileNotFoundError), self._told(path):
            return _entry(path, obstore.head(self._client, self._key(path)))
        return None

    def get(self, path: str, *, at_most: int | None = None) -> tuple[bytes, Entry]:
        """Read one object.

        Args:
            path: Relative to the place.
            at_most: Refuse one that has more bytes.

        Returns:
            Its content, and what there is to say about it.

        Raises:
            FileNotFoundError: If it is not there.
            OSError: If it is too large.
            RemoteError: If it cannot be read.
        """
        import obstore

        with self._told(path):
            found = obstore.get(self._client, self._key(path))
            entry = _entry(path, found.meta)
            if at_most is not None and entry.size > at_most:
                raise OSError(errno.EFBIG, "larger than allowed", str(self.place / path))
            return bytes(found.bytes()), entry

    def put(self, path: str, data: bytes) -> Entry:
        """Write one object: all of it or, when this fails, nothing.

        Args:
            path: Relative to the place.
            data: Its content.

        Returns:
            What there is to say about it now, but for the time.

        Raises:
            RemoteError: If it cannot be written.
        """
        import obstore

        with self._told(path):
            done = obstore.put(self._client, self._key(path), data, use_multipart=False)
            return Entry(path, len(data), _plain(done["e_tag"]) or "", 0.0)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects; those that are not there do not matter.

        Args:
            paths: Relative to the place.

        Raises:
            RemoteError: If they cannot be removed.
        """
        import obstore

        for path in paths:
            with suppress(FileNotFoundError), self._told(path):
                obstore.delete(self._client, self._key(path))

    @property
    def _client(self) -> Any:
        return _client(self.place.scheme, self.place.container, self._patient, os.getpid())

    def _key(self, path: str) -> str:
        return (self.place / path).key if path else self.place.key

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Say in one line what went wrong."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            self._refuse_unless_there(str(error))
            where = str(self.place / path)
            raise FileNotFoundError(errno.ENOENT, "No such object", where) from None
        except ValueError as error:  # a key that object stores share with nobody
            raise FileNotFoundError(errno.ENOENT, str(error), str(self.place / path)) from None
        except BaseError as error:
            self._refuse(path, error)

    def _refuse_unless_there(self, text: str) -> None:
        if _NO_CONTAINER.search(text):
            raise RemoteError(
                f"{self.place}: there is no bucket {self.place.container!r}. Make it, or look at "
                "how the URL is written."
            ) from None

    def _refuse(self, path: str, error: Exception) -> None:
        text = str(error)
        self._refuse_unless_there(text)
        where, hint = self.place / path, _CREDENTIALS[self.place.scheme]
        status = re.search(r"(\d{3}) [A-Z][A-Za-z ]+", text)
        code = re.search(r"<Code>(\w+)</Code>", text)
        what = code[1] if code else status[0] if status else _first_line(text)
        if _REFUSED.search(type(error).__name__ + text) and "169.254" not in text:
            raise DeniedError(f"{where}: access denied ({what}). {hint}") from None
        if _NO_CREDENTIALS.search(text):
            raise DeniedError(f"{where}: no credentials were found. {hint}") from None
        if _REGION.search(text):
            raise RemoteError(f"{where}: the bucket is elsewhere: set AWS_REGION.") from None
        if "invalid path" in text:
            raise RemoteError(
                f"{where} holds an object whose name cannot be used: {_first_line(text)}. "
                "Rename it."
            ) from None
        raise RemoteError(
            f"{where} cannot be reached: {what}. Look at the network and the address; the same "
            "command goes on where it stopped."
        ) from None


def _first_line(text: str) -> str:
    """What an error of obstore says, without the request and how often it was tried."""
    line = text.strip().split("\n")[0]
    return line.rpartition(" - ")[2].strip().rstrip(".")


def _entry(path: str, meta: Any) -> Entry:
    touched, size = meta["last_modified"].timestamp(), int(meta["size"])
    return Entry(path, size, _plain(meta["e_tag"]) or f"{touched}-{size}", touched)


def _plain(tag: str | None) -> str | None:
    """An ETag without the quotes that only some answers have."""
    return tag and tag.removeprefix("W/").strip('"')


def _obstore(place: Url) -> None:
    try:
        import_module("obstore.store")
    except ImportError:
        raise MissingExtraError.of(str(place), "remote") from None


@cache
def _client(scheme: str, container: str, patient: bool, process: int) -> Any:
    """A client per bucket and process: threads share connections, forked processes must not."""
    from obstore.store import AzureStore, GCSStore, S3Store

    options: dict[str, Any] = {"timeout": "120s" if patient else "10s", "connect_timeout": "10s"}
    tries = int(os.environ.get("AWS_MAX_ATTEMPTS", "9"))
    retry: Any = {
        "max_retries": max(0, tries - 1) if patient else 0,
        "retry_timeout": timedelta(seconds=180),
        "backoff": {
            "init_backoff": timedelta(milliseconds=200),
            "max_backoff": timedelta(seconds=10),
            "base": 2,
        },
    }
    stores: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    settings = {"s3": _s3_settings, "gs": _gs_settings, "az": dict}[scheme]()
    options["allow_http"] = _is_plain(settings) or _is_plain(os.environ)
    return stores[scheme](container, config=settings, client_options=options, retry_config=retry)


def _is_plain(settings: Mapping[str, str]) -> bool:
    """Whether the user named a server without TLS."""
    names = ("endpoint", "base_url", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    emulated = settings.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in {"1", "true"}
    return emulated or any(settings.get(name, "").startswith("http://") for name in names)


def _gs_settings() -> dict[str, str]:
    """The server that Google's own tools take for theirs."""
    host = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    if not host:
        return {}
    url = host if "://" in host else f"http://{host}"
    nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    account = {"gcs_base_url": url, "disable_oauth": True, **nobody}
    return {"base_url": url, "service_account_key": json.dumps(account)}


def _s3_settings() -> dict[str, str]:
    """What Amazon's own tools would use, as far as obstore does not look at it by itself."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), "")
    settings = {"endpoint": endpoint} if endpoint else {}
    others = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
    if not any(os.environ.get(name) for name in others):
        settings |= _profile(os.environ.get("AWS_PROFILE", "default"))
    return settings


def _profile(name: str) -> dict[str, str]:
    """Keys and region of a profile in the files of Amazon's tools."""
    home = Path.home() / ".aws"
    files = {
        os.environ.get("AWS_CONFIG_FILE", str(home / "config")): f"profile {name}",
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials")): name,
    }
    found: dict[str, str] = {}
    for file, section in files.items():
        parser = configparser.RawConfigParser()
        with suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(file, encoding="utf-8")
        for title in (name, section):
            found |= dict(parser[title]) if parser.has_section(title) else {}
    known = ("access_key_id", "secret_access_key", "session_token")
    settings = {key: found[f"aws_{key}"] for key in known if f"aws_{key}" in found}
    if "region" in found and not (
        os.environ.get("AWS_REGION") or "AWS_DEFAULT_REGION" in os.environ
    ):
        settings["region"] = found["region"]
    if "endpoint_url" in found:
        settings.setdefault("endpoint", found["endpoint_url"])
    return settings
