"""Waking up: who is told, who is not, and the races that a sleeping worker must not lose."""

import pytest

from steady_queue import queries
from tests.conftest import Queue


def told(connection):
    """The topics that reached a LISTEN connection."""
    connection.execute("select 1")
    return sorted(notify.payload for notify in connection.notifies(timeout=0))


@pytest.fixture
def listening(other, lanes):
    lanes("default", "mail")

    def make(*topics):
        connection = other(autocommit=True)
        connection.execute("listen steady_queue")
        queries.start_waiting(connection, list(topics))
        return connection

    return make


def enqueue(connection, name="default"):
    connection.execute("select steady_queue_enqueue('t', queue => %s)", (name,))


def test_nobody_waits_nobody_is_told(other, lanes):
    lanes("default")
    listener, producer = other(autocommit=True), other(autocommit=True)
    listener.execute("listen steady_queue")
    enqueue(producer)
    assert told(listener) == []


def test_who_waits_for_a_queue_is_told_at_commit(other, listening):
    listener, producer = listening("queue:default"), other()
    enqueue(producer)
    assert told(listener) == []
    producer.commit()
    assert told(listener) == ["queue:default"]


def test_a_rolled_back_producer_tells_nobody(other, listening):
    listener, producer = listening("queue:default"), other()
    enqueue(producer)
    producer.rollback()
    assert told(listener) == []


def test_who_waits_for_another_queue_is_not_told(other, listening):
    listener = listening("queue:mail")
    enqueue(other(autocommit=True))
    assert told(listener) == []


def test_who_waits_for_any_queue_is_told_of_one_never_seen(other, listening):
    listener = listening("queue:*")
    enqueue(other(autocommit=True), "brand new")
    assert "queue:brand new" in told(listener)


def test_many_jobs_in_one_statement_tell_once_a_queue(other, listening):
    listener, producer = listening("queue:*"), other(autocommit=True)
    producer.execute(
        """select count(*) from steady_queue_enqueue_jobs('default', array_fill('t'::text, array[100]),
          array_fill('mail'::text, array[50]) || array_fill('default'::text, array[50]),
          array_fill(0::smallint, array[100]), array_fill('{}'::json, array[100]))"""
    )
    assert told(listener) == ["queue:default", "queue:mail"]


def test_rows_inserted_by_plain_sql_tell_too(other, listening):
    listener, producer = listening("queue:default"), other(autocommit=True)
    enqueue(producer)
    told(listener)
    producer.execute(
        "insert into steady_queue_ready (lane, position, job) "
        "select lane, nextval('steady_queue_positions'), job from steady_queue_ready"
    )
    assert told(listener) == ["queue:default"]


def test_a_job_for_later_tells_the_dispatcher(other, listening):
    dispatcher = listening("scheduled")
    other(autocommit=True).execute(
        "select steady_queue_enqueue('t', run_after => now() + interval '1 hour')"
    )
    assert told(dispatcher) == ["scheduled"]


def test_a_resumed_queue_tells_its_workers(other, listening):
    listener, person = listening("queue:mail"), other(autocommit=True)
    person.execute("select steady_queue_pause_queue('mail')")
    person.execute("select steady_queue_resume_queue('mail')")
    assert told(listener) == ["queue:mail"]


def test_who_stops_waiting_is_not_told(other, listening):
    listener = listening("queue:default")
    queries.stop_waiting(listener, ["queue:default"])
    enqueue(other(autocommit=True))
    assert told(listener) == []


def test_the_wish_to_be_told_ends_with_the_connection(other, listening):
    listener = listening("queue:default")
    spectator = other(autocommit=True)
    spectator.execute("listen steady_queue")
    pid = listener.info.backend_pid
    listener.close()
    while spectator.execute("select 1 from pg_stat_activity where pid = %s", (pid,)).fetchone():
        pass
    enqueue(other(autocommit=True))
    assert told(spectator) == []


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("name", ["default", "brand new"])
@pytest.mark.parametrize("queues", [["*"], ["default", "brand*"]])
def test_a_producer_that_looked_before_the_worker_waited_keeps_it_awake(
    other, listening, level, name, queues
):
    producer = other()
    producer.execute(f"set transaction isolation level {level}")
    enqueue(producer, name)
    listener = listening(*queries.topics_to_wait_for(queues))
    worker = other()
    # It was not told, and sees nothing; but it must not sleep.
    assert not queries.is_quiet(worker, queues)
    producer.commit()
    assert told(listener) == []
    # Now the row is seen.
    assert not queries.is_quiet(worker, queues)


def test_a_worker_may_sleep_once_such_a_producer_has_rolled_back(other, listening):
    producer, worker = other(), other()
    enqueue(producer)
    listening("queue:*")
    assert not queries.is_quiet(worker, ["*"])
    producer.rollback()
    assert queries.is_quiet(worker, ["*"])


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_producer_with_an_old_snapshot_sees_that_somebody_waits(other, listening, level):
    producer = other()
    producer.execute(f"set transaction isolation level {level}")
    producer.execute("select count(*) from steady_queue_jobs")
    listener, worker = listening("queue:*"), other()
    assert queries.is_quiet(worker, ["*"])
    enqueue(producer)
    producer.commit()
    assert told(listener) == ["queue:default"]


def test_an_unrelated_writer_left_open_lets_a_worker_sleep(other, listening):
    writer = other()
    writer.execute("insert into heard (word) values ('idle in transaction')")
    listening("queue:*")
    assert queries.is_quiet(other(), ["*"])


def test_a_producer_of_another_queue_lets_a_worker_sleep(other, listening):
    producer = other()
    enqueue(producer, "mail")
    listening("queue:default")
    assert queries.is_quiet(other(), ["default"])


def test_a_row_that_somebody_has_locked_keeps_a_worker_awake(other, listening):
    enqueue(other(autocommit=True))
    person, worker = other(), other()
    person.execute("select * from steady_queue_ready for update")
    listening("queue:*")
    assert not queries.is_quiet(worker, ["*"])


def test_rows_of_a_paused_queue_let_a_worker_sleep(other, listening):
    producer = other(autocommit=True)
    enqueue(producer, "mail")
    producer.execute("select steady_queue_pause_queue('mail')")
    listening("queue:*")
    assert queries.is_quiet(other(), ["*"])


@pytest.fixture
def handed_over(other, listening):
    """Finishes a job whose limit others wait for, and claims so many more; who was told of it."""
    session = other(autocommit=True)
    worker = Queue(lambda statement, *arguments: session.execute(statement, arguments).fetchall())
    process = worker.process()

    def run(count):
        worker.enqueue_limited("k", to=2, count=4)
        running = worker.claim(process)
        listener = listening("queue:default")
        finished = (list(running), list(running.values()), [0.0] * 2, [0.0] * 2, None, ["k"], True)
        arguments = (*finished, process, ["*"], count, 0)
        claimed = worker.run(queries.FINISH_AND_CLAIM_JOBS, *arguments)
        assert len(claimed) == count
        return told(listener)

    return run


def test_a_slot_that_is_claimed_in_the_call_that_hands_it_over_is_not_announced(handed_over):
    assert handed_over(2) == []


def test_a_slot_that_is_handed_over_to_others_is_announced(handed_over):
    assert handed_over(1) == ["queue:default"]
