import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("room", ["cli", "cache", "schemas"])
def test_root_links_lead_into_the_package(room: str) -> None:
    link = ROOT / room
    assert link.is_symlink()
    assert link.readlink() == Path(f"selectkit/{room}")
    assert (link / "__init__.py").is_file()


def _build(kind: str, source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(out)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return next(out.iterdir())


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {n: archive.read(n) for n in archive.namelist() if not n.endswith("RECORD")}


def test_a_wheel_from_the_sdist_equals_one_from_the_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", "demo", "build", "*.egg-info", "__pycache__", ".hypothesis"
    )
    shutil.copytree(ROOT, tree, symlinks=True, ignore=ignored)
    sdist = _build("sdist", tree, tmp_path / "sdist")
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    from_tree = _contents(_build("wheel", tree, tmp_path / "wheel1"))
    from_sdist = _contents(
        _build("wheel", next((tmp_path / "unpacked").iterdir()), tmp_path / "wheel2")
    )
    assert from_tree == from_sdist
    names = {n.split("/")[0] for n in from_tree}
    assert {n for n in names if not n.endswith(".dist-info")} == {"selectkit"}
    for needed in ("schemas/config.v1.schema.json", "extract/tiny/model.safetensors", "py.typed"):
        assert f"selectkit/{needed}" in from_tree
