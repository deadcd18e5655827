"""Of many that wait for a queue one comes: the first in line, and the others if it does not."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from steady_queue import line, queries
from steady_queue.line import DOUBT_AFTER, Line
from steady_queue.listener import Listener
from tests.conftest import connect

TOLD = {"queue:default"}


@pytest.fixture
def waiting(lanes, transactional_db):
    """Makes listeners of workers of some queues, that wait in the order in which they are made."""
    lanes("default", "mail")
    made = []

    def make(*names):
        made.append(Listener(queries.topics_to_wait_for(names), names))
        assert made[-1].arm()
        return made[-1]

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def enqueue(other):
    def run(name="default"):
        other(autocommit=True).execute("select steady_queue_enqueue('t', queue => %s)", (name,))

    return run


@pytest.fixture
def doubting(monkeypatch):
    """Who is not the first looks at once, too."""
    monkeypatch.setattr(line, "DOUBT_AFTER", 0.0)


def told(listener):
    """What it has heard of by now, and is to look for."""
    listener.connection.execute("select 1")
    return listener.drain()


def look(listener, found):
    heard = told(listener)
    listener.looked(found)
    listener.stand_in_line()
    return heard


def cut(listener):
    """Its connection, without a word; the server has noticed when this returns."""
    pid = listener.connection.info.backend_pid
    with connect(autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(%s, 60000)", (pid,))


@pytest.mark.parametrize("names", [["*"], ["default"], ["default", "mail"], ["mail", "*"]])
def test_the_one_that_waits_longest_comes(waiting, enqueue, names):
    listeners = [waiting(*names) for _ in range(3)]
    enqueue()
    assert [told(listener) for listener in listeners] == [TOLD, set(), set()]


def test_the_others_look_later_each_in_its_time(waiting, enqueue):
    first, second, third = (waiting("*") for _ in range(3))
    enqueue()
    assert [told(listener) for listener in (first, second, third)] == [TOLD, set(), set()]
    assert first.until_doubt() == float("inf")
    assert 0 < second.until_doubt() <= DOUBT_AFTER < third.until_doubt() <= 4 * DOUBT_AFTER


def test_who_has_looked_meanwhile_does_not_look_again(waiting, enqueue):
    _, second = waiting("*"), waiting("*")
    enqueue()
    told(second)
    second.looked(found=False)
    assert second.until_doubt() == float("inf")


def test_each_line_has_its_first(waiting, enqueue):
    listeners = [waiting("default"), waiting("mail"), waiting("*"), waiting("mail", "default")]
    enqueue()
    assert [told(listener) for listener in listeners] == [TOLD, set(), TOLD, set()]


def test_who_waits_for_a_prefix_comes_to_its_queues_and_stands_in_nobodys_way(waiting, enqueue):
    prefix, any_queue = waiting("mail*"), waiting("*")
    enqueue("mail_new")
    assert "queue:mail_new" in told(prefix)
    enqueue("default")
    assert told(prefix) == set()
    assert told(any_queue) >= TOLD


def test_who_steps_aside_leaves_what_comes_to_the_next(waiting, enqueue):
    first, second = waiting("*"), waiting("*")
    first.step_aside()
    enqueue()
    assert [told(first), told(second)] == [set(), TOLD]


def test_who_steps_aside_leaves_what_was_announced_to_the_next_too(waiting, enqueue):
    first, second, third = (waiting("*") for _ in range(3))
    enqueue()
    assert told(second) == set()
    first.step_aside()
    assert [told(second), told(third)] == [{"queue:*"}, set()]


def test_who_steps_aside_without_having_heard_anything_wakes_nobody(waiting):
    first, second = waiting("*"), waiting("*")
    first.step_aside()
    assert told(second) == set()


def test_who_may_not_leave_gives_up_its_session(waiting, enqueue, monkeypatch):
    def leave_lines(*arguments):
        raise psycopg.errors.InsufficientPrivilege("no")

    first, second = waiting("*"), waiting("*")
    with monkeypatch.context() as patch:
        patch.setattr(queries, "leave_lines", leave_lines)
        first.step_aside()
    assert not first.armed
    assert first.arm()
    enqueue()
    assert [told(first), told(second)] == [set(), TOLD]


def test_who_stood_aside_comes_back_at_the_end(waiting, enqueue):
    first, second = waiting("*"), waiting("*")
    first.step_aside()
    first.stand_in_line()
    enqueue()
    assert [told(first), told(second)] == [set(), TOLD]


def test_who_stops_to_wait_is_in_nobodys_way(waiting, enqueue):
    first, second = waiting("*"), waiting("*")
    first.disarm()
    enqueue()
    assert [told(first), told(second)] == [set(), TOLD]


def test_a_first_that_vanished_is_missed_once_and_then_no_more(waiting, enqueue, doubting):
    first, second = waiting("*"), waiting("*")
    cut(first)
    enqueue()
    assert look(second, found=True) == {"queue:*"}
    assert second.until_doubt() == float("inf")
    enqueue()
    assert told(second) == TOLD


def test_one_that_connects_anew_says_that_its_old_place_is_free(waiting, enqueue):
    first, second = waiting("*"), waiting("*")
    first.close()
    assert first.arm()
    enqueue()
    assert [told(first), told(second)] == [set(), TOLD]


def test_one_that_is_declared_dead_is_waited_for_by_nobody(waiting, enqueue, other):
    first, second, third = (waiting("*") for _ in range(3))
    session = other(autocommit=True)
    process = queries.register_process(session, "worker", "w", None, "here", 1)
    cut(first)
    queries.recover_jobs(session, process, [], "Error", "killed", 3)
    assert look(second, found=False) == {"queue:*"}
    assert look(third, found=False) == {"queue:*"}
    enqueue()
    assert [told(second), told(third)] == [TOLD, set()]


def test_a_dispatcher_that_ends_stirs_nobody(waiting, other):
    first, session = waiting("*"), other(autocommit=True)
    process = queries.register_process(session, "dispatcher", "d", None, "here", 1)
    queries.recover_jobs(session, process, [], "Error", "killed", 3)
    assert told(first) == set()


def test_a_first_that_did_not_come_twice_is_passed_over_for_a_while(
    waiting, enqueue, doubting, monkeypatch
):
    _, second = waiting("*"), waiting("*")
    for _ in range(2):
        enqueue()
        assert look(second, found=True) == {"queue:*"}
    enqueue()
    assert look(second, found=True) == TOLD
    monkeypatch.setattr(line, "DISTRUST_FOR", 0.0)
    second.lines["queue:*"]._distrust_until = 0.0
    enqueue()
    look(second, found=False)
    monkeypatch.setattr(line, "DOUBT_AFTER", 1.0)
    enqueue()
    assert told(second) == set()


def test_looks_in_doubt_that_find_nothing_grow_rarer_until_one_finds_something(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(line, "time", type("", (), {"monotonic": staticmethod(lambda: now[0])}))
    one, waits = Line("queue:*"), []
    one.join(9, [5, 7])
    for found in (False, False, False, False, True, False):
        assert not one.comes()
        waits.append(one.doubt_at - now[0])
        now[0] = one.doubt_at
        one.looked(found)
    assert waits == [wait * DOUBT_AFTER * 4 for wait in (1, 2, 4, 4, 4, 1)]


@pytest.mark.parametrize(("patience", "wait"), [(0.5, 40.0), (1.0, 80.0), (1000.0, 200.0)])
def test_behind_many_that_may_all_be_gone_one_doubts_at_random(monkeypatch, patience, wait):
    monkeypatch.setattr(line.random, "expovariate", lambda _: patience)
    monkeypatch.setattr(line, "time", type("", (), {"monotonic": staticmethod(lambda: 0.0)}))
    one = Line("queue:*")
    one.join(21, range(20))
    one.comes()
    assert one.doubt_at == wait


def distrusting(monkeypatch):
    """A line's place 9, behind 5 which did not come twice; and its clock."""
    now = [0.0]
    monkeypatch.setattr(line, "time", type("", (), {"monotonic": staticmethod(lambda: now[0])}))
    one = Line("queue:*")
    one.join(9, [5])
    for _ in range(2):
        assert not one.comes()
        now[0] = one.doubt_at
        one.looked(found=True)
    one.know([5])
    assert one.comes()
    return one, now


