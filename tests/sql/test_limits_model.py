"""The SQL functions against a model: any order of calls leaves the tables as the model says.

One session, one transaction an example, rolled back. Order of the model's rules: the flow, then
what a person does, then time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import Queue, connect

LIVE, PAST = "live", "past"
WAITING = ("ready", "scheduled", "blocked")
ENDED = ("successful", "failed", "discarded")
MAX_LOST_STARTS = 3


@dataclass
class Job:
    id: int
    queue: str
    priority: int
    key: str | None
    to: int
    conflict: str
    state: str = "ready"
    position: int = 0
    has_lane: bool = True
    hold: str | None = None
    slot: int | None = None
    due: int | None = None
    attempt: int = 0
    lost_starts: int = 0
    suspect: bool = False
    process: int | None = None
    claim: int | None = None

    @property
    def lane(self) -> tuple[str, int, bool]:
        return self.queue, self.priority, self.hold is not None


class Model:
    """The queue in memory. Slots are counted from who holds them, as in SQL."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.paused: set[str] = set()
        self.lanes: set[tuple[str, int]] = set()
        self.unattended: set[str] = set()
        """Keys with a slot that only maintenance hands over."""
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last

    def within(self, *states: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.state in states]

    def held(self, key: str | None) -> int:
        ready = sum(job.key == key and job.hold == LIVE for job in self.within("ready"))
        return ready + len(
            {j.slot for j in self.within("running") if j.key == key and j.hold == LIVE}
        )

    def slots(self) -> list[list[int]]:
        """The running jobs that have one, by their slots."""
        limited = sorted((j for j in self.within("running") if j.key), key=lambda job: job.id)
        jobs: dict[int | None, list[int]] = {}
        for job in limited:
            jobs.setdefault(job.slot, []).append(job.id)
        return list(jobs.values())

    def blocked(self, key: str | None) -> list[Job]:
        """Who waits for the key and may be served, first in line first."""
        line = [j for j in self.within("blocked") if j.key == key and j.queue not in self.paused]
        return sorted(line, key=lambda job: (-job.priority, job.id))

    def make_ready(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.state, job.position, job.due = "ready", self.next(), None
            job.process = job.claim = None
            job.has_lane = (job.queue, job.priority) in self.lanes

    def end(self, job: Job, state: str) -> None:
        job.state, job.hold, job.claim, job.suspect = state, None, None, False

    def hand_over(self, keys: set[str]) -> None:
        lucky = [job for key in keys for job in self.next_in_line(key)]
        for job in lucky:
            job.hold = LIVE
        self.make_ready(sorted(lucky, key=lambda job: (-job.priority, job.id)))
        self.unattended -= keys
        self.look_behind(keys)

    def look_behind(self, keys: set[str]) -> None:
        for key in keys:
            rest = self.blocked(key)
            if rest and self.held(key) < rest[0].to:
                # Behind the last job of a lower limit: the next hand-over counts anew.
                self.unattended.add(key)

    def next_in_line(self, key: str) -> list[Job]:
        """Who gets the free slots of the key."""
        line, held = self.blocked(key), self.held(key)
        served = line[: max(line[0].to - held, 0)] if line else []
        return [job for place, job in enumerate(served, 1) if held + place <= job.to]

    def claim(self, process: int, queues: list[str], count: int) -> list[int]:
        self._make_lanes()
        claimed: list[int] = []
        for lanes in self._ranks(queues):
            moved = True
            while moved and len(claimed) < count:
                moved = self._claim_from(lanes, process, count - len(claimed), claimed)
        return claimed

    def _make_lanes(self) -> None:
        new = sorted((j for j in self.within("ready") if not j.has_lane), key=lambda j: j.position)
        self.lanes |= {(job.queue, job.priority) for job in new}
        self.make_ready(new)

    def follow(
        self, claimed: list[int], keys: set[str], queues: list[str], each: int, count: int
    ) -> list[int]:
        """Who follows the claimed jobs into their slots, in the order of the line."""
        places = [
            (place, job.id, leader)
            for key in keys
            for place, job, leader in self._places(claimed, key, queues, each)
        ]
        for _, job, leader in (
            lucky := sorted(places, key=lambda place: place[:2])[: max(count, 0)]
        ):
            self.jobs[job].state, self.jobs[job].hold = "running", LIVE
            self.jobs[job].process, self.jobs[job].slot = leader.process, leader.slot
        self.look_behind(keys)
        return sorted(job for _, job, _ in lucky)

    def _places(
        self, claimed: list[int], key: str, queues: list[str], each: int
    ) -> Iterator[tuple[int, Job, Job]]:
        """From the front of the line, as long as they may follow: place, job and leader."""
        line, held = self.blocked(key), self.held(key)
        leaders = (
            [
                job
                for job in (self.jobs[id] for id in sorted(claimed))
                if job.key == key and not job.suspect and job.priority == line[0].priority
            ]
            if line
            else []
        )
        for place, job in enumerate(line[: each * len(leaders)]):
            alike = (job.priority, job.to, job.attempt) == (line[0].priority, held, 0)
            if not alike or job.suspect or self._place(job.queue, queues) is None:
                return
            yield place, job, leaders[place % len(leaders)]

    @staticmethod
    def _place(queue: str, queues: list[str]) -> int | None:
        """Where in the list the queue is served, if it is."""
        places = [
            place
            for place, pattern in enumerate(queues)
            if queue == pattern or (pattern[-1] == "*" and queue.startswith(pattern[:-1]))
        ]
        return places[0] if places else None

    def _ranks(self, queues: list[str]) -> list[set[tuple[str, int, bool]]]:
        ranks: dict[tuple[int, int, bool], set[tuple[str, int, bool]]] = {}
        for queue, priority, express in {job.lane for job in self.within("ready")}:
            place = self._place(queue, queues)
            if place is not None and queue not in self.paused:
                rank = (place, -priority, not express)
                ranks.setdefault(rank, set()).add((queue, priority, express))
        return [ranks[rank] for rank in sorted(ranks)]

    def _claim_from(
        self, lanes: set[tuple[str, int, bool]], process: int, room: int, claimed: list[int]
    ) -> bool:
        """Whether jobs were moved away, so that others came in reach."""
        batch = [job for job in self.within("ready") if job.lane in lanes]
        batch = sorted(batch, key=lambda job: job.position)[:room]
        places: Counter[str | None] = Counter()
        admitted, refused = [], []
        for job in batch:
            if job.key is None or job.hold == LIVE:
                admitted.append(job)
                continue
            places[job.key] += 1
            fits = self.held(job.key) + places[job.key] <= job.to
            passed = any(other.priority >= job.priority for other in self.blocked(job.key))
            (admitted if fits and not passed else refused).append(job)
        for job in admitted:
            job.state, job.process, job.hold = "running", process, job.key and LIVE
            job.slot = self.next()
            claimed.append(job.id)
        for job in refused:
            job.hold = None
            if job.conflict == "discard":
                self.end(job, "discarded")
                job.process = None
            else:
                job.state = "blocked"
        self.hand_over({j.key for j in refused if j.key and j.state == "blocked"})
        return bool(refused)

    def finish(self, job: Job, how: str, keep: bool) -> None:
        job.attempt += 1
        if how == "scheduled":
            self.end(job, "scheduled")
            job.due, job.process = self.next(), None
        else:
            self.end(job, how)
        if how == "successful" and not keep:
            del self.jobs[job.id]

    def release(self, jobs: list[Job]) -> None:
        for job in (jobs := sorted(jobs, key=lambda job: job.id)):
            slot = [j for j in self.within("running") if j.key and j.slot == job.slot]
            if any(other not in jobs or other.id < job.id for other in slot):
                job.hold = None
                # Unless who keeps the slot is past its duration.
                self.unattended.add(job.key or "")
        self.make_ready(jobs)

    def recover(self, process: int, started: list[int] | None) -> None:
        lost = [job for job in self.within("running") if job.process == process]
        begun = [job for job in lost if started is None or job.id in started]
        for job in lost:
            job.hold = None
            job.suspect |= job in begun
        if len(begun) == 1:
            begun[0].lost_starts += 1
            if begun[0].lost_starts >= MAX_LOST_STARTS:
                self.end(begun[0], "failed")
        self.make_ready(sorted((j for j in lost if j.state == "running"), key=lambda j: j.id))
        self.hand_over({job.key for job in lost if job.key})

    def maintain(self) -> None:
        for job in self.within("ready"):
            if job.hold and job.queue in self.paused:
                job.state, job.hold = "blocked", None
        self.hand_over({job.key for job in self.within("blocked") if job.key})

    def discard(self, jobs: list[Job]) -> int:
        waiting = [job for job in jobs if job.state in WAITING]
        # Discarding the first in line, its limit the lowest, makes a slot free too.
        self.unattended |= {job.key for job in waiting if job.key}
        for job in waiting:
            self.end(job, "discarded")
            job.process, job.due = None, None
        return len(waiting)

    def retry(self, jobs: list[Job]) -> int:
        ended = [job for job in jobs if job.state in ("failed", "discarded")]
        for job in ended:
            job.attempt = job.lost_starts = 0
        self.make_ready(sorted(ended, key=lambda job: job.id))
        return len(ended)

    def dispatch(self, count: int) -> int:
        due = [job for job in self.within("scheduled") if job.due is not None]
        due = sorted(due, key=lambda job: job.due or 0)[:count]
        self.make_ready(due)
        return len(due)

    def rows(self) -> dict[int, tuple[Any, ...]]:
        return {
            j.id: (j.state, j.hold, j.attempt, j.lost_starts, j.suspect, j.process, j.claim)
            for j in self.jobs.values()
        }


ROWS = """
    select job, state, case when holds_until > clock_timestamp() then 'live'
      when holds_until is not null then 'past' end, attempt, lost_starts, suspect, process, claim
    from (
      select job, 'ready' as state, holds_until, attempt, lost_starts, suspect,
        null::bigint as process, null::bigint as claim from steady_queue_ready
      union all select job, 'scheduled', null, attempt, lost_starts, suspect, null, null
      from steady_queue_scheduled
      union all select job, 'blocked', null, attempt, lost_starts, suspect, null, null
      from steady_queue_blocked
      union all select job, 'running', holds_until, attempt, lost_starts, suspect, process, claim
      from steady_queue_running
      union all select job, status, null, attempt, lost_starts, false, process, null
      from steady_queue_outcomes
    ) s
"""

ENQUEUE = """
    select id from steady_queue_enqueue_jobs(
      'default', array_fill('t'::text, array[%(count)s]),
      array_fill(%(queue)s::text, array[%(count)s]),
      array_fill(%(priority)s::smallint, array[%(count)s]),
      array_fill('{}'::json, array[%(count)s]),
      array_fill(clock_timestamp() + %(after)s::interval, array[%(count)s]),
      array_fill(%(key)s::text, array[%(count)s]), array_fill(%(to)s::integer, array[%(count)s]),
      array_fill(%(for)s::interval, array[%(count)s]),
      array_fill(%(conflict)s::text, array[%(count)s]))
"""
QUEUES = st.sampled_from(["a", "b", "new"])
LISTS = st.sampled_from([["*"], ["*"], ["b", "*"], ["a", "b"], ["n*"], ["a", "n*"]])
ERRORS = {
    "successful": {},
    "failed": {"exception_class": "E", "message": "m", "traceback": "t"},
    "discarded": {"exception_class": "E", "message": "m", "traceback": "t", "discard": True},
    "scheduled": {"exception_class": "E", "message": "m", "traceback": "t", "retry_in": 0},
}


def some(*states: str) -> Any:
    """Only while there are jobs in one of these states."""
    return precondition(lambda machine: machine.model.within(*states))


class Machine(RuleBasedStateMachine):
    connection: Any = None
    """A session of the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(self.run)
        self.model = Model()
        self.processes: list[int] = []
        self.past_claims: list[tuple[int, int, str | None]] = []

    def run(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, arguments or None)
        return cursor.fetchall() if cursor.description else []

    def pick(self, data: Any, *states: str, most: int = 1) -> list[Job]:
        """Some jobs in these states, by their places, so that examples shrink."""
        jobs = self.model.within(*states)
        places = st.lists(
            st.integers(0, len(jobs) - 1), min_size=1, max_size=min(most, len(jobs)), unique=True
        )
        return [jobs[place] for place in data.draw(places, "places")]

    def forget_claims(self, jobs: list[Job]) -> None:
        self.past_claims += [(job.id, job.claim, job.key) for job in jobs if job.claim]

    @initialize(
        stock=st.lists(
            st.tuples(QUEUES, st.sampled_from([0, 0, 5]), st.integers(1, 3)), max_size=6
        ),
        alike=st.integers(3, 8),
        to=st.integers(1, 3),
    )
    def begin(self, stock: list[tuple[str, int, int]], alike: int, to: int) -> None:
        """Two workers, and lines at two keys: at one with limits from several releases."""
        self.run("select steady_queue_ensure_lanes('{a,a,b,b}', '{0,5,0,5}')")
        self.model.lanes = {(queue, priority) for queue in "ab" for priority in (0, 5)}
        self.processes = [self.queue.process(), self.queue.process()]
        for queue, priority, to in stock:
            self._enqueue(queue, priority, "k", to, "block", 1, False)
            self._claim(0, ["*"], 1)
        self._enqueue("a", 0, "l", to, "block", alike, False)
        self._claim(0, ["*"], 20)

    # The flow.

    @rule(
        queue=QUEUES,
        priority=st.sampled_from([0, 0, 5]),
        key=st.sampled_from(["k", "k", "k", "l", None]),
        to=st.integers(1, 3),
        conflict=st.sampled_from(["block", "block", "block", "discard"]),
        count=st.integers(1, 4),
        later=st.sampled_from([False] * 5 + [True]),
    )
    def enqueue(
        self,
        queue: str,
        priority: int,
        key: str | None,
        to: int,
        conflict: str,
        count: int,
        later: bool,
    ) -> None:
        self._enqueue(queue, priority, key, to, conflict, count, later)

    def _enqueue(
        self,
        queue: str,
        priority: int,
        key: str | None,
        to: int,
        conflict: str,
        count: int,
        later: bool,
    ) -> None:
        asked = {"count": count, "queue": queue, "priority": priority}
        asked["after"] = "1 hour" if later else "-1 hour"
        limit = [key, to, "1 hour", conflict] if key else [None] * 4
        asked |= zip(["key", "to", "for", "conflict"], limit, strict=True)
        rows = self.connection.execute(ENQUEUE, asked).fetchall()
        jobs = [Job(id, queue, priority, key, to, conflict) for (id,) in rows]
        self.model.jobs |= {job.id: job for job in jobs}
        if later:
            for job in jobs:
                job.state = "scheduled"
        else:
            self.model.make_ready(jobs)

    @some("ready")
    @rule(place=st.integers(0, 1), queues=LISTS, count=st.sampled_from([1, 2, 5, 20]))
    def claim(self, place: int, queues: list[str], count: int) -> None:
        self._claim(place, queues, count)

    def _claim(self, place: int, queues: list[str], count: int) -> None:
        process = self.processes[place]
        expected = self.model.claim(process, queues, count)
        claimed = self.queue.claim(process, *queues, count=count)
        for job, claim in claimed.items():
            self.model.jobs[job].claim = claim
        assert list(claimed) == expected

    @some("running")
    @rule(
        data=st.data(),
        how=st.sampled_from(["successful", "successful", "failed", "discarded", "scheduled"]),
        keep=st.booleans(),
    )
    def finish(self, data: Any, how: str, keep: bool) -> None:
        # One at a time when it is for another attempt: its moment decides about its turn.
        jobs = self.pick(data, "running", most=1 if how == "scheduled" else 3)
        self.forget_claims(jobs)
        error = json.dumps(ERRORS[how]) if ERRORS[how] else None
        refused = self.queue.finish(
            {job.id: job.claim for job in jobs},
            error,
            p_limit_keys=list({job.key for job in jobs if job.key}) or None,
            p_keep=keep,
        )
        assert refused == {}
        for job in jobs:
            self.model.finish(job, how, keep)
        self.model.hand_over({job.key for job in jobs if job.key})

    @some("running")
    @rule(
        data=st.data(),
        place=st.integers(0, 1),
        queues=LISTS,
        count=st.sampled_from([1, 2, 5, 20]),
        followers=st.sampled_from([0, 1, 2, 20]),
    )
    def finish_and_claim(
        self, data: Any, place: int, queues: list[str], count: int, followers: int
    ) -> None:
        jobs = self.pick(data, "running", most=3)
        self._finish_and_claim(jobs, place, queues, count, followers)

    @precondition(lambda self: any(job.key for job in self.model.within("running")))
    @rule(data=st.data(), place=st.integers(0, 1), followers=st.sampled_from([1, 2, 20]))
    def let_the_next_follow(self, data: Any, place: int, followers: int) -> None:
        """As a worker does that has nothing else to do."""
        slots = self.model.slots()
        slot = slots[data.draw(st.integers(0, len(slots) - 1), "slot")]
        jobs = [self.model.jobs[id] for id in slot]
        self._finish_and_claim(jobs, place, ["*"], 20, followers)

    def _finish_and_claim(
        self, jobs: list[Job], place: int, queues: list[str], count: int, followers: int
    ) -> None:
        self.forget_claims(jobs)
        process, keys = self.processes[place], {job.key for job in jobs if job.key}
        refused, claimed = self.queue.finish_and_claim(
            {job.id: job.claim for job in jobs},
            process,
            *queues,
            count=count,
            followers=followers,
            keys=sorted(keys),
        )
        assert refused == {}
        for job in jobs:
            self.model.finish(job, "successful", keep=True)
        self.model.hand_over(keys)
        expected = self.model.claim(process, queues, count)
        expected += self.model.follow(expected, keys, queues, followers, count - len(expected))
        assert list(claimed) == expected
        for id, claim in claimed.items():
            self.model.jobs[id].claim = claim

    @precondition(lambda self: self.past_claims)
    @rule(data=st.data(), release=st.booleans())
    def use_a_stale_claim(self, data: Any, release: bool) -> None:
        places = st.integers(0, len(self.past_claims) - 1)
        job, claim, key = self.past_claims[data.draw(places, "place")]
        if release:
            assert self.run("select steady_queue_release_jobs(%s, %s)", [job], [claim]) == [(job,)]
            return
        keys = [key] if key else None
        assert self.queue.finish({job: claim}, p_limit_keys=keys) == {job: "stale"}
        self.model.hand_over(set(keys or []))

    @some("running")
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        jobs = self.pick(data, "running", most=3)
        self.forget_claims(jobs)
        ids, claims = [job.id for job in jobs], [job.claim for job in jobs]
        assert self.run("select steady_queue_release_jobs(%s, %s)", ids, claims) == []
        self.model.release(jobs)

    @some("running")
    @rule(data=st.data(), place=st.integers(0, 1))
    def disown(self, data: Any, place: int) -> None:
        process = self.processes[place]
        held = [job for job in self.model.within("running") if job.process == process]
        known = [job for job in held if data.draw(st.booleans(), "known")]
        jobs = [job for job in held if job not in known]
        self.forget_claims(jobs)
        disown = "select steady_queue_disown_jobs(%s, %s::bigint[])"
        assert self.run(disown, process, [job.id for job in known]) == [(len(jobs),)]
        self.model.release(jobs)

    @some("running")
    @rule(
        data=st.data(),
        place=st.integers(0, 1),
        started=st.sampled_from(["none", "some", "one", "unknown"]),
    )
    def recover(self, data: Any, place: int, started: str) -> None:
        process = self.processes[place]
        lost = [job for job in self.model.within("running") if job.process == process]
        self.forget_claims(lost)
        most = {"none": 0, "one": 1, "some": len(lost), "unknown": 0}[started]
        ids = None if started == "unknown" else [job.id for job in lost[:most]]
        [(count,)] = self.run(
            "select steady_queue_recover_jobs(%s, %s::bigint[], 'E', 'm', %s)",
            process,
            ids,
            MAX_LOST_STARTS,
        )
        assert count == len(lost)
        self.model.recover(process, ids)
        self.processes[place] = self.queue.process()

    @some("scheduled")
    @rule(count=st.integers(1, 5))
    def dispatch(self, count: int) -> None:
        [(moved, _)] = self.run("select * from steady_queue_dispatch_jobs(%s)", count)
        assert moved == self.model.dispatch(count)

    @rule()
    def maintain_limits(self) -> None:
        self.run("select steady_queue_maintain_limits()")
        self.model.maintain()

    # What a person does.

    @some(*WAITING, "running")
    @rule(data=st.data())
    def discard(self, data: Any) -> None:
        jobs = self.pick(data, *WAITING, "running", most=3)
        ids = [job.id for job in jobs]
        [(count,)] = self.run("select steady_queue_discard_jobs(%s)", ids)
        assert count == self.model.discard(jobs)

    @some(*ENDED)
    @rule(data=st.data())
    def retry(self, data: Any) -> None:
        jobs = self.pick(data, *ENDED, most=3)
        ids = [job.id for job in jobs]
        [(count,)] = self.run("select steady_queue_retry_jobs(%s)", ids)
        assert count == self.model.retry(jobs)

    @rule(queue=QUEUES)
    def pause_or_resume(self, queue: str) -> None:
        if queue in self.model.paused:
            assert self.run("select steady_queue_resume_queue(%s)", queue) == [(True,)]
            self.model.paused.remove(queue)
        else:
            assert self.run("select steady_queue_pause_queue(%s)", queue) == [(True,)]
            self.model.paused.add(queue)
        waiting = self.model.within("blocked")
        self.model.unattended |= {job.key for job in waiting if job.key and job.queue == queue}

    @some(*WAITING, "running")
    @rule(data=st.data())
    def delete_by_hand(self, data: Any) -> None:
        [job] = self.pick(data, *WAITING, "running")
        self.forget_claims([job])
        self.run(f"delete from steady_queue_{job.state} where job = %s", job.id)
        self.run("delete from steady_queue_jobs where id = %s", job.id)
        del self.model.jobs[job.id]
        if job.key:
            self.model.unattended.add(job.key)

    # Time.

    @some("scheduled")
    @rule(data=st.data())
    def become_due(self, data: Any) -> None:
        [job] = self.pick(data, "scheduled")
        self.run(
            "update steady_queue_scheduled set run_after = clock_timestamp() where job = %s", job.id
        )
        job.due = self.model.next()

    @precondition(lambda self: any(job.hold == LIVE for job in self.model.jobs.values()))
    @rule(data=st.data())
    def outlast_its_duration(self, data: Any) -> None:
        [job] = self.pick(data, "running", "ready")
        if job.hold == LIVE:
            self.run(
                f"update steady_queue_{job.state} set holds_until = clock_timestamp() where job = %s",
                job.id,
            )
            job.hold = PAST
            self.model.unattended.add(job.key or "")

    @invariant()
    def as_the_model_says(self) -> None:
        rows = {job: tuple(columns) for job, *columns in self.run(ROWS)}
        assert rows == self.model.rows()
        order = self.run("select job from steady_queue_ready order by position")
        ready = sorted(self.model.within("ready"), key=lambda job: job.position)
        assert [job for (job,) in order] == [job.id for job in ready]
        assert self.queue.slots() == self.model.slots()

    @invariant()
    def nothing_is_violated(self) -> None:
        # As if all had been blocked for long, and maintenance were due at any moment.
        self.run("update steady_queue_blocked set blocked_at = blocked_at - interval '1 hour'")
        found = self.run(
            "select invariant, subject, found "
            "from steady_queue_check('1 hour', interval '-2 seconds', true)"
        )
        left = {("a free slot is handed over", key) for key in self.model.unattended}
        # A slow machine may leave a due job to its next step for long.
        assert [
            row for row in found if row[0] != "a due job is dispatched" and row[:2] not in left
        ] == []

    def drain(self) -> None:
        """Nothing is paused, everything is due, and whatever runs succeeds."""
        self.run("delete from steady_queue_pauses")
        self.run("update steady_queue_scheduled set run_after = clock_timestamp()")
        self.run("select steady_queue_dispatch_jobs(1000)")
        running = dict(self.run("select job, claim from steady_queue_running"))
        going = True
        while going:
            assert self.queue.finish(running, p_limit_keys=["k", "l"]) == {}
            self.run("select steady_queue_maintain_limits()")
            running = self.queue.claim(self.processes[0], count=1000)
            going = bool(running)
        states = self.run("select distinct state from steady_queue_all_jobs")
        assert {state for (state,) in states} <= set(ENDED)

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.connection.rollback()


@pytest.mark.slow
def test_any_order_of_calls_leaves_the_tables_as_the_model_says(db):
    Machine.connection = connect()
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=150,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                database=None,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Machine.connection.close()
