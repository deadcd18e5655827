"""Each point of a job's life, failed in each way: what was promised comes about all the same."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from itertools import count, pairwise

import pytest
from django.core.management import call_command
from django.db import connection
from django.tasks import default_task_backend

from steady_queue import crash_points, recurring_task
from steady_queue.crash_points import EXIT_STATUS, POINTS
from tests.app.tasks import leave_a_thread, noop, persist, persist_alone, persist_nap
from tests.conftest import connect
from tests.processes.conftest import ROOT, Node, Watch, say_changes

pytestmark = [pytest.mark.processes, pytest.mark.slow]

NUMBERS = count(1)

FAST = {
    "TEST_HEARTBEAT": "0.2",
    "TEST_THRESHOLD": "0.8",
    "TEST_STEADY_AFTER": "0",
    "TEST_LOG_LEVEL": "CRITICAL",
}

ENQUEUE = [point for point in POINTS if point.startswith("enqueue.")]
SCHEDULE = [point for point in POINTS if point.startswith("schedule.")]
REST = [point for point in POINTS if point not in ENQUEUE + SCHEDULE]

FAILURES = ["exit", "delay", "raise", "cut"]
WITHOUT_REPLY = [point for point in POINTS if point.endswith(".before") or "perform" in point]
OF_THE_SUPERVISOR = ["recover.after", "heartbeat.after"]


@pytest.fixture(scope="module")
def database(django_db_setup, django_db_blocker):
    """One of this module's own, which no test flushes: the nodes live on from test to test."""
    name = connection.settings_dict["NAME"]
    with django_db_blocker.unblock(), connect(dbname="postgres", autocommit=True) as session:
        session.execute("drop database if exists crash_points with (force)")
        session.execute("create database crash_points")
        connection.close()
        connection.settings_dict["NAME"] = "crash_points"
        call_command("migrate", run_syncdb=True, verbosity=0)
        with connect(autocommit=True) as inside:
            say_changes(inside)
        yield
        connection.close()
        connection.settings_dict["NAME"] = name
        session.execute("drop database crash_points with (force)")


@pytest.fixture(scope="module")
def armory(tmp_path_factory):
    return tmp_path_factory.mktemp("points")


class Stage:
    """A node that fails where a test says so, and what is to be seen of it."""

    def __init__(self, armory, point=None):
        self.armory, self.point = armory, point
        session = connect(autocommit=True)
        session.execute("listen changed")
        self.watch = Watch(session)
        self.node = self.start()

    def start(self):
        env = {**FAST, "STEADY_QUEUE_CRASH_POINTS": str(self.armory)}
        node = Node(self.watch, (), {"workers": [{"threads": 2, "polling_seconds": 3600}]}, env)
        self.watch.until(lambda: self.waiting() >= 3, "an idle node")
        return node

    def waiting(self):
        return self.watch.value(
            "select count(distinct pid) from pg_locks where locktype = 'advisory' and granted "
            "and mode = 'ShareLock' and database = "
            "(select oid from pg_database where datname = current_database())"
        )

    def arm(self, action):
        file = self.armory / "new"
        file.write_text(action)
        file.rename(self.armory / self.point)

    def is_armed(self):
        return (self.armory / self.point).exists()

    def until_fired(self):
        self.watch.until(lambda: not self.is_armed(), f"reaching {self.point}")

    def words(self, count):
        return [f"{self.point} {next(NUMBERS)}" for _ in range(count)]

    def enqueue(self, calls):
        return [int(result.id) for result in default_task_backend.enqueue_all(calls)]

    def until_successful(self, jobs):
        def state_of_each():
            return sorted(
                self.watch.rows(
                    "select id, state from steady_queue_all_jobs where id = any (%s)", jobs
                )
            )

        expected = sorted((job, "successful") for job in jobs)
        self.watch.until(lambda: state_of_each() == expected, f"the success of {jobs}")

    def until_heartbeat(self):
        """Until the supervisor has shown that it goes on."""
        [(process, last)] = self.watch.rows(
            "select id, heartbeat_at from steady_queue_processes where pid = %s",
            self.node.process.pid,
        )
        later = "select heartbeat_at > %s from steady_queue_processes where id = %s"
        self.watch.until(lambda: self.watch.value(later, last, process), "a heartbeat")

    def attempts(self, jobs):
        rows = "select job, attempt from steady_queue_outcomes where job = any (%s)"
        return dict(self.watch.rows(rows, jobs))

    def runs(self, key):
        return self.watch.rows(
            "select run_at, job from steady_queue_recurring_executions where key = %s order by 1",
            key,
        )

    def close(self):
        self.node.kill()
        self.watch.connection.close()


@pytest.fixture(scope="module")
def standing(database, armory):
    one = Stage(armory)
    yield one
    one.close()


@pytest.fixture
def stage(standing, point):
    standing.point = point
    return standing


def action_of(failure, point):
    """A reply is lost where there is one; elsewhere the connections are cut."""
    if failure != "cut":
        return failure
    return "drop" if point in WITHOUT_REPLY else "lose"


