"""Is this machine fit to extract features? One line per finding, with the command that mends it."""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from selectkit.errors import BackboneError, SelectkitError
from selectkit.extract.environment import REINSTALL, installed, torchvision_problem
from selectkit.extract.jpeg_device import device_decoder
from selectkit.extract.preprocess import Preprocessing
from selectkit.threads import cpu_quota, spinning, usable_cores

LIBRARIES = ("transformers", "timm", "peft", "zarr", "safetensors")
OLDEST = {"transformers": (4, 56), "timm": (1, 0, 20), "peft": (0, 17), "zarr": (3, 0)}
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        ok: Whether it is fit for use.
        detail: What was found.
        fix: The command or setting that mends it; "" when nothing needs mending.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str | bool]:
        """Return the fields as JSON types."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "fix": self.fix}


def diagnose() -> list[Check]:
    """Look at Python, the libraries, device, cores and OpenMP settings, and run a backbone.

    A library that cannot be imported is a finding, not an exception.

    Returns:
        Findings in order: what a later one needs comes before it.
    """
    checks = [_python(), _torch(), _torchvision()]
    checks += [_library(name) for name in LIBRARIES]
    checks += [_jpeg(), _cores(), _openmp(), _tiny()]
    return checks


def _python() -> Check:
    ok = sys.version_info >= OLDEST_PYTHON
    fix = "" if ok else "install Python {}.{} or newer".format(*OLDEST_PYTHON)
    return Check("python", ok, f"{platform.python_version()} on {platform.machine()}", fix)


def _torch() -> Check:
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:
        return Check("torch", False, _reason(error), "pip install torch torchvision")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        device = f"CUDA {torch.version.cuda}: {', '.join(names)}"
    else:
        device = f"no CUDA device, CPU with {torch.get_num_threads()} threads"
    return Check("torch", True, f"{torch.__version__}, {device}")


def _torchvision() -> Check:
    found = installed("torchvision")
    if found is None:
        return Check(
            "torchvision", False, "not installed; timm needs it", "pip install torchvision"
        )
    problem = torchvision_problem()
    if problem is not None:
        return Check("torchvision", False, problem, REINSTALL)
    return Check("torchvision", True, f"{found}, loads with torch {installed('torch')}")


def _library(name: str, load: Callable[[str], object] = import_module) -> Check:
    found = installed(name)
    if found is None:
        return Check(name, False, "not installed", f"pip install {name}")
    oldest = OLDEST.get(name, ())
    if _numbers(found) < oldest:
        wanted = ".".join(map(str, oldest))
        return Check(name, False, f"{found} is too old", f'pip install "{name}>={wanted}"')
    try:
        load(name)
    except Exception as error:  # a broken torchvision surfaces as anything
        broken = torchvision_problem() is not None
        fix = REINSTALL if broken else f"pip install --force-reinstall {name}"
        return Check(name, False, f"{found} does not import: {_reason(error)}", fix)
    return Check(name, True, found)


def _jpeg() -> Check:
    """Whether a GPU can decode JPEG; nothing depends on it."""
    try:
        device_decoder("cuda", Preprocessing(1))
    except (SelectkitError, ImportError, OSError, RuntimeError) as error:
        return Check("jpeg", True, f"decoded on the CPU, and not on a GPU: {_reason(error)}")
    found = installed("torchcodec")
    return Check("jpeg", True, f"decoded on the CPU, or on a GPU by torchcodec {found}")


def _cores() -> Check:
    """What extraction makes of the cores: decoders and forward pass share them."""
    quota, usable = cpu_quota(), usable_cores()
    detail = f"{usable} of {os.cpu_count()} usable"
    if quota is not None:
        detail += f", a quota allows {quota:g}"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    detail += f"; OMP_NUM_THREADS={threads or 'unset'}"
    if threads.isdecimal() and int(threads) > usable:
        return Check(
            "cores",
            False,
            f"{detail}: threads beyond the cores slow one another down",
            f"export OMP_NUM_THREADS={usable}, or unset it",
        )
    return Check("cores", True, detail)


def _openmp() -> Check:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    detail = ", ".join(f"{name}={os.environ.get(name, 'unset')}" for name in names)
    why = spinning()
    if why is None:
        return Check("openmp", True, f"{detail}: idle threads sleep")
    return Check(
        "openmp",
        False,
        f"{why}: idle threads spin, and with a busy neighbour a forward pass takes many times as "
        "long",
        "export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0",
    )


def _tiny() -> Check:
    import numpy as np

    from selectkit.extract.backbones import load_backbone

    try:
        backbone = load_backbone("tiny")
        features = backbone(np.zeros((1, 32, 32, 3), dtype=np.uint8))
    except BackboneError as error:
        return Check("backbone", False, _reason(error), "see the lines above")
    except (RuntimeError, ImportError, OSError) as error:
        return Check("backbone", False, _reason(error), REINSTALL)
    ok = all(bool(np.isfinite(values).all()) for values in features.values())
    detail = f"tiny runs on {backbone.device}" if ok else "tiny returns numbers that are not finite"
    return Check("backbone", ok, detail, "" if ok else REINSTALL)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")[:3]
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts)


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
