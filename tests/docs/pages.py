"""Pages of the documentation, and their code, run as a reader would run it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import django

from steady_queue import recurring_task

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>.*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)

# What the examples of the README take for granted.
PRELUDE = """
from django.db import transaction
INSTALLED_APPS = []
class Order:
    pk = 1
    class objects:
        create = staticmethod(lambda *args, **kwargs: Order())
"""


@dataclass(frozen=True)
class Block:
    """A fenced block. ``mark`` is the comment right above it: what the tests make of it."""

    language: str
    code: str
    mark: str
    line: int


def blocks(page: Path, language: str | None = None) -> list[Block]:
    text = page.read_text()
    found = [
        Block(
            match["language"],
            match["code"],
            match["mark"] or "",
            text.count("\n", 0, match.start("code")),
        )
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]


def is_run(block: Block) -> bool:
    if block.mark == "test: Django 6.1":
        return django.VERSION >= (6, 1)
    return block.mark != "no test"


@contextmanager
def run(page: Path) -> Iterator[ModuleType]:
    """The page's Python, in order, in a module of its own: tasks live at the top of a module."""
    module = ModuleType("docs_" + re.sub(r"\W", "_", page.stem.lower()))
    sys.modules[module.__name__] = module
    declared = dict(recurring_task.declarations)
    try:
        if page.name == "README.md":
            exec(PRELUDE, vars(module))
        _execute(page, vars(module))
        yield module
    finally:
        del sys.modules[module.__name__]
        recurring_task.declarations.clear()
        recurring_task.declarations.update(declared)


def _execute(page: Path, namespace: dict[str, object]) -> None:
    every = blocks(page)
    for number, block in enumerate(every):
        if block.language != "python" or not is_run(block):
            continue
        output = io.StringIO()
        with redirect_stdout(output):
            # Empty lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)
        if block.mark == "output":
            assert output.getvalue() == every[number + 1].code
