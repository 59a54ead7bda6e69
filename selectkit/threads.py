"""How many threads this process may run, and how they wait.

A thread that waits for its next share of work by spinning takes the core from one that has work: on
a machine with one busy neighbour a forward pass of 0.1 s then takes seconds, and a fit of a second
a minute. So OpenMP threads sleep while they wait, small products run on one thread, and there are
no more threads than cores that the process may use.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WORTH_THREADS = 2e7
"""Multiply-adds of one product from which on threads pay for themselves (some milliseconds)."""

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""What makes OpenMP threads sleep while they wait: the standard's, GNU's and LLVM's variable."""

_too_late = False


def wait_passively() -> None:
    """Let OpenMP threads sleep while they wait, unless the user has decided otherwise.

    It works only before torch is imported: the OpenMP library reads the environment when it loads.
    """
    global _too_late
    if _is_passive(os.environ) or "OMP_WAIT_POLICY" in os.environ:
        return
    _too_late = "torch" in sys.modules
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)


def spinning() -> str | None:
    """Say why OpenMP threads spin while they wait, or None when they do not."""
    if _too_late:
        return "torch was imported before selectkit.extract, without OMP_WAIT_POLICY=PASSIVE"
    if not _is_passive(os.environ):
        policy = os.environ.get("OMP_WAIT_POLICY", "unset")
        return f"OMP_WAIT_POLICY={policy}"
    return None


def _is_passive(environment: Mapping[str, str]) -> bool:
    asked = environment.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    return asked or environment.get("GOMP_SPINCOUNT") == "0"


def usable_cores() -> int:
    """Return how many cores this process may keep busy: affinity and cgroup quota, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the cores that the control group of this process may use on average.

    Containers and batch systems limit processor time by such a quota, which the number of cores
    does not show; threads beyond it are stopped for a part of every period.

    Args:
        root: Where /proc and /sys are.

    Returns:
        The least of its own group and those above it, versions 1 and 2; None = no limit.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or "cpu" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controllers
            here = mount / path.lstrip("/")
            for folder in (here, *here.parents):
                quotas += _quota(folder)
                if folder == mount:
                    break
    return min(quotas, default=None)


def _quota(folder: Path) -> list[float]:
    """The quota of one control group, in cores; empty when it has none."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{what}_us").read_text(encoding="utf-8")
                for what in ("quota", "period")
            )
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # not there, or "max"
        return []
    return [cores] if cores > 0 else []


@contextmanager
def blas_threads_for(multiply_adds: float) -> Iterator[None]:
    """Use one BLAS thread while products are small, and all of them when they are not.

    Args:
        multiply_adds: Size of a typical product in the block.

    Yields:
        Nothing; the setting before is restored at the end.
    """
    from threadpoolctl import threadpool_limits

    limit = 1 if multiply_adds < WORTH_THREADS else None
    with threadpool_limits(limits=limit, user_api="blas"):
        yield
