from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.utils import timezone

import steady_queue
from steady_queue import embedded, queries, signals, tasks_modules
from steady_queue.configuration import Configuration, Dispatcher
from steady_queue.cron import Cron
from steady_queue.models import RecurringTask


class Command(BaseCommand):
    """Without a subcommand, ``start``."""

    help = "Runs and steers the task queue."

    def add_arguments(self, parser: ArgumentParser) -> None:
        _add_start_arguments(parser)
        commands = parser.add_subparsers(dest="subcommand", metavar="command")
        start = commands.add_parser("start", help="run workers, dispatchers and the scheduler")
        _add_start_arguments(start)
        for name, help_text in (
            ("pause", "claim nothing more from a queue"),
            ("resume", "claim from a paused queue again"),
        ):
            commands.add_parser(name, help=help_text).add_argument("queue")
        commands.add_parser("recurring", help="list schedules with their next three runs")
        check = commands.add_parser("check", help="look for what must never be true of a queue")
        check.add_argument("--deep", action="store_true", help="read the whole history too")
        server = commands.add_parser("embedded", help="the embedded PostgreSQL server")
        server.add_argument("action", choices=["stop", "status"])

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["subcommand"] or "start"
        # BaseCommand.check runs the system checks.
        getattr(self, "check_queue" if name == "check" else name)(**options)

    def start(self, **options: Any) -> None:
        from steady_queue.processes.loop import exit_now
        from steady_queue.processes.pidfile import PidFile, PidFileTaken
        from steady_queue.processes.supervisor import Supervisor

        self.check(tags=None, display_num_errors=False)
        autoload = not options["disable_autoload"]
        if autoload:
            tasks_modules.load()
        chosen: dict[str, Any] = {
            name: True for name in ("only_work", "only_dispatch", "skip_recurring") if options[name]
        }
        settings = replace(Configuration.from_settings(), **chosen)
        if settings.only_work and settings.only_dispatch:
            raise CommandError("--only-work and --only-dispatch exclude each other")
        try:
            with PidFile(steady_queue.supervisor_pidfile):
                connections.close_all()
                status = Supervisor(settings, autoload=autoload).run()
        except PidFileTaken as error:
            raise CommandError(str(error)) from error
        exit_now(status)

    def pause(self, queue: str, **options: Any) -> None:
        changed = queries.pause_queue(steady_queue.database, queue)
        signals.queue_paused.send_robust(type(self), queue_name=queue, changed=changed)
        self.stdout.write(f"{queue}: {'paused' if changed else 'was paused already'}")

    def resume(self, queue: str, **options: Any) -> None:
        changed = queries.resume_queue(steady_queue.database, queue)
        signals.queue_resumed.send_robust(type(self), queue_name=queue, changed=changed)
        self.stdout.write(f"{queue}: {'resumed' if changed else 'was not paused'}")

    def recurring(self, **options: Any) -> None:
        now = timezone.now()
        for task in RecurringTask.objects.using(steady_queue.database).order_by("key"):
            state = "removed" if task.removed_at else "paused" if task.paused_at else "on"
            self.stdout.write(f"{task.key}  {task.schedule}  {task.timezone}  {task.task}  {state}")
            if state == "on":
                zone = ZoneInfo(task.timezone)
                for run in Cron(task.schedule, zone).upcoming(now, 3):
                    self.stdout.write(f"    {run.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}")

    def check_queue(self, deep: bool, **options: Any) -> None:
        violations = queries.check(
            steady_queue.database, steady_queue.process_alive_threshold, _maintained_every(), deep
        )
        for invariant, subject, found in violations:
            self.stdout.write(f"{invariant}: {subject}: {found}")
        if violations:
            raise CommandError(f"{len(violations)} found that must not be")
        self.stdout.write("nothing found")

    def embedded(self, action: str, **options: Any) -> None:
        if not embedded.started:
            raise CommandError("no database of DATABASES is an embedded server")
        for path in list(embedded.started):
            if action == "stop":
                embedded.stop(path)
            server = embedded.status(path)
            state = f"running with pid {server.pid}" if server.running else "stopped"
            self.stdout.write(f"PostgreSQL {server.version} in {path}: {state}")


def _maintained_every() -> timedelta:
    """The longest maintenance interval of this project's dispatchers."""
    dispatchers = Configuration.from_settings().dispatchers or [Dispatcher()]
    return max(d.concurrency_maintenance_interval for d in dispatchers)


def _add_start_arguments(parser: ArgumentParser) -> None:
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
