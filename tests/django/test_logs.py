"""Which job a log record is about."""

import io
import logging
import threading

import pytest
from django.db import connections
from django.tasks import task
from django.tasks.signals import task_started

from steady_queue import logs
from steady_queue.logs import JobFilter
from steady_queue.performer import Performer
from tests.app.tasks import noop
from tests.django.test_performer import job

logger = logging.getLogger(__name__)

FORMAT = "{message}: {job_id} {task} {queue} {attempt} {worker}"


@task()
def tell():
    logger.warning("in the task")


@task()
def tell_its_own():
    logger.warning("said", extra={"task": "its own"})


@pytest.fixture
def lines():
    """What a handler with the filter has written."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter(FORMAT, style="{"))
    handler.addFilter(JobFilter())
    logger.addHandler(handler)
    yield lambda: handler.stream.getvalue().splitlines()
    logger.removeHandler(handler)


@pytest.fixture
def performer():
    connections.close_all()
    return Performer("18")


def test_what_a_task_logs_says_of_which_job_it_is(lines, performer):
    performer.perform(job(tell, attempt=2), 0.0)
    assert lines() == [f"in the task: 7 {tell.module_path} mail 3 18"]


def test_what_is_logged_before_and_after_a_task_is_of_no_job(lines, performer):
    logger.warning("before")
    performer.perform(job(noop), 0.0)
    logger.warning("after")
    assert lines() == [f"{when}: None None None None None" for when in ("before", "after")]


def test_a_record_keeps_what_it_says_itself(lines, performer):
    performer.perform(job(tell_its_own), 0.0)
    logger.warning("said", extra=logs.about(job(noop, attempt=4), "19"))
    assert lines() == ["said: 7 its own mail 1 18", f"said: 7 {noop.module_path} mail 5 19"]


def test_threads_that_perform_at_the_same_time_are_told_apart(lines):
    threads = [
        threading.Thread(target=Performer(str(n)).perform, args=(job(tell, id=n), 0.0))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [f"in the task: {n} {tell.module_path} mail 1 {n}" for n in range(3)]
    assert sorted(lines()) == said


def test_the_librarys_own_records_have_the_attributes_without_a_handler_of_the_projects(
    caplog, performer
):
    def receiver(**kwargs):
        raise SystemExit

    task_started.connect(receiver)
    try:
        performer.perform(job(noop), 0.0)
    finally:
        task_started.disconnect(receiver)
    [record] = [r for r in caplog.records if r.name == "steady_queue"]
    assert record.getMessage().startswith("receiver raised")
    assert [getattr(record, name) for name in logs.NAMES] == [7, noop.module_path, "mail", 1, "18"]