def all_of_it(stage):
    """Some jobs of each sort, one of them due in a moment."""
    words = stage.words(5)
    jobs = stage.enqueue([(persist, [word], {}) for word in words[:2]])
    jobs += stage.enqueue([(persist_alone, [word], {}) for word in words[2:4]])
    later = persist.using(run_after=timedelta(milliseconds=300))
    return [*jobs, *stage.enqueue([(later, words[4:], {})])], words


def lose_a_worker(stage):
    [word] = stage.words(1)
    jobs = stage.enqueue([(persist_nap, [0.3, word], {})])
    stage.watch.hear(f"{word} begins")
    for pid in stage.node.worker_pids():
        os.kill(pid, signal.SIGKILL)
    return jobs


def claim_too_much(stage):
    """Short jobs let a worker claim ahead, unless the machine was slow; then the threads are busy
    with something long."""
    jobs = []
    while stage.is_armed():
        jobs += stage.enqueue([(noop, [], {})] * 200)
        stage.until_successful(jobs)
        jobs += stage.enqueue([(persist_nap, [0.6], {})] * 2 + [(noop, [], {})] * 10)
        stage.until_successful(jobs)
    return jobs


def cut_the_listeners(stage):
    stage.watch.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'select%%' "
        "and application_name = 'steady_queue' and datname = current_database()"
    )
    return []


TROUBLE = {
    "recover.after": lose_a_worker,
    "release.after": claim_too_much,
    "arm.after": cut_the_listeners,
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("point", REST)
def test_every_job_ends_as_promised_whatever_fails_where(stage, failure):
    stage.arm(action_of(failure, stage.point))
    more = TROUBLE.get(stage.point, lambda stage: [])(stage)
    jobs, words = all_of_it(stage)
    stage.until_fired()
    if failure == "exit" and stage.point in OF_THE_SUPERVISOR:
        assert stage.node.wait() == EXIT_STATUS
        stage.node = stage.start()
    # One row of each and no other: each is in one state.
    stage.until_successful(jobs + more)
    # What an attempt has said, it may say again in the next, and once more if its process died.
    deaths = 1 if failure in ("exit", "raise") else 0
    attempts = stage.attempts(jobs)
    for word, job in zip(words, jobs, strict=True):
        assert 1 <= stage.watch.heard().count(word) <= attempts[job] + deaths
    if failure == "delay":
        assert set(attempts.values()) == {1}
    stage.until_heartbeat()


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("point", SCHEDULE)
def test_every_run_of_a_schedule_is_enqueued_once_whatever_fails_where(stage, failure):
    [key] = stage.words(1)
    recurring_task.schedule(noop, "* * * * * * *", key, missed="all")
    stage.watch.until(lambda: len(stage.runs(key)) >= 1, "a run")
    before = len(stage.runs(key))
    stage.arm(action_of(failure, stage.point))
    stage.until_fired()
    stage.watch.until(lambda: len(stage.runs(key)) >= before + 2, "two more runs")
    recurring_task.unschedule(key)
    runs = stage.runs(key)
    assert {(b - a).total_seconds() for (a, _), (b, _) in pairwise(runs)} == {1.0}
    jobs = [job for _, job in runs]
    assert len(set(jobs)) == len(jobs)
    stage.until_successful(jobs)
    assert stage.node.process.poll() is None


PRODUCER = """
import sys, django
django.setup()
from django.db import transaction
from tests.app.tasks import noop, say
for word in sys.argv[1:]:
    try:
        with transaction.atomic():
            say(word)
            noop.enqueue(word)
        print(word, flush=True)
    except Exception as error:
        print(type(error), file=sys.stderr)
"""


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("point", ENQUEUE)
def test_a_job_is_there_exactly_with_its_transaction_whatever_fails_where(
    database, armory, point, failure
):
    (armory / point).write_text(action_of(failure, point))
    words = [f"{point} {failure} {number}" for number in range(3)]
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE_NAME": connection.settings_dict["NAME"],
        "STEADY_QUEUE_CRASH_POINTS": str(armory),
    }
    producer = subprocess.run(
        [sys.executable, "-c", PRODUCER, *words],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert not (armory / point).exists()
    assert producer.returncode == (EXIT_STATUS if failure == "exit" else 0)
    said = producer.stdout.splitlines()
    assert said == {"exit": [], "delay": words}.get(failure, words[1:])
    with connect() as session:
        like = f"{point} {failure} %"
        enqueued = session.execute(
            "select arguments->'args'->>0 from steady_queue_jobs "
            "where arguments->'args'->>0 like %s order by id",
            [like],
        ).fetchall()
        done = session.execute("select word from heard where word like %s order by id", [like])
        assert enqueued == done.fetchall() == [(word,) for word in said]


def test_an_unforeseen_error_ends_a_worker_though_a_task_has_left_a_thread(database, armory):
    stage = Stage(armory, "claim.after")
    try:
        stage.until_successful(stage.enqueue([(leave_a_thread, ["left"], {})]))
        stage.arm("raise")
        stage.until_successful(stage.enqueue([(persist, ["after the thread"], {})]))
        stage.until_fired()
    finally:
        stage.close()


def test_a_point_that_nobody_has_armed_does_nothing():
    assert crash_points.reach("claim.before") is None
    assert crash_points.reach is crash_points._reach_nothing
