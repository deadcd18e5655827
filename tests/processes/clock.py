"""The clock on the wall of a process, moved by Debian's libfaketime."""

from __future__ import annotations

from pathlib import Path

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
WRONG_BY = ["+1h", "-1h"]
RIGHT = "+0"


def move(clock: Path, by: str) -> None:
    """At once: who reads the file meanwhile finds one or the other."""
    new = clock.with_suffix(".new")
    new.write_text(by)
    new.rename(clock)


def environment(clock: Path) -> dict[str, str]:
    """Of a process whose clock is off by what stands in this file at each look."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
