"""Starts everything, lets the phases happen, waits for the end, judges and prints."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.checker import Checker
from tests.chaos.field import SESSIONS, Field
from tests.chaos.judge import Judge, percentile
from tests.chaos.killer import Journal, Killer

LEFT = """
    select (select count(*) from steady_queue_ready) + (select count(*) from steady_queue_running)
      + (select count(*) from steady_queue_blocked) + (select count(*) from steady_queue_scheduled)
"""
WORKERS = "select count(*) from steady_queue_processes where kind = 'worker'"
WAIT_TO_BE_NOTIFIED = """
    select count(distinct pid) from pg_locks where locktype = 'advisory' and mode = 'ShareLock'
"""
FULL = ["processes", "database", "limits", "deploy"]
PRODUCED = {"limits": ["--bursts"], "deploy": ["--lowers"]}


@dataclass
class Plan:
    """``polling`` in seconds, of all processes; ``rate`` in transactions a second.

    ``patience`` in seconds: from the last fault to the end of the last job.
    """

    folder: Path
    seconds: float
    seed: str
    phases: list[str]
    polling: float
    rate: float
    patience: float


def run(plan: Plan) -> int:
    """The exit status: 1 when anything was not as it should be."""
    print(f"{plan}", flush=True)
    ground = Field(plan.folder, plan.polling)
    try:
        ground.begin()
        violations, figures = _run(ground, plan)
    finally:
        ground.close()
    for name, value in figures.items():
        print(f"  {name}: {value}")
    for one in violations[:20]:
        print(f"VIOLATION {one}")
    print(f"{len(violations)} violations", flush=True)
    return 1 if violations else 0


def _run(ground: Field, plan: Plan) -> tuple[list[str], dict[str, Any]]:
    journal = Journal(open(ground.folder / "journal.txt", "w"))  # noqa: SIM115
    checker = Checker(ground.url, plan.patience)
    violations = [] if _is_up(ground, plan) else ["the nodes did not start"]
    before = ground.holdings()
    checker.start()
    errors: list[str] = []
    seconds = plan.seconds / len(plan.phases)
    for phase in plan.phases:
        flags = PRODUCED.get(phase, [])
        ground.producing.begin(f"{plan.seed} {phase}", "--rate", str(plan.rate), *flags)
        if phase == "limits":
            _add_schedules(ground)
        randomness = random.Random(f"{plan.seed} {phase}")
        killer = Killer(phase, seconds, randomness, ground, journal)
        killer.run()
        errors += killer.errors
    last_fault = time.monotonic()
    _remove_schedules(ground)
    ground.producing.stop()
    ended = _wait_for_the_end(ground, plan)
    took = time.monotonic() - last_fault
    checker.stopped.set()
    checker.join(plan.patience)
    if not ended:
        violations.append(
            f"{_left(ground)} jobs had not ended {plan.patience:.0f} s after the last fault"
        )
    violations += [f"seen while it ran: {one}" for one in checker.violations]
    violations += ground.mishaps
    # Who has not ended well may have anything open.
    violations += [] if violations else _still_held(ground, plan, before)
    violations += [
        f"child {pid} was told to stop and lives"
        for fault in journal.faults
        if fault.kind == "child terminated"
        for pid in fault.pids
        if _is_child(pid)
    ]
    violations += _stop(ground)
    with ground.connect() as connection:
        judge = Judge(connection, journal.faults, *_ledger(ground))
        judge.judge()
    violations += judge.violations
    figures = _figures(judge, journal, checker, took, errors)
    return violations, {**figures, "left out": "; ".join(ground.lacks) or "nothing"}


def _ledger(ground: Field) -> tuple[dict[str, str], dict[str, str]]:
    """The fate and the kind of each token; of several lines the last one counts."""
    lines = [line.split(maxsplit=2) for line in ground.producing.ledger.read_text().splitlines()]
    return {token: fate for token, _, fate in lines}, {token: kind for token, kind, _ in lines}


def _is_up(ground: Field, plan: Plan) -> bool:
    # Every child has two sessions, and a supervisor one.
    expected = {WORKERS: 4, WAIT_TO_BE_NOTIFIED: 8, SESSIONS: 18}
    return all(_until(ground, plan, query, count.__eq__) for query, count in expected.items())


def _wait_for_the_end(ground: Field, plan: Plan) -> bool:
    return _until(ground, plan, LEFT, lambda count: count == 0)


def _until(ground: Field, plan: Plan, query: str, condition: Any) -> bool:
    deadline = time.monotonic() + plan.patience
    while time.monotonic() < deadline:
        try:
            with ground.connect() as connection:
                while time.monotonic() < deadline:
                    if condition(connection.execute(query).fetchone()[0]):
                        return True
                    time.sleep(0.1)
        except psycopg.OperationalError:
            time.sleep(0.1)
    return False


def _still_held(ground: Field, plan: Plan, before: dict[str, int]) -> list[str]:
    """What supervisors and the server do not let go of when all is over, though they had less."""
    deadline = time.monotonic() + plan.patience
    while more := {name: n for name, n in ground.holdings().items() if n > before[name]}:
        if time.monotonic() > deadline:
            return [f"{count} {name}, {before[name]} before" for name, count in more.items()]
        time.sleep(0.5)
    return []


def _left(ground: Field) -> int:
    with ground.connect() as connection:
        return connection.execute(LEFT).fetchone()[0]


def _add_schedules(ground: Field) -> None:
    with ground.connect() as connection:
        for number in range(5):
            connection.execute(
                "select steady_queue_schedule_task(%s, 'tests.chaos.tasks.tick', '* * * * * * *', "
                "p_arguments => %s, p_missed => 'all')",
                [f"tick {number}", f'{{"args": ["tick {number}"], "kwargs": {{}}}}'],
            )


def _remove_schedules(ground: Field) -> None:
    with ground.connect() as connection:
        connection.execute(
            "select steady_queue_unschedule_task(key) from steady_queue_recurring_tasks"
        )


def _stop(ground: Field) -> list[str]:
    """TERM to all: each ends well, and leaves nothing behind."""
    violations = []
    for place in ground.places:
        if place.node.process.poll() is not None:
            violations.append(f"a supervisor ended by itself: {place.node.process.returncode}")
        elif status := place.node.stop():
            violations.append(f"a supervisor ended with status {status}")
    with ground.connect() as connection:
        left = connection.execute("select kind, pid from steady_queue_processes").fetchall()
    # Numbers of what was killed last are left for a sweep that nobody makes any more.
    return violations + [f"left registered: {one}" for one in left if _is_ours(one[1])]


def _is_child(pid: int) -> bool:
    return _is_ours(pid, b"steady_queue.processes.child")


def _is_ours(pid: int, word: bytes = b"steady_queue") -> bool:
    try:
        return word in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _figures(
    judge: Judge, journal: Journal, checker: Checker, took: float, errors: list[str]
) -> dict[str, Any]:
    faults = journal.counts()
    fates = list(judge.fates.values())
    total = faults.total()
    return {
        "jobs": len(judge.jobs),
        "transactions": ", ".join(f"{fates.count(fate)} {fate}" for fate in sorted(set(fates))),
        "faults": total,
        **{f"  {kind}": count for kind, count in sorted(faults.items())},
        "faults that found nothing to harm": _counts(Counter(errors)),
        "looks of the checker": checker.looks,
        **judge.figures,
        **{
            f"recovery of a {kind}'s jobs, p50 and p95": f"{percentile(spans, 0.5)} "
            f"{percentile(spans, 0.95)} of {len(spans)}"
            for kind, spans in judge.recoveries.items()
        },
        "that of a host's since a sweeper was steady": f"{percentile(judge.sweeps, 0.5)} "
        f"{percentile(judge.sweeps, 0.95)}",
        "from the server's return to the next run": _next_runs(judge, journal.returns),
        "from a standby's promotion to the next run": _next_runs(judge, journal.promotions),
        "longest time without the start of a run": _longest_pause(judge),
        "last job ended after the last fault by": f"{took:.1f} s",
        "rate of violations, at 95 %, if there were none, below": f"{3 / max(total, 1):.4f}",
    }


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in sorted(counts.items())) or "none"


def _next_runs(judge: Judge, moments: list[float]) -> str:
    spans = [
        next((run.started - at for run in judge.runs if run.started > at), 0) for at in moments
    ]
    return ", ".join(f"{span:.2f} s" for span in spans) or "-"


def _longest_pause(judge: Judge) -> str:
    return f"{max((b.started - a.started for a, b in pairwise(judge.runs)), default=0):.1f} s"


def main(arguments: Any) -> None:
    # So that servers and nodes are ended even so.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    phases = arguments.phases or FULL
    seconds = arguments.minutes * 60
    plan = Plan(
        folder,
        seconds,
        arguments.seed,
        phases,
        arguments.polling,
        arguments.rate,
        arguments.patience,
    )
    sys.exit(run(plan))
