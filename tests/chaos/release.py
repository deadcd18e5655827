"""The code that a deployment starts from and goes to: the last release's, and this one."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.processes.conftest import ROOT

LAST = "a2b999ac4f6edfda98917f8ad34faaa99372461a"
"""The commit of the last release."""

OURS = Path("tests", "chaos")
"""The application that is deployed, of which both releases run the same code."""


@dataclass(frozen=True)
class Release:
    """``schema`` is the newest migration that it knows."""

    name: str
    folder: Path
    schema: str


def present() -> Release:
    return _release("this", ROOT)


def last(folder: Path) -> Release | None:
    """Unpacked into a folder; None where the history is not there, as in an archive."""
    archive = ["git", "-C", str(ROOT), "archive", LAST]
    try:
        packed = subprocess.run(archive, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    shutil.rmtree(folder / OURS)
    shutil.copytree(ROOT / OURS, folder / OURS, ignore=shutil.ignore_patterns("__pycache__"))
    return _release("last", folder)


def _release(name: str, folder: Path) -> Release:
    migrations = (folder / "steady_queue" / "migrations").glob("[0-9]*.py")
    return Release(name, folder, max(path.stem for path in migrations))
