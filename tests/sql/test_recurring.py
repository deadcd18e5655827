import json

import pytest

from steady_queue import queries


def declare(sql, *keys, owner="shop", at="now()", schedule="* * * * *"):
    tasks = [
        {
            "key": key,
            "task": "t",
            "schedule": schedule,
            "timezone": "UTC",
            "arguments": {"args": [], "kwargs": {}},
            "backend": "default",
            "jitter": "0",
            "missed": "latest",
            "description": "",
        }
        for key in keys
    ]
    statement = f"select steady_queue_sync_recurring_tasks(%s, {at}, %s::json)"
    return sql(statement, owner, json.dumps(tasks)) == [(True,)]


def live(sql):
    return [
        k
        for (k,) in sql(
            "select key from steady_queue_recurring_tasks where removed_at is null order by key"
        )
    ]


def test_one_projects_sync_leaves_anothers_schedules_alone(sql):
    declare(sql, "a1", "a2", owner="a")
    declare(sql, "b1", owner="b")
    assert live(sql) == ["a1", "a2", "b1"]


def test_a_schedule_that_left_the_code_is_removed_and_comes_back_with_it(sql):
    declare(sql, "one", "two")
    declare(sql, "one", at="now() + interval '1 s'")
    assert live(sql) == ["one"]
    declare(sql, "one", "two", at="now() + interval '2 s'")
    assert live(sql) == ["one", "two"]


def test_an_older_declaration_changes_nothing(sql):
    declare(sql, "new", at="now()")
    assert not declare(sql, "old", at="now() - interval '1 s'")
    assert live(sql) == ["new"]


def test_a_schedule_that_was_changed_is_worked_out_anew_and_another_is_not(sql):
    declare(sql, "same")
    declare(sql, "changed", owner="other")
    sql("update steady_queue_recurring_tasks set next_run_at = '2999-01-01'")
    declare(sql, "same", at="now() + interval '1 s'")
    declare(sql, "changed", owner="other", at="now() + interval '1 s'", schedule="0 0 * * *")
    assert sql("select key, next_run_at is null from steady_queue_recurring_tasks order by 1") == [
        ("changed", True),
        ("same", False),
    ]


def test_a_run_is_won_by_one_of_two_schedulers(other, sql):
    declare(sql, "tick")
    sql("update steady_queue_recurring_tasks set next_run_at = '2026-01-01'")
    first, second = other(), other()
    moment = "2026-01-01T00:00:00Z"
    wins = [queries.advance_recurring_task(first, "tick", moment, "2026-01-02T00:00:00Z", moment)]
    first.commit()
    wins.append(
        queries.advance_recurring_task(second, "tick", moment, "2026-01-02T00:00:00Z", moment)
    )
    assert wins == [True, False]


def test_a_run_whose_transaction_failed_is_still_to_be_won(other, sql):
    declare(sql, "tick")
    session = other()
    assert queries.advance_recurring_task(session, "tick", None, "2026-01-02T00:00:00Z", None)
    session.rollback()
    assert queries.advance_recurring_task(session, "tick", None, "2026-01-02T00:00:00Z", None)


def test_a_paused_schedule_is_not_due_and_goes_on_from_now(sql):
    declare(sql, "tick")
    sql("update steady_queue_recurring_tasks set next_run_at = '2020-01-01'")
    assert sql("select steady_queue_pause_recurring_task('tick')") == [(True,)]
    assert sql("select key from steady_queue_due_recurring_tasks()") == []
    assert sql("select steady_queue_resume_recurring_task('tick')") == [(True,)]
    assert sql("select key, next_run_at from steady_queue_due_recurring_tasks()") == [
        ("tick", None)
    ]


def next_run_in(sql):
    [(seconds,)] = sql("select steady_queue_next_recurring_run_in()")
    return seconds


def test_a_scheduler_may_sleep_until_the_first_of_the_next_runs(sql):
    assert next_run_in(sql) is None
    declare(sql, "soon", "later", "resting")
    sql("update steady_queue_recurring_tasks set next_run_at = now() + interval '1 hour'")
    sql("update steady_queue_recurring_tasks set next_run_at = '2999-01-01' where key = 'later'")
    sql("update steady_queue_recurring_tasks set next_run_at = 'infinity' where key = 'resting'")
    assert 3000 < next_run_in(sql) <= 3600


@pytest.mark.parametrize(
    "what",
    [
        "update steady_queue_recurring_tasks set next_run_at = now() - interval '1 s'",
        "update steady_queue_recurring_tasks set next_run_at = null",
        "select steady_queue_run_recurring_task_now('tick')",
    ],
)
def test_a_scheduler_has_to_look_now(sql, what):
    declare(sql, "tick")
    sql("update steady_queue_recurring_tasks set next_run_at = '2999-01-01'")
    assert next_run_in(sql) > 0
    sql(what)
    assert next_run_in(sql) == 0


def test_a_key_that_the_code_declares_cannot_be_taken_at_run_time(sql):
    declare(sql, "tick")
    with pytest.raises(Exception, match="tick is declared in the code of shop"):
        sql("select steady_queue_schedule_task('tick', 't', '* * * * *')")


def test_a_schedule_made_at_run_time_survives_every_sync_until_it_is_removed(sql):
    sql("select steady_queue_schedule_task('nightly', 't', '0 3 * * *', 'Europe/Berlin')")
    declare(sql, "tick")
    assert live(sql) == ["nightly", "tick"]
    assert sql("select steady_queue_unschedule_task('nightly')") == [(True,)]
    assert sql("select steady_queue_unschedule_task('tick')") == [(False,)]
    assert live(sql) == ["tick"]


def test_a_run_asked_for_by_hand_is_taken_once(sql):
    declare(sql, "tick")
    sql("update steady_queue_recurring_tasks set next_run_at = '2999-01-01'")
    assert sql("select steady_queue_run_recurring_task_now('tick')") == [(True,)]
    [(key, run_at)] = sql("select key, run_now_at from steady_queue_due_recurring_tasks()")
    take = "select steady_queue_take_run_now(%s, %s)"
    assert [sql(take, key, run_at), sql(take, key, run_at)] == [[(True,)], [(False,)]]


def test_asking_for_a_run_of_an_unknown_key_says_no(sql):
    assert sql("select steady_queue_run_recurring_task_now('nobody')") == [(False,)]


def test_old_records_and_removed_schedules_are_forgotten(sql):
    declare(sql, "one", "two")
    declare(sql, "one", at="now() + interval '1 s'")
    sql(
        "update steady_queue_recurring_tasks set removed_at = now() - interval '8 days' "
        "where removed_at is not null"
    )
    sql(
        "insert into steady_queue_recurring_executions values "
        "('one', now(), 1, now() - interval '8 days'), ('one', now() - interval '1 s', 2, now())"
    )
    sql("select steady_queue_prune_recurring('7 days')")
    assert sql("select job from steady_queue_recurring_executions") == [(2,)]
    assert sql("select key from steady_queue_recurring_tasks") == [("one",)]
