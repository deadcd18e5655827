import subprocess
import time
from contextlib import contextmanager, suppress

from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection
from django.tasks.signals import task_enqueued

from shop import background, results, tasks, traffic
from shop.models import Order
from shop.progress import Progress

CUSTOMERS, TASKS = 600, 1000

CUSTOMERS_PER_SECOND = 100
"""Few enough that workers keep up: behind a backlog every queue is as slow as its tasks."""

PATIENCE = 60
"""Seconds after which tasks that have not ended are called stuck."""

FAILS = tasks.call_webhook.module_path
"""The task that fails on purpose."""


class Command(BaseCommand):
    help = "Sends 1,000 tasks through the queue and shows how long they waited."

    def handle(self, **options):
        background.end_on_signals()
        call_command("migrate", verbosity=0)
        try:
            problems = self.run()
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=130) from None
        finally:
            background.stop_embedded_server()
        if problems:
            raise CommandError("\n".join(problems))

    def run(self):
        """Run the demo; what did not go as it should."""
        self.stdout.write(f"PostgreSQL {_server_version()} at {connection.settings_dict['HOST']}")
        with background.running("steady_queue", "start", TASKS_LOG_LEVEL="CRITICAL") as supervisor:
            self.wait_for_workers(supervisor)
            with noted_jobs() as jobs:
                progress = Progress(self.stdout, lambda: _states(jobs), TASKS)
                orders = self.send_customers(supervisor, progress)
                self.wait_for_end(supervisor, progress)
        self.show_waits(jobs)
        return [*_problems(jobs, orders), *_problems_at_end(supervisor)]

    def wait_for_workers(self, supervisor):
        """Until each queue has a worker that asks to be notified."""
        awaited = (
            "select bool_and(steady_queue_is_awaited('queue:' || q)) from unnest(%s::text[]) q"
        )
        deadline = time.monotonic() + PATIENCE
        while not results.rows(awaited, ["default", "mail", "reports"])[0][0]:
            self.live_on(supervisor, 0.05)
            if time.monotonic() > deadline:
                raise CommandError(f"no worker was ready within {PATIENCE} s")

    def send_customers(self, supervisor, progress):
        self.stdout.write(f"{CUSTOMERS} customers come, {CUSTOMERS_PER_SECOND} a second")
        begun = time.monotonic()
        orders = []
        for number in range(CUSTOMERS):
            self.live_on(supervisor, begun + number / CUSTOMERS_PER_SECOND - time.monotonic())
            orders.append(traffic.send_customer(number).pk)
            progress.look()
        return orders

    def wait_for_end(self, supervisor, progress):
        deadline = time.monotonic() + PATIENCE
        while progress.look(at_once=True) < TASKS and time.monotonic() < deadline:
            self.live_on(supervisor, progress.EVERY)
        progress.close()

    def live_on(self, supervisor, seconds):
        """Let time pass, unless the supervisor ends."""
        with suppress(subprocess.TimeoutExpired):
            status = supervisor.wait(seconds)
            raise CommandError(f"the supervisor ended by itself with exit status {status}")

    def show_waits(self, jobs):
        line = "{:<10}{:>8}{:>8}{:>16}{:>16}".format
        self.stdout.write(line("queue", "done", "failed", "median wait", "99 % wait"))
        for queue, done, failed, *waits in results.rows(results.WAITS, list(jobs)):
            self.stdout.write(line(queue, done, failed, *(f"{ms:.1f} ms" for ms in waits)))
        for task, kind, message, count in results.rows(results.FAILURES, list(jobs)):
            purpose = "on purpose" if task == FAILS else "and should not have"
            self.stdout.write(f"{count} failed {purpose}: {task}: {kind}: {message}")


@contextmanager
def noted_jobs():
    """The jobs that are enqueued meanwhile: the id of each, and the path of its task."""
    jobs = {}

    def note(task_result, **kwargs):
        jobs[int(task_result.id)] = task_result.task.module_path

    task_enqueued.connect(note)
    try:
        yield jobs
    finally:
        task_enqueued.disconnect(note)


def _server_version():
    return results.rows("show server_version")[0][0]


def _states(jobs):
    return dict(results.rows(results.STATES, list(jobs)))


def _problems(jobs, orders):
    """Each job that did not end as it should, and each order on which nothing was done."""
    if len(jobs) != TASKS:
        yield f"{len(jobs)} tasks were enqueued, not {TASKS}"
    expected = ["failed" if task == FAILS else "successful" for task in jobs.values()]
    for job, task, wanted, state, exception in results.rows(
        results.NOT_AS_EXPECTED, list(jobs), list(jobs.values()), expected
    ):
        yield f"job {job}, {task}: {state}, not {wanted}{f' ({exception})' if exception else ''}"
    undone = Order.objects.filter(pk__in=orders)
    for order in undone.exclude(status=Order.Status.PAID, receipt__isnull=False):
        yield f"{order} was not paid"
    for order in undone.filter(wants_reminder=True, reminded_at=None):
        yield f"{order} was not reminded"


def _problems_at_end(supervisor):
    if supervisor.returncode:
        yield f"the supervisor ended with exit status {supervisor.returncode}"
