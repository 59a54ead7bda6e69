"""Cores a process may use, and threads that sleep while they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from selectkit import threads
from selectkit.threads import cpu_quota, spinning, usable_cores


def group(root: Path, lines: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        (
            "0::/a/b\n",
            {
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        (
            "5:cpu,cpuacct:/job\n4:memory:/job\n",
            {
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        ("0::/\n", {}, None),
        ("nonsense\n", {"sys/fs/cgroup/cpu.max": "\n"}, None),
    ],
)
def test_the_quota_is_the_least_on_the_way_up(
    tmp_path: Path, lines: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(group(tmp_path, lines, files)) == quota


def test_a_machine_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (2.5, 2), (0.5, 1), (64.0, 8)])
def test_affinity_and_quota_limit_the_cores(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert usable_cores() == cores


def test_spinning_threads_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_too_late", False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert spinning() == "OMP_WAIT_POLICY=active"
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert spinning() is None


@pytest.mark.parametrize(
    ("code", "policy", "said"),
    [
        ("import selectkit.extract", None, "None"),
        ("import torch, selectkit.extract", None, "torch was imported before selectkit.extract"),
        ("import torch, selectkit.extract", "PASSIVE", "None"),
        ("import selectkit.extract", "ACTIVE", "OMP_WAIT_POLICY=ACTIVE"),
    ],
)
def test_a_torch_that_came_first_is_noticed(code: str, policy: str | None, said: str) -> None:
    cleared = {k: v for k, v in os.environ.items() if k not in threads.PASSIVE}
    environment = cleared | ({"OMP_WAIT_POLICY": policy} if policy else {})
    stand_in = "import sys, types; sys.modules['torch'] = types.ModuleType('torch')"
    code = code.replace("import torch, ", f"{stand_in}; import ")
    code += "; from selectkit.threads import spinning; print(spinning())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(said)
