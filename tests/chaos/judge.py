"""Reads the history when all is over, and says what should not have been."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psycopg

from tests.chaos.killer import Fault

THRESHOLD = 3.0
"""Seconds: a process removed after a longer silence was rightly called dead."""

DIES_WITHIN = 60.0
"""Seconds from a fault within which its victims start what it cuts off; a pid comes again later."""

ENDS = {"work": "successful", "limited": "successful", "flaky": "successful", "poison": "failed"}

RUNS = """
    select job, token, attempt, process, limit_key, limit_to, pid, parent, started, ended, died
    from chaos_runs order by started
"""
# Runs that had come to their end when their job was no longer their process's.
TAKEN_AWAY = """
    select r.job, r.process, r.started, r.ended
    from chaos_runs r
    where r.ended is not null and not exists (
      select from chaos_releases x
      where x.job = r.job and x.process = r.process and x.at >= r.ended - 0.01)
"""
# From when on the jobs of a process were rightly given to others. It may go on with what it holds,
# and even start it, until it hears of that.
SILENCES = "select process, at - silent_for + %s from chaos_removals where silent_for >= %s"
RELEASES = "select job, process, at, steady_since from chaos_releases order by at"
JOBS = """
    select j.id, j.arguments -> 'args' ->> 0, j.task, o.status, o.lost_starts
    from steady_queue_jobs j left join steady_queue_outcomes o on o.job = j.id
