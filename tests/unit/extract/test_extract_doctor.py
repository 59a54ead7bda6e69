import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from selectkit.errors import BackboneError, ConfigError
from selectkit.extract import Check, diagnose, doctor, environment
from selectkit.extract.environment import (
    REINSTALL,
    metadata_conflict,
    public_version,
    require_working_torchvision,
    torchvision_problem,
)


def test_this_machine_is_healthy() -> None:
    checks = diagnose()
    assert [c.name for c in checks] == [
        "python",
        "torch",
        "torchvision",
        "transformers",
        "timm",
        "peft",
        "zarr",
        "safetensors",
        "jpeg",
        "cores",
        "openmp",
        "backbone",
    ]
    assert [c for c in checks if not c.ok] == []
    assert all(c.detail and not c.fix for c in checks)
    assert json.dumps([c.to_dict() for c in checks])


@pytest.mark.parametrize(
    ("torch", "torchvision", "needs", "conflict"),
    [
        ("2.13.0", "0.28.0", "torch==2.13.0", None),
        ("2.13.0+cpu", "0.28.0+cpu", "torch==2.13.0", None),
        ("2.15.0+cu132", "0.29.2", "torch>=2.14.0", None),
        ("2.12.1", "0.28.0", "torch==2.13.0", "needs torch==2.13.0, but torch 2.12.1 is installed"),
        (
            "2.13.0+cpu",
            "0.28.0+cu130",
            "torch==2.13.0",
            "torch is a cpu build but torchvision a",
        ),
        ("2.14.0.dev1", "0.29.0", "torch (>=2.13.0)", None),
    ],
)
def test_versions_are_compared(
    torch: str, torchvision: str, needs: str, conflict: str | None
) -> None:
    found = metadata_conflict(torch, torchvision, ["numpy", needs, 'scipy; extra == "scipy"'])
    assert (found is None) == (conflict is None)
    assert conflict is None or (found is not None and conflict in found)


@pytest.fixture
def broken_pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A torchvision that is installed and fits by its version, but does not load."""

    def fail(torch_version: str, torchvision_version: str) -> str:
        return "torchvision 1 does not load with torch 2: operator torchvision::nms does not exist"

    torchvision_problem.cache_clear()
    monkeypatch.setattr(environment, "_import_problem", fail)
    yield
    torchvision_problem.cache_clear()


@pytest.mark.usefixtures("broken_pair")
def test_broken_torchvision_is_named_before_timm_fails() -> None:
    message = (
        "operator torchvision::nms does not exist; timm, transformers and peft cannot be imported. "
        f"Run: {REINSTALL} (one command"
    )
    with pytest.raises(BackboneError) as caught:
        require_working_torchvision()
    assert message in str(caught.value)
    findings = {c.name: c for c in diagnose()}
    assert not findings["torchvision"].ok
    assert findings["torchvision"].fix == REINSTALL
    assert not findings["backbone"].ok
    assert "nms does not exist" in findings["backbone"].detail


def test_import_failure_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    found = environment._import_problem("2.0", "0.1")
    assert found is not None
    assert found.startswith("torchvision 0.1 does not load with torch 2.0: import of torchvision")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {"torchvision": None, "torch": "2.13.0"}
    monkeypatch.setattr(environment, "installed", without.get)
    monkeypatch.setattr(doctor, "installed", without.get)
    torchvision_problem.cache_clear()
    require_working_torchvision()
    with pytest.raises(BackboneError, match=r"timm needs torchvision, .* Run: pip install torchvi"):
        require_working_torchvision(needed_by="timm")
    assert doctor._torchvision().fix == "pip install torchvision"
    assert doctor._library("timm") == Check("timm", False, "not installed", "pip install timm")
    without["torch"] = None
    torchvision_problem.cache_clear()
    with pytest.raises(
        BackboneError, match=r"torch is not installed. Run: pip install torch torch"
    ):
        require_working_torchvision()
    torchvision_problem.cache_clear()


def test_old_and_unimportable_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", {"timm": "1.0.9+x", "peft": "0.17rc1"}.get)
    old = doctor._library("timm")
    assert (old.detail, old.fix) == ("1.0.9+x is too old", 'pip install "timm>=1.0.20"')

    def fail(name: str) -> object:
        raise RuntimeError("boom\nmore")

    found = doctor._library("peft", fail)
    assert found.detail == "0.17rc1 does not import: boom"
    assert found.fix == "pip install --force-reinstall peft"


def test_where_jpeg_is_decoded_is_told_and_never_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: str, plan: object) -> object:
        raise ConfigError("torch finds no device")

    monkeypatch.setattr(doctor, "device_decoder", refuse)
    detail = "decoded on the CPU, and not on a GPU: torch finds no device"
    assert doctor._jpeg() == Check("jpeg", True, detail)
    monkeypatch.setattr(doctor, "device_decoder", lambda device, plan: None)
    monkeypatch.setattr(doctor, "installed", {"torchcodec": "0.17.0"}.get)
    assert doctor._jpeg().detail == "decoded on the CPU, or on a GPU by torchcodec 0.17.0"


def test_spinning_threads_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    found = doctor._openmp()
    assert not found.ok
    assert found.detail.startswith("OMP_WAIT_POLICY=active: idle threads spin, and with a busy nei")
    assert found.fix == "export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0"


def test_more_threads_than_cores_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    monkeypatch.setattr(doctor, "cpu_quota", lambda: 2.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    found = doctor._cores()
    assert not found.ok
    assert "2 of " in found.detail
    assert "a quota allows 2.5; OMP_NUM_THREADS=16: threads beyond the cores" in found.detail
    assert found.fix == "export OMP_NUM_THREADS=2, or unset it"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert doctor._cores().ok


def test_public_version_has_no_build_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "installed", {"torch": "2.13.0+cpu"}.get)
    assert public_version("torch") == "2.13.0"
    assert public_version("nothing") == "none"


def test_import_of_the_package_is_light() -> None:
    code = (
        "import sys, os, selectkit.extract; "
        "heavy = {'torch', 'PIL', 'pandas', 'transformers', 'timm', 'zarr', 'pyarrow', 'sklearn'}; "
        "print(sorted(heavy & set(sys.modules)), os.environ['OMP_WAIT_POLICY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "PASSIVE"]
