"""One JSON line per figure, all with the same keys, so that tables can be made from results."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

_ROOT = Path(__file__).resolve().parents[1]


def figure(
    question: str,
    number: float,
    unit: str,
    *,
    spread: tuple[float, float] | None = None,
    packages: Sequence[str] = ("numpy",),
) -> dict[str, object]:
    """Print one figure as a JSON line and return it.

    Args:
        question: What was asked, in words, with the size of the problem.
        number: The answer.
        unit: Its unit; "x" for a ratio.
        spread: Smallest and largest of the repetitions, None when it was measured once.
        packages: Whose versions matter, besides Python's.

    Returns:
        The figure: question, number, unit, spread, versions, machine, commit.
    """
    line: dict[str, object] = {
        "question": question,
        "number": _short(number),
        "unit": unit,
        "spread": None if spread is None else [_short(spread[0]), _short(spread[1])],
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in packages},
        "machine": machine(),
        "commit": commit(),
    }
    print(json.dumps(line), flush=True)
    return line


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes, without its parent's.

    What `getrusage` says of a child includes the peak of the process that started it.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def seconds(action: Callable[[], object], repetitions: int = 5) -> list[float]:
    """Return the wall times of an action, after one run that is not counted."""
    action()
    times = []
    for _ in range(repetitions):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return times


def middle(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the median, and the smallest and largest value."""
    return statistics.median(values), (min(values), max(values))


@cache
def machine() -> str:
    """Return the kind of machine: processor, usable cores, memory."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        name = names[0].partition(": ")[2] if names else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


@cache
def commit() -> str:
    """Return the commit that was measured, with "+" when measured code was changed since."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + (
            "+" if _git("status", "--porcelain", "--", "selectkit", "benchmarks/*.py") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _short(number: float) -> float:
    return float(f"{number:.4g}")
