"""The management command, run inside the test's process."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def run(*arguments: object, out: StringIO | None = None) -> str:
    """What it prints."""
    out = out or StringIO()
    call_command("steady_queue", *map(str, arguments), stdout=out)
    return out.getvalue()


def refusal(*arguments: object, out: StringIO | None = None) -> str:
    """The one line with which it refuses."""
    with pytest.raises(CommandError) as raised:
        run(*arguments, out=out)
    said = str(raised.value)
    assert "\n" not in said
    assert raised.value.returncode == 1
    return said
