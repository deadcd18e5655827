"""What the subcommands take, read and refused in one way."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import NoReturn

from django.core.management.base import CommandError, CommandParser

LARGEST_ID = 2**63 - 1


class OneLineParser(CommandParser):
    """Says what is wrong in one line, without the usage, and with exit status 1."""

    def error(self, message: str) -> NoReturn:
        if self.called_from_command_line:
            self.exit(1, f"{self.prog}: {message}\n")
        raise CommandError(message)


def job_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= LARGEST_ID):
        raise ArgumentTypeError(f"expected the number of a job, got {text!r}")
    return int(text)


def queue_name(text: str) -> str:
    if not 0 < len(text) <= 300:
        raise ArgumentTypeError(f"expected a queue name of 1 to 300 characters, got {text!r:.400}")
    return text


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) <= 10_000):
        raise ArgumentTypeError(f"expected a number between 1 and 10000, got {text!r}")
    return int(text)


def seconds(text: str) -> timedelta:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 10**9:
        raise ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return timedelta(seconds=number)
