"""What processes cost: CPU time of a process and all below it, and how busy the machine is."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stats() -> dict[int, tuple[int, float]]:
    """Parent and CPU seconds, reaped children included, of each process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(folder.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    return found


def cpu_seconds(*roots: int) -> float:
    """Of these processes and all below them, since they began."""
    stats = _stats()
    children = defaultdict(list)
    for pid, (parent, _) in stats.items():
        children[parent].append(pid)
    family = [pid for pid in roots if pid in stats]
    for pid in family:
        family.extend(children[pid])
    return sum(stats[pid][1] for pid in family)


def busy_seconds() -> float:
    """Of all processors together, since boot."""
    values = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return (sum(values) - values[3] - values[4]) / TICKS