def test_who_passes_one_over_does_not_pass_over_those_that_come_after(monkeypatch):
    one, _ = distrusting(monkeypatch)
    one.leave()
    one.join(12, [5, 10, 11])
    assert not one.comes()


def test_who_finds_something_late_on_another_look_doubts_those_ahead_too(monkeypatch):
    one, now = distrusting(monkeypatch)
    monkeypatch.setattr(line.random, "expovariate", lambda _: 1.0)
    one.join(99, range(10, 30))
    assert not one.comes()
    now[0] += DOUBT_AFTER
    assert now[0] < one.doubt_at
    one.looked(found=True)
    assert one.unsure


def test_an_empty_look_in_doubt_does_not_unsay_that_somebody_may_have_gone(monkeypatch):
    one, now = distrusting(monkeypatch)
    one.join(99, [10])
    one.comes()
    one.unsure = True
    now[0] = one.doubt_at
    one.looked(found=False)
    assert one.unsure


def test_the_doubt_of_one_comes_sooner_as_those_ahead_leave(waiting, enqueue):
    listeners = [waiting("*") for _ in range(4)]
    enqueue()
    told(listeners[3])
    for listener in listeners[1:3]:
        listener.step_aside()
    assert told(listeners[3]) == set()
    assert listeners[3].until_doubt() <= DOUBT_AFTER


