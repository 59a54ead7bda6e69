import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from selectkit import objects
from selectkit.location import Url, location
from selectkit.objects import Objects
from tests.remote.server import Server, Wire, make_bucket, running

BUCKET = "selectkit-tests"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    pytest.importorskip("obstore")
    pytest.importorskip("moto.server")
    with running() as found:
        make_bucket(found, BUCKET)
        yield found


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    found = Wire(server)
    yield found
    found.close()


@pytest.fixture
def bucket(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Url]:
    """An empty place in a bucket that this process reaches through the wire."""
    for name, value in wire.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SELECTKIT_CACHE", str(tmp_path / "copies"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    objects._client.cache_clear()
    place = location(f"s3://{BUCKET}/{secrets.token_hex(6)}")
    assert isinstance(place, Url)
    yield place
    wire.mend()
    Objects(place).remove([entry.path for entry in Objects(place).list()])
    objects._client.cache_clear()
