"""A shop on a busy evening: what a dashboard looks like when there is something to see."""

import json
import math
from datetime import UTC, datetime, timedelta

from steady_queue.processes.figures import BOUNDS

FIGURES = """
    insert into steady_queue_figures (
      minute, queue, task, finished, failed, waited, ran, waits, runs)
    values (%s, %s, %s, %s, %s, 0, 0, %s, %s)
"""
ERROR = {"message": "m", "traceback": "Traceback (most recent call last): ..."}
TASKS = {
    "default": "shop.tasks.make_receipt",
    "mail": "shop.tasks.send_reminder",
    "reports": "shop.tasks.make_report",
}


def histogram(counts):
    return [counts.get(bound, 0) for bound in (*BOUNDS, None)]


def figures(queue):
    """An hour with a campaign in it: more mails, and longer waits, half an hour ago."""
    now = datetime.now(UTC)
    for ago in range(61):
        minute = now.replace(second=0, microsecond=0) - timedelta(minutes=ago)
        # The first of these minutes is not over.
        part = 1 if ago else now.second / 60
        campaign = 900 * math.exp(-(((ago - 28) / 7) ** 2))
        receipts = int(part * (160 + 40 * math.sin(ago / 4) + 11 * (ago * 7 % 5)))
        mails = int(part * (90 + campaign + 8 * (ago * 3 % 7)))
        late = {0.5: mails // 3, 2: mails // 4, 10: int(campaign / 12)}
        waits = {0.01: receipts // 2, 0.02: receipts // 3, 0.05: receipts // 10, 0.1: 4}
        failed = (ago * 5 % 11 == 4) * 2 + (ago in (27, 28, 29)) * 9
        for name, count, broken, waited in (
            ("default", receipts, 0, waits),
            ("mail", mails, failed, {0.02: mails // 2, **late}),
        ):
            queue.run(FIGURES, minute, name, TASKS[name], count, broken, histogram(waited), [])


def processes(queue):
    register = "select steady_queue_register_process(%s, %s, %s, 'web1', %s, %s::text[], %s)"
    made = {}
    for pid, (kind, name, queues, threads) in enumerate(
        [
            ("supervisor", "supervisor-web1", [], 0),
            ("worker", "worker-1", ["default", "mail"], 3),
            ("worker", "worker-2", ["reports"], 1),
            ("dispatcher", "dispatcher-1", [], 0),
            ("scheduler", "scheduler-1", [], 0),
        ],
        start=4711,
    ):
        boss = made.get("supervisor-web1")
        [(made[name],)] = queue.run(register, kind, name, boss, pid, queues, threads)
    queue.run("update steady_queue_processes set started_at = now() - interval '2 days 3 hours'")
    return made


def fill(queue):
    """Figures, processes, jobs in each state, schedules and a limit."""
    figures(queue)
    made = processes(queue)
    for name, task in TASKS.items():
        queue.run("select steady_queue_ensure_lanes(%s, '{0}')", [name])
        queue.enqueue(task=task, queue=name)
    queue.finish(queue.claim(made["worker-2"], "reports"))
    for kind in ("ConnectionRefusedError", "TimeoutError"):
        queue.enqueue(task="shop.tasks.call_webhook", queue="mail")
        claimed = queue.claim(made["worker-1"], "mail")
        error = {"exception_class": f"builtins.{kind}", **ERROR}
        queue.finish(claimed, json.dumps(error))
    queue.enqueue_limited("customer 42", to=1, queue="reports", count=5)
    queue.run("update steady_queue_jobs set task = %s where task = 't'", TASKS["reports"])
    queue.claim(made["worker-2"], "reports")
    queue.enqueue(task=TASKS["mail"], queue="mail")
    queue.claim(made["worker-1"], "default", "mail", count=3)
    for name, count in (("default", 12), ("mail", 318), ("reports", 2)):
        for _ in range(count):
            queue.enqueue(task=TASKS[name], queue=name)
    for hours in range(1, 24):
        queue.enqueue(
            task=TASKS["mail"], queue="mail", run_after=datetime.now(UTC) + timedelta(hours=hours)
        )
    for key, task, schedule in (
        ("nightly report", TASKS["reports"], "0 4 * * *"),
        ("reminders", TASKS["mail"], "*/15 * * * *"),
    ):
        queue.run(
            "select steady_queue_schedule_task(%s, %s, %s, 'Europe/Berlin')", key, task, schedule
        )
    queue.run(
        "insert into steady_queue_recurring_executions (key, run_at, job) "
        "select t.key, now(), o.job from steady_queue_recurring_tasks t, "
        "(select min(job) as job from steady_queue_outcomes where status = 'successful') o"
    )
    queue.run("update steady_queue_running set claimed_at = now() - job % 9 * interval '1.3 s'")
    queue.run("update steady_queue_jobs set enqueued_at = now() - interval '4.2 s'")
    queue.run(
        "update steady_queue_recurring_tasks set next_run_at = date_trunc('hour', now()) + "
        "interval '1 h', last_run_at = date_trunc('hour', now())"
    )
