"""The Ray cluster that an extraction runs on: one that is there, or one on this machine."""

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from selectkit.errors import ConfigError, MissingExtraError
from selectkit.threads import usable_cores

OBJECT_STORE_BYTES = 75 * 2**20  # Ray's least; only counts travel

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else `uv run` uploads the working directory
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning per actor
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else the death of a worker is printed on stdout
    "RAY_worker_niceness": "0",  # else whatever else runs on this machine comes first
}


@dataclass(frozen=True, slots=True)
class Crew:
    """How many workers there are, and what each has for itself.

    Attributes:
        size: Number of workers.
        cpus: Cores of each.
        gpus: GPUs of each, 0 or 1.
    """

    size: int
    cpus: int
    gpus: int


def crew_for(nodes: list[dict[str, Any]], actors: int | None, device: str) -> Crew:
    """Decide on the workers: one per GPU, else one per machine.

    Args:
        nodes: What `ray.nodes()` says.
        actors: Number of workers; None = as many as fit.
        device: Where the backbone runs: "auto", "cpu", "cuda".

    Returns:
        The workers; a machine's cores are shared by those that fit on it.

    Raises:
        ConfigError: If the cluster has no core.
    """
    having: list[dict[str, float]] = [n["Resources"] for n in nodes if n["Alive"]]
    having = [r for r in having if r.get("CPU", 0) >= 1]
    if not having:
        raise ConfigError("the Ray cluster has no machine with a free core. Add one.")
    with_gpu = [r for r in having if r.get("GPU", 0) >= 1]
    if device.startswith("cuda") or (device == "auto" and with_gpu):
        size = actors or max(1, int(sum(r["GPU"] for r in with_gpu)))
        cpus = min((int(r["CPU"] // r["GPU"]) for r in with_gpu), default=1)
        return Crew(size, max(1, cpus), 1)
    size = actors or len(having)
    share = int(sum(r["CPU"] for r in having) // size)
    return Crew(size, max(1, min(share, *(int(r["CPU"]) for r in having))), 0)


@contextmanager
def cluster(address: str | None, actors: int | None) -> Iterator[ModuleType]:
    """Be connected to a cluster; one that is started here ends with the block.

    Args:
        address: "host:port" or "auto"; None = the one this process is connected to already, that
            of RAY_ADDRESS, or a new one on this machine.
        actors: How many workers a new one must have room for.

    Yields:
        The module `ray`.

    Raises:
        ConfigError: If there is no such cluster.
        MissingExtraError: If Ray is not installed.
    """
    ray = _import()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    folder = None
    if address is None:
        folder = _short_folder()
        options |= {
            "address": "local",
            "num_cpus": max(usable_cores(), actors or 1),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": folder,
        }
    else:
        _require_listener(address)
        options["address"] = address
    logging.getLogger("ray").setLevel(logging.ERROR)
    # In the main thread Ray would replace the handler of SIGTERM; and what it starts dies with the
    # thread that started it, so this one stays.
    with ThreadPoolExecutor(1, thread_name_prefix="ray") as starter:
        try:
            starter.submit(ray.init, **options).result()
            _take_back_signals()
            yield ray
        except ConnectionError as error:
            raise _no_cluster(address, error) from None
        finally:
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _take_back_signals() -> None:
    """Ray's own handler lets three seconds pass after SIGTERM and then aborts the process."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler is not None:
                signal.signal(number, handler)


def _require_listener(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        f"there is no Ray cluster at {address!r}: {error}. Start one with `ray start --head`, or "
        "leave the address out for one on this machine."
    )


def _import() -> ModuleType:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise MissingExtraError.of("--engine ray", "ray") from None
    return ray  # type: ignore[no-any-return]


def _short_folder() -> str | None:
    """A folder of our own; the path of a socket in it must have at most 107 bytes."""
    usable = os.access("/tmp", os.W_OK)
    return tempfile.mkdtemp(prefix="ray-", dir="/tmp" if usable else None)
