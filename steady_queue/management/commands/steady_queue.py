from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from types import MethodType
from typing import Any, NamedTuple

import psycopg
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from steady_queue.health import explain
from steady_queue.management import keep, look, start, steer
from steady_queue.management.arguments import OneLineParser

INTERRUPTED = 130
"""The exit status of what Ctrl-C has ended."""

CUT_OFF = 141
"""The exit status of what writes to a pipe that nobody reads any more, as a shell has it."""


class Subcommand(NamedTuple):
    help: str
    run: Callable[..., None]
    add_arguments: Callable[[ArgumentParser], None] = lambda parser: None


SUBCOMMANDS = {
    "start": Subcommand(
        "run workers, dispatchers and the scheduler", start.start, start.add_start_arguments
    ),
    "status": Subcommand("what is going on, on one screen", look.status, look.add_status_arguments),
    "jobs": Subcommand("list jobs, the newest first", look.jobs, look.add_jobs_arguments),
    "show": Subcommand("all about one job", look.show, look.add_show_arguments),
    "recurring": Subcommand("list schedules with their next three runs", look.recurring),
    "retry": Subcommand("make failed jobs ready again", steer.retry, steer.add_retry_arguments),
    "discard": Subcommand(
        "end waiting jobs without running them", steer.discard, steer.add_discard_arguments
    ),
    "run-now": Subcommand(
        "let scheduled jobs, or a schedule, run now", steer.run_now, steer.add_run_now_arguments
    ),
    "pause": Subcommand("claim nothing more from a queue", steer.pause, steer.add_queue_argument),
    "resume": Subcommand("claim from a paused queue again", steer.resume, steer.add_queue_argument),
    "prune": Subcommand("delete history past its time, now", keep.prune),
    "check": Subcommand(
        "look for what must never be true of a queue", keep.check, keep.add_check_arguments
    ),
    "health": Subcommand(
        "exit status 0, or 1 and why: for monitors", keep.health, keep.add_health_arguments
    ),
    "doctor": Subcommand("what makes the queue slow, and what to do about it", keep.doctor),
    "embedded": Subcommand(
        "the embedded PostgreSQL server", keep.server, keep.add_embedded_arguments
    ),
}


class Command(BaseCommand):
    """Without a subcommand, ``start``."""

    help = "Runs and steers the task queue."

    def add_arguments(self, parser: ArgumentParser) -> None:
        start.add_start_arguments(parser)
        commands = parser.add_subparsers(
            dest="subcommand", metavar="command", parser_class=OneLineParser
        )
        for name, subcommand in SUBCOMMANDS.items():
            subcommand.add_arguments(commands.add_parser(name, help=subcommand.help))

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(*args, **kwargs)
        parser.error = MethodType(OneLineParser.error, parser)  # type: ignore[method-assign]
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        subcommand = SUBCOMMANDS[options.pop("subcommand") or "start"]
        try:
            subcommand.run(self, **options)
        except (DatabaseError, InterfaceError, psycopg.Error) as error:
            raise CommandError(explain(error)) from error
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=INTERRUPTED) from None
        except BrokenPipeError:
            # Who reads has seen enough: `| head`. What is not flushed would be said to be lost.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(CUT_OFF)
