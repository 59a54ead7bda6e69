import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

from selectkit.cli.main import main

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def run_cli(*arguments: object) -> Result:
    """Run the command line in this process, as a shell would see it."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    before = sys.argv
    sys.argv = ["selectkit", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    finally:
        sys.argv = before
    return Result(code, out.getvalue(), err.getvalue())


def write_digits(folder: Path, rows: range, classes: Callable[[int], str]) -> Path:
    """Write digit images as a folder per class."""
    from PIL import Image

    digits = load_digits()
    for i in rows:
        place = folder / classes(int(digits.target[i]))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15).astype("uint8")).save(place / f"{i:04d}.png")
    return folder


@pytest.fixture(scope="session")
def cli() -> Callable[..., Result]:
    return run_cli


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 images, two classes: 'six or more' is rarer."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    return write_digits(folder, range(600), lambda d: "high" if d >= 6 else "low")


@pytest.fixture(scope="session")
def store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "photos.zarr"
    done = run_cli("extract", photos, "--out", path, "--backbone", "tiny", "--rows-per-shard", 256)
    assert done.code == 0, done.err
    return path


@pytest.fixture(scope="session")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    assert run_cli("fit", store, "--out", path).code == 0
    done = run_cli("calibrate", path, "--target", "error=0.2")
    assert done.code == 0, done.out + done.err
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("real data are not there")
    return SHARED