"""


@dataclass
class Run:
    job: int
    token: str
    attempt: int
    process: int
    limit_key: str | None
    limit_to: int | None
    pid: int
    parent: int
    started: float
    ended: float | None
    died: float | None


@dataclass
class Job:
    id: int
    token: str
    task: str
    status: str | None
    lost_starts: int | None

    @property
    def recurs(self) -> bool:
        return self.task.endswith(".tick")


class Judge:
    """``violations``, in words; ``figures``, to be printed."""

    def __init__(
        self,
        connection: psycopg.Connection,
        faults: list[Fault],
        fates: dict[str, str],
        kinds: dict[str, str],
    ) -> None:
        self.runs = [Run(*row) for row in connection.execute(RUNS)]
        self.jobs = [Job(*row) for row in connection.execute(JOBS)]
        self.effects = Counter(t for (t,) in connection.execute("select token from chaos_effects"))
        self.executions = connection.execute(
            "select key, run_at, job from steady_queue_recurring_executions where job is not null"
        ).fetchall()
        self.taken_away = connection.execute(TAKEN_AWAY).fetchall()
        self.fates, self.kinds = fates, kinds
        self.deaths = self._deaths(faults)
        self.killed = {
            pid: ("host" if fault.kind == "supervisor killed" else "child", fault.at)
            for fault in reversed(faults)
            if "killed" in fault.kind
            for pid in fault.pids
        }
        self.silences = dict(connection.execute(SILENCES, [THRESHOLD] * 2).fetchall())
        self.violations: list[str] = []
        self.figures: dict[str, Any] = {}
        self.recoveries: dict[str, list[float]] = {"child": [], "host": []}
        self.sweeps: list[float] = []
        self.releases = connection.execute(RELEASES).fetchall()
        self._zombies: set[int] = set()

    def judge(self) -> None:
        self._count("lost", self._lost())
        self._count("unexpected", self._unexpected())
        self._count("ended otherwise than they should", self._misended())
        self._judge_reruns()
        self._count("given away while they ran", self._given_away())
        self._count("over the limit", self._over_the_limit())
        self._count("recurring runs twice or lost", self._misrecurred())
        self._measure_recoveries()

    def _count(self, name: str, found: list[str]) -> None:
        self.figures[name] = len(found)
        self.violations += [f"{name}: {one}" for one in found]

    def _deaths(self, faults: list[Fault]) -> dict[int, list[tuple[float, float]]]:
        """For each pid the spans in which it may have ended."""
        deaths: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for fault in faults:
            for pid in fault.pids:
                deaths[pid].append((fault.at, fault.at + DIES_WITHIN))
        for run in self.runs:
            if run.died:
                deaths[run.pid].append((run.died, run.died + DIES_WITHIN))
        return deaths

    def _lost(self) -> list[str]:
        ended = {job.token for job in self.jobs if job.status}
        return [t for t, fate in self.fates.items() if fate == "committed" and t not in ended]

    def _unexpected(self) -> list[str]:
        there = {job.token for job in self.jobs if not job.recurs}
        ran = {run.token for run in self.runs if not run.token.startswith("tick")}
        allowed = {t for t, fate in self.fates.items() if fate != "rolled back"}
        return sorted((there | ran) - allowed)

    def _misended(self) -> list[str]:
        """Innocent jobs that failed without three deaths of their process; effects that miss."""
        found = []
        for job in self.jobs:
            kind = self.kinds.get(job.token)
            killed = (job.lost_starts or 0) >= THREE and self._lost_runs(job.id) >= THREE
            if kind and job.status and job.status != ENDS[kind] and not killed:
                found.append(f"job {job.id} of {kind} is {job.status}")
            if job.status == "successful" and not job.recurs and not self.effects[job.token]:
                found.append(f"job {job.id} of {kind} has no effect")
        return found

    def _lost_runs(self, job: int) -> int:
        """Those that were cut off, or ended when their process had rightly been called dead."""
        return sum(
            run.job == job and (run.ended is None or self._was_silent(run.process, run.ended))
            for run in self.runs
        )

    def _judge_reruns(self) -> None:
        by_job = defaultdict(list)
        for run in self.runs:
            by_job[run.job].append(run)
        counts: Counter[str] = Counter()
        found = []
        for runs in by_job.values():
            for first, second in pairwise(runs):
                counts.update(self._judge_pair(first, second, found))
        self.figures["runs"] = len(self.runs)
        self.figures["runs again"] = counts["again"]
        self.figures["overlapping"] = counts["overlapping"]
        self._count("duplicated without a recorded cause", found)

    def _judge_pair(self, first: Run, second: Run, found: list[str]) -> list[str]:
        overlaps = first.ended is not None and second.started < first.ended
        if second.attempt > first.attempt and not overlaps:
            return []
        # Of a job that was given to another, either may start first.
        zombies = [r for r in (first, second) if self._was_silent(r.process, second.started)]
        died = None if overlaps else self._death(first, second)
        self._zombies.update(map(id, zombies))
        if not zombies and died is None:
            found.append(f"job {first.job}: {first} and {second}")
        return ["overlapping", "again"] if overlaps else ["again"]

    def _given_away(self) -> list[str]:
        return [
            f"job {job} of process {process}, at {started} to {ended}"
            for job, process, started, ended in self.taken_away
            if not self._was_silent(process, ended)
        ]

    def _measure_recoveries(self) -> None:
        """From a death to the moment when what ran was put back or failed."""
        released = defaultdict(list)
        for job, process, at, steady_since in self.releases:
            released[job, process].append((at, steady_since or 0.0))
        for run in self.runs:
            if run.ended is None and run.pid in self.killed:
                kind, died = self.killed[run.pid]
                after = [one for one in released[run.job, run.process] if one[0] >= died]
                if after and run.started < died + DIES_WITHIN:
                    self._measure_recovery(kind, died, *after[0])

    def _measure_recovery(self, kind: str, died: float, at: float, steady_since: float) -> None:
        """That of a host also from when somebody who could sweep was steady."""
        self.recoveries[kind].append(at - died)
        if kind == "host":
            self.sweeps.append(at - max(died, steady_since))

    def _was_silent(self, process: int, before: float) -> bool:
        return self.silences.get(process, math.inf) <= before

    def _death(self, first: Run, second: Run) -> float | None:
        for at, until in self.deaths[first.pid]:
            if first.started <= until and at <= second.started:
                return at
        return None

    def _over_the_limit(self) -> list[str]:
        by_key = defaultdict(list)
        for run in self.runs:
            if run.limit_key and id(run) not in self._zombies:
                by_key[run.limit_key].append(run)
        return [
            f"{key}: {excess}" for key, runs in by_key.items() for excess in _excesses(runs)[:1]
        ]

    def _misrecurred(self) -> list[str]:
        jobs = [job for _, _, job in self.executions]
        there = {job.id for job in self.jobs if job.recurs}
        found = [f"job {job} stands for two runs" for job, n in Counter(jobs).items() if n > 1]
        found += [f"run with job {job} has none" for job in set(jobs) - there]
        found += [f"job {job} of no run" for job in there - set(jobs)]
        found += [
            f"job {job.id} has not ended" for job in self.jobs if job.recurs and not job.status
        ]
        self.figures["recurring runs"] = len(jobs)
        by_key = defaultdict(list)
        for key, run_at, _ in self.executions:
            by_key[key].append(run_at)
        for key, times in by_key.items():
            gaps = {(b - a).total_seconds() for a, b in pairwise(sorted(times))}
            found += [f"{key} has a gap of {gap} s" for gap in gaps if gap != 1]
        return found


THREE = 3


def _excesses(runs: list[Run]) -> list[str]:
    """Moments with more runs than the largest limit among them.

    Of those whose end is known: when a killed one ended is not.
    """
    moments = [(run.started, 1, run.limit_to) for run in runs if run.ended]
    moments += [(run.ended, -1, run.limit_to) for run in runs if run.ended]
    found, present = [], Counter[int]()
    for at, change, limit in sorted(moments):
        present[limit] += change
        most = max((limit for limit, count in present.items() if count), default=0)
        if present.total() > most > 0:
            found.append(f"{present.total()} at once at {at}, limit {most}")
    return found


def percentile(values: list[float], share: float) -> str:
    """In seconds, as text."""
    if not values:
        return "-"
    return f"{sorted(values)[min(len(values) - 1, int(len(values) * share))]:.2f} s"
