from __future__ import annotations

import fcntl
import os
from typing import IO, Self


class PidFileTaken(Exception):
    """Another supervisor holds the pid file."""


class PidFile:
    """Holds a locked file with this process's id; None holds nothing.

    The lock, not the file's being there, says that a supervisor lives: a file left by a crash or a
    power cut is taken over. Raises PidFileTaken.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self._path:
            self._file = open(self._path, "a+")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.seek(0)
                holder = self._file.read().strip()
                self._file.close()
                raise PidFileTaken(
                    f"a supervisor with pid {holder} runs already ({self._path})"
                ) from None
            self._file.truncate(0)
            self._file.write(str(os.getpid()))
            self._file.flush()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file and self._path:
            os.unlink(self._path)
            self._file.close()
