"""Marks are moved often; the more seldom, the more old versions of lanes have piled up."""

from types import SimpleNamespace

import pytest

from steady_queue import queries
from steady_queue.processes import marks as marks_module
from steady_queue.processes.marks import FILLS_A_PAGE, MOVE_AFTER, MOVE_AGAIN, PAGE, Marks

JOB = SimpleNamespace(queue="mail", priority=3)


@pytest.fixture
def moves(monkeypatch):
    """The lanes of each move. ``fills`` is what the next ones say."""
    moves = SimpleNamespace(lanes=[], fills=False)

    def move_marks(connection, lanes):
        moves.lanes.append(set(lanes))
        return moves.fills

    monkeypatch.setattr(queries, "move_marks", move_marks)
    return moves


@pytest.fixture
def marks(monkeypatch, clock, moves):
    monkeypatch.setattr(marks_module, "time", clock)
    return Marks(SimpleNamespace(connection=lambda: None))


@pytest.fixture
def jobs_until_moved(marks, moves, clock):
    def jobs_until_moved():
        before, jobs = len(moves.lanes), 0
        clock.now += MOVE_AGAIN
        while len(moves.lanes) == before:
            marks.move_when_due([JOB] * PAGE)
            jobs += PAGE
        return jobs

    return jobs_until_moved


def test_they_are_moved_after_so_many_jobs_in_the_lanes_claimed_from(jobs_until_moved, moves):
    assert jobs_until_moved() == jobs_until_moved() == MOVE_AFTER
    assert moves.lanes == [{("mail", 3)}] * 2


def test_they_are_not_moved_again_at_once(marks, moves, clock):
    marks.move_when_due([JOB] * MOVE_AFTER)
    marks.move_when_due([JOB] * MOVE_AFTER)
    assert len(moves.lanes) == 1
    clock.now += MOVE_AGAIN
    marks.move_when_due([])
    assert len(moves.lanes) == 2


def test_each_page_that_they_fill_makes_them_more_seldom(jobs_until_moved, moves):
    moves.fills = True
    waits = [jobs_until_moved() for _ in range(4)]
    moves.fills = False
    waits += [jobs_until_moved() for _ in range(2)]
    assert waits == [MOVE_AFTER + PAGE * pages for pages in (0, 1, 2, 3, 4, 4)]


def test_they_are_as_often_as_at_first_when_a_page_has_not_filled_any_more(jobs_until_moved, moves):
    moves.fills = True
    jobs_until_moved()
    moves.fills = False
    waits = [jobs_until_moved() for _ in range(FILLS_A_PAGE + 2)]
    assert waits == [MOVE_AFTER + PAGE] * (FILLS_A_PAGE + 1) + [MOVE_AFTER]


def test_a_move_that_failed_is_tried_with_the_same_lanes(marks, moves, clock, monkeypatch):
    def fail(connection, lanes):
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(queries, "move_marks", fail)
        with pytest.raises(ConnectionError):
            marks.move_when_due([JOB] * MOVE_AFTER)
    clock.now += MOVE_AGAIN
    marks.move_when_due([SimpleNamespace(queue="other", priority=0)] * MOVE_AFTER)
    assert moves.lanes == [{("mail", 3), ("other", 0)}]