@pytest.mark.parametrize("question", ["join_lines", "ahead_in_line"])
def test_who_leaves_while_another_asks_is_not_taken_for_one_that_waits(
    waiting, enqueue, monkeypatch, question
):
    first, second = waiting("*"), waiting("*")
    ask = getattr(queries, question)

    def slow(connection, *arguments):
        answer = ask(connection, *arguments)
        first.step_aside()
        connection.execute("select 1")
        return answer

    if question == "join_lines":
        second.step_aside()
    second.lines["queue:*"].unsure = True
    monkeypatch.setattr(queries, question, slow)
    second.stand_in_line()
    monkeypatch.undo()
    enqueue()
    assert told(second) == TOLD


def test_what_is_heard_with_a_reply_is_not_slept_on(waiting, enqueue):
    first = waiting("*")
    enqueue()
    first.ask(lambda connection: connection.execute("select 1"))
    assert first.until_doubt() == 0
    assert told(first) == TOLD
    assert first.until_doubt() == float("inf")


def test_many_that_join_at_once_agree_on_their_order(other):
    def join(connection):
        return queries.join_lines(connection, ["queue:a", "queue:b"], [])

    connections = [other(autocommit=True) for _ in range(12)]
    with ThreadPoolExecutor(len(connections)) as pool:
        places = [place for joined in pool.map(join, connections) for place in joined]
    for topic in ("queue:a", "queue:b"):
        line_of_topic = sorted((ticket, ahead) for t, ticket, ahead in places if t == topic)
        assert [len(ahead) for _, ahead in line_of_topic] == list(range(12))


def test_a_ticket_ends_with_its_connection(waiting):
    first, second = waiting("*"), waiting("*")
    ticket = second.lines["queue:*"].ticket
    assert len(queries.ahead_in_line(second.connection, "queue:*", ticket)) == 1
    cut(first)
    assert queries.ahead_in_line(second.connection, "queue:*", ticket) == []


def test_whatever_a_stranger_notifies_is_harmless(waiting, enqueue, other):
    first = waiting("*")
    for payload in ("left x", "left 99999999999999999999", "left -1", "left ", "", "queue:"):
        other(autocommit=True).execute("select pg_notify('steady_queue', %s)", (payload,))
    look(first, found=False)
    enqueue()
    assert told(first) == TOLD


def test_without_the_right_to_stand_in_line_a_worker_polls_and_says_so(
    waiting, monkeypatch, caplog
):
    listener = waiting("*")
    listener.close()

    def refuse(*arguments):
        raise psycopg.errors.InsufficientPrivilege("permission denied for sequence")

    monkeypatch.setattr(queries, "join_lines", refuse)
    assert not listener.arm()
    assert listener.connection is None
    assert "polling instead" in caplog.text


def test_who_ends_leaves_its_place(waiting, enqueue):
    first, second = waiting("*"), waiting("*")
    first.leave()
    enqueue()
    assert told(second) == TOLD
