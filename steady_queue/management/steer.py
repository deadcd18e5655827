"""What a person may do from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from itertools import batched
from typing import Any

from django.core.management.base import BaseCommand, CommandError

import steady_queue
from steady_queue import queries, recurring_task
from steady_queue.actions import BATCH, DISCARD, RETRY, RUN_NOW, Action, pause_queue, resume_queue
from steady_queue.management.arguments import job_id, queue_name
from steady_queue.management.layout import Progress, printable
from steady_queue.models import JobState, Outcome

SHOWN = 10
"""Jobs that an error names, at most."""


def add_queue_argument(parser: ArgumentParser) -> None:
    parser.add_argument("queue", type=queue_name)


def add_retry_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", type=job_id, metavar="ID")
    parser.add_argument("--all-failed", action="store_true", help="every job that failed")
    parser.add_argument("--queue", help="with --all-failed: only of this queue")
    parser.add_argument("--task", help="with --all-failed: only of this task")


def add_discard_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="+", type=job_id, metavar="ID")


def add_run_now_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", type=job_id, metavar="ID")
    parser.add_argument("--schedule", metavar="KEY", help="let this schedule run once, now")


def pause(command: BaseCommand, queue: str, **options: Any) -> None:
    changed = pause_queue(type(command), queue)
    command.stdout.write(f"{printable(queue)}: {'paused' if changed else 'was paused already'}")


def resume(command: BaseCommand, queue: str, **options: Any) -> None:
    changed = resume_queue(type(command), queue)
    command.stdout.write(f"{printable(queue)}: {'resumed' if changed else 'was not paused'}")


def retry(
    command: BaseCommand,
    jobs: list[int],
    all_failed: bool,
    queue: str | None,
    task: str | None,
    **options: Any,
) -> None:
    if bool(jobs) == all_failed:
        raise CommandError("expected the numbers of jobs, or --all-failed")
    if (queue or task) and not all_failed:
        raise CommandError("--queue and --task go with --all-failed")
    if all_failed:
        _retry_all(command, queue, task)
    else:
        _do(command, RETRY, jobs)


def discard(command: BaseCommand, jobs: list[int], **options: Any) -> None:
    _do(command, DISCARD, jobs)


def run_now(command: BaseCommand, jobs: list[int], schedule: str | None, **options: Any) -> None:
    if bool(jobs) == (schedule is not None):
        raise CommandError("expected the numbers of jobs, or --schedule KEY")
    if schedule is None:
        _do(command, RUN_NOW, jobs)
    elif recurring_task.run_now(schedule):
        command.stdout.write(f"{printable(schedule)}: runs as soon as a scheduler sees it")
    else:
        raise CommandError(f"no such schedule: {printable(schedule)}")


def _do(command: BaseCommand, action: Action, jobs: list[int]) -> None:
    jobs = list(dict.fromkeys(jobs))
    states = _states(jobs)
    if unknown := [str(job) for job in jobs if job not in states]:
        raise CommandError(f"no such job: {_some(unknown)}; nothing was changed")
    count = action.act(steady_queue.database, jobs)
    said = f"{count} of {len(jobs)} jobs {action.said}"
    if count < len(jobs):
        raise CommandError(f"{said}; left alone: {_left_alone(action, states)}")
    command.stdout.write(said)


def _states(jobs: list[int]) -> dict[int, str]:
    found = JobState.objects.using(steady_queue.database).filter(pk__in=jobs)
    return dict(found.values_list("pk", "state"))


def _left_alone(action: Action, states: dict[int, str]) -> str:
    others = [f"{job} is {state}" for job, state in states.items() if state not in action.states]
    return _some(others) or "what changed its state meanwhile"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _retry_all(command: BaseCommand, queue: str | None, task: str | None) -> None:
    # Read once: what fails again meanwhile is not retried again, for ever.
    jobs = _failed(queue, task)
    progress = Progress(command.stdout, f"of {len(jobs):,} jobs are ready again", len(jobs))
    count = 0
    for batch in batched(jobs, BATCH):
        count += queries.retry_jobs(steady_queue.database, batch)
        progress.show(count)
    progress.end()
    command.stdout.write(f"{count} of {len(jobs)} jobs are ready again")


def _failed(queue: str | None, task: str | None) -> list[int]:
    failed = Outcome.objects.using(steady_queue.database).filter(status="failed")
    if queue is not None:
        failed = failed.filter(job__queue=queue)
    if task is not None:
        failed = failed.filter(job__task=task)
    return list(failed.order_by("pk").values_list("pk", flat=True))
