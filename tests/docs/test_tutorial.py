"""The tutorial, typed block by block into a shell in an empty folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steady_queue import embedded
from tests.conftest import PATIENCE
from tests.docs.pages import DOCS, ROOT, Block, blocks

pytestmark = [pytest.mark.slow, pytest.mark.processes]

INSTALLING = 600
"""Seconds that a command may take: the first ones install packages."""

UNFINISHED = (
    'python manage.py dbshell -- -Atc "select count(*) from steady_queue_all_jobs '
    "where state in ('ready', 'scheduled', 'running')\""
)


class Terminal:
    """A shell that keeps its folder and its environment from one block to the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.type("set -eu")

    def type(self, code: str) -> str:
        """What it prints. Fails with that when a command fails."""
        self._number += 1
        script = self._folder / f"{self._number}.sh"
        script.write_text(code)
        self._shell.stdin.write(f". {script} < /dev/null\necho '--- typed'\n")
        self._shell.stdin.flush()
        printed = []
        for line in self._shell.stdout:
            if line == "--- typed\n":
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"{code}\nfailed with\n{''.join(printed)}")

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()


def environment() -> dict[str, str]:
    """That of a reader, who has no variables of this test suite."""
    ours = ("DJANGO_", "TEST_", "PYTEST", "PYTHON", "VIRTUAL_ENV", "DATABASE_URL", "PAGER")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.close()
    embedded.stop(tmp_path / "tutorial" / ".postgres")


def here(code: str) -> str:
    """The block as it is typed here: with this Python, and this checkout for the package."""
    code = code.replace("python3 -m venv", f"'{sys.executable}' -m venv")
    code = code.replace('pip install "steady-queue[', f'pip install --quiet "{ROOT}[')
    assert "steady-queue" not in code
    return code


def write(block: Block, folder: Path) -> None:
    with (folder / block.mark.removeprefix("test: append to ")).open("a") as file:
        file.write("\n\n" + block.code)


def second_terminal(block: Block, folder: Path) -> subprocess.Popen[bytes]:
    command = ["bash", "-c", f". .venv/bin/activate && exec {block.code}"]
    return subprocess.Popen(command, cwd=folder, env=environment())


def wait_until_all_have_ended(terminal: Terminal) -> None:
    deadline = time.monotonic() + PATIENCE
    while terminal.type(UNFINISHED) != "0\n":
        assert time.monotonic() < deadline, "the jobs have not ended"


def interrupt(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(PATIENCE) == 0


def test_every_command_and_block_of_the_tutorial_works(terminal, tmp_path):
    folder = tmp_path / "tutorial"
    supervisor = None
    printed = []
    try:
        for block in blocks(DOCS / "tutorial.md"):
            if block.language == "python":
                write(block, folder)
            elif block.mark == "test: second terminal":
                assert "ready" in printed[-1]
                supervisor = second_terminal(block, folder)
            else:
                if block.mark.startswith("test: wait"):
                    wait_until_all_have_ended(terminal)
                elif block.mark == "test: after the second terminal was interrupted":
                    interrupt(supervisor)
                printed.append(terminal.type(here(block.code)))
    finally:
        if supervisor:
            supervisor.kill()
    everything = "".join(printed)
    assert "Receipt no. 1: one teapot" in everything
    assert "cup" not in everything
    assert "DoesNotExist" in everything
    assert "stopped" in printed[-1]
