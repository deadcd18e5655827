"""A file system of a test's own, small enough to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path


class CannotMountError(Exception):
    """Only root may, and not everywhere."""


class SmallDisk:
    """``space`` is a folder on it for a tablespace, of the same owner as ``data``."""

    def __init__(self, megabytes: int, data: Path) -> None:
        # Not below a folder of pytest: servers of other users than ours find a way to it there.
        self.folder = Path(tempfile.mkdtemp(prefix="steady-queue-", dir="/tmp"))
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "none"]
        try:
            subprocess.run(["mount", *options, self.folder], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.folder.rmdir()
            raise CannotMountError("mounting a small file system needs root") from error
        self.folder.chmod(0o755)
        self.space = self.folder / "space"
        self._owner = data.stat()
        self._filler = self.folder / "filler"
        self.empty()

    @property
    def full(self) -> bool:
        return self._filler.exists()

    def fill(self) -> None:
        with suppress(OSError), open(self._filler, "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def empty(self) -> None:
        """Of what a server has left."""
        shutil.rmtree(self.space, ignore_errors=True)
        self.space.mkdir()
        os.chown(self.space, self._owner.st_uid, self._owner.st_gid)

    def close(self) -> None:
        # Lazily: a server that is just ending may still have files open.
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        self.folder.rmdir()
