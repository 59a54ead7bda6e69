"""Who holds a lock or a claim: a process, named so that others can tell whether it still lives."""

import os
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path


def identity() -> dict[str, str]:
    """Return a name for this use of this process, and where to look whether the process lives."""
    return {**machine(), **process(os.getpid()), "key": secrets.token_hex(8)}


@cache
def machine() -> dict[str, str]:
    """Return this boot of this machine and its name space of processes; {} where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"boot": boot, "space": os.readlink("/proc/self/ns/pid")}  # noqa: PTH115 # no path
    except OSError:
        return {}


def process(number: int) -> dict[str, str]:
    """Return a process by number and start; without the start when there is none."""
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"process": str(number)}
    fields = state.rpartition(")")[2].split()
    return {"process": str(number)} | ({} if fields[0] in "ZX" else {"start": fields[19]})


def is_gone(owner: Mapping[str, str]) -> bool:
    """Return whether an owner was a process of this machine that is no more."""
    here = machine()
    if not here or {key: owner.get(key) for key in here} != here or "start" not in owner:
        return False
    return process(int(owner["process"])).get("start") != owner["start"]
