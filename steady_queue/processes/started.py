"""Which jobs' code is running, where the supervisor can read it after the death of the process."""

from __future__ import annotations

import mmap
import struct
import tempfile
from typing import BinaryIO, Self

_SLOT = struct.Struct("=q")


class StartedJobs:
    """One number for each thread, the job it runs or 0, in memory shared by way of a file."""

    def __init__(self, fd: int, threads: int) -> None:
        self._memory = mmap.mmap(fd, threads * _SLOT.size)
        self._threads = threads

    @staticmethod
    def file(threads: int) -> BinaryIO:
        """A nameless file for so many threads, to be inherited by the process."""
        file = tempfile.TemporaryFile()  # noqa: SIM115, the supervisor closes it
        file.truncate(threads * _SLOT.size)
        return file

    @classmethod
    def private(cls, threads: int) -> Self:
        """For a process without a supervisor."""
        with cls.file(threads) as file:
            return cls(file.fileno(), threads)

    def note(self, thread: int, job: int) -> None:
        """The thread begins with this job's code, or ends it (0)."""
        _SLOT.pack_into(self._memory, thread * _SLOT.size, job)

    def clear(self) -> None:
        """The process ends on purpose: nobody is to be charged for what it still ran."""
        self._memory[:] = bytes(len(self._memory))

    def jobs(self) -> list[int]:
        """The jobs whose code was running."""
        slots = (_SLOT.unpack_from(self._memory, i * _SLOT.size)[0] for i in range(self._threads))
        return [job for job in slots if job]

    def close(self) -> None:
        self._memory.close()
