from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

import steady_queue
from steady_queue import tasks_modules
from steady_queue.configuration import Configuration, Options
from steady_queue.management.schema import wait_until_migrated


def add_start_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--only-work", action="store_true", help="start workers only")
    parser.add_argument(
        "--only-dispatch", action="store_true", help="start dispatchers and the scheduler only"
    )
    parser.add_argument("--skip-recurring", action="store_true", help="start no scheduler")
    parser.add_argument(
        "--disable-autoload",
        action="store_true",
        help="do not import the tasks module of each installed app",
    )


def start(command: BaseCommand, **options: Any) -> None:
    from steady_queue.processes.loop import exit_now
    from steady_queue.processes.pidfile import PidFile, PidFileTaken
    from steady_queue.processes.supervisor import Supervisor

    command.check(tags=None, display_num_errors=False)
    autoload = not options["disable_autoload"]
    if autoload:
        tasks_modules.load()
    settings = _settings(options)
    try:
        with PidFile(steady_queue.supervisor_pidfile):
            wait_until_migrated(command)
            connections.close_all()
            status = Supervisor(settings, autoload=autoload).run()
    except PidFileTaken as error:
        raise CommandError(str(error)) from error
    exit_now(status)


def _settings(options: dict[str, Any]) -> Options:
    names = ("only_work", "only_dispatch", "skip_recurring")
    chosen: dict[str, Any] = {name: True for name in names if options[name]}
    settings = replace(Configuration.from_settings(), **chosen)
    if settings.only_work and settings.only_dispatch:
        raise CommandError("--only-work and --only-dispatch exclude each other")
    return settings
