"""Enqueueing: one statement in the caller's transaction, all or nothing, exactly as asked."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.db.models import IntegerChoices, TextChoices
from django.tasks import default_task_backend, task
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

import steady_queue
from steady_queue.arguments import Arguments, SerializationError
from steady_queue.concurrency import limit_key, limits_concurrency
from tests.app.tasks import limited, noop, one_at_a_time, only_one

JOBS = "select count(*) from steady_queue_jobs"


class Names(TextChoices):
    MAIL = "mail"


class Ranks(IntegerChoices):
    HIGH = 5


@limits_concurrency(key=lambda *args: args[0])
@task()
def one_a_user(user):
    pass


@limits_concurrency(key=lambda *args: args[0])
@task()
def another_one_a_user(user):
    pass


@limits_concurrency(key="account", group="billing")
@task()
def charge():
    pass


@limits_concurrency(key="account", group="billing")
@task()
def refund():
    pass


@limits_concurrency(key="k", to=3, duration=timedelta(minutes=10), on_conflict="discard")
@task()
def three_at_a_time():
    pass


@limits_concurrency(key=lambda value: value)
@task()
def keyed(value):
    pass


KEYS = {"long": "x" * 1001, "nul": "a\x00b", "surrogate": "\ud800"}


@limits_concurrency(key=lambda name: KEYS[name])
@task()
def badly_keyed(name):
    pass


def plain():
    pass


@pytest.fixture
def second(transactional_db, monkeypatch):
    """An alias of its own, and so a session of its own, that holds the queue."""
    connections.settings["second"] = dict(connections["default"].settings_dict)
    # The test case knows nothing of this alias and would forbid it to connect by itself.
    connections["second"].connect()
    with monkeypatch.context() as patch:
        patch.setattr(steady_queue, "database", "second")
        yield "second"
    connections["second"].close()
    del connections["second"], connections.settings["second"]


@pytest.fixture
def count(other):
    """How many jobs another session sees."""
    session = other(autocommit=True)
    return lambda: session.execute(JOBS).fetchone()[0]


def several(*priorities):
    return [(noop.using(priority=priority), (priority,), {}) for priority in priorities]


# In the caller's transaction.


def test_without_a_transaction_a_job_is_there_at_once(count):
    noop.enqueue()
    assert count() == 1


def test_a_job_exists_when_the_callers_transaction_commits_and_not_before(count):
    with transaction.atomic():
        noop.enqueue()
        assert count() == 0
    assert count() == 1


def test_a_job_never_exists_when_the_callers_transaction_is_rolled_back(count):
    with transaction.atomic():
        noop.enqueue()
        transaction.set_rollback(True)
    assert count() == 0


def test_a_rolled_back_savepoint_takes_its_jobs_along_and_leaves_the_others(sql):
    kept = noop.enqueue("before")
    with transaction.atomic():
        noop.enqueue("inside")
        transaction.set_rollback(True)
    also_kept = noop.enqueue("after")
    assert sql("select id from steady_queue_jobs order by id") == [
        (int(kept.id),),
        (int(also_kept.id),),
    ]


def test_a_bulk_is_rolled_back_as_a_whole(count):
    with transaction.atomic():
        default_task_backend.enqueue_all(several(1, 2, 3))
        transaction.set_rollback(True)
    assert count() == 0


def test_on_a_second_alias_it_is_the_transaction_of_that_alias_that_counts(second, count):
    with transaction.atomic(using=second):
        noop.enqueue()
        transaction.set_rollback(True, using=second)
    assert count() == 0
    with transaction.atomic(using=second):
        noop.enqueue()
        assert count() == 0
    assert count() == 1


def test_on_a_second_alias_a_rollback_of_the_default_one_changes_nothing(second, count):
    with transaction.atomic(using="default"):
        noop.enqueue()
        transaction.set_rollback(True, using="default")
    assert count() == 1


def test_a_refused_task_leaves_the_callers_transaction_usable(sql):
    with pytest.raises(SerializationError):
        noop.enqueue(object())
    with pytest.raises(InvalidTask):
        default_task_backend.enqueue_all([(noop.using(queue_name="x" * 301), (), {})])
    noop.enqueue()
    assert sql(JOBS) == [(1,)]


# One statement.


@pytest.mark.parametrize(
    "one",
    [noop, limited, only_one, noop.using(run_after=timedelta(hours=1)), noop.using(queue_name="é")],
)
def test_enqueueing_is_one_statement(db, django_assert_num_queries, one):
    with django_assert_num_queries(1):
        one.enqueue("k")


def test_outside_a_transaction_it_is_one_statement_too(transactional_db):
    with CaptureQueriesContext(connection) as captured:
        noop.enqueue()
        default_task_backend.enqueue_all(several(1, 2, 3))
    assert len(captured) == 2


def test_many_jobs_of_every_kind_are_one_statement_with_results_in_order(
    sql, django_assert_num_queries
):
    later = timezone.now() + timedelta(days=1)
    calls = [
        (noop, ("first",), {"a": 1}),
        (limited, ("key",), {}),
        (noop.using(run_after=later, priority=9), (), {}),
        (only_one.using(queue_name="mail"), (), {}),
        (noop.using(queue_name="reports", priority=-9), ("last",), {}),
    ]
    with django_assert_num_queries(1):
        results = default_task_backend.enqueue_all(iter(calls))
    assert [(r.task, tuple(r.args), r.kwargs) for r in results] == calls
    stored = sql(
        "select id::text, task, queue, priority, run_after, limit_to, limit_conflict "
        "from steady_queue_jobs"
    )
    rows = {job: columns for job, *columns in stored}
    assert [rows[result.id] for result in results] == [
        ["tests.app.tasks.noop", "default", 0, None, None, None],
        ["tests.app.tasks.limited", "default", 0, None, 2, "block"],
        ["tests.app.tasks.noop", "default", 9, later, None, None],
        ["tests.app.tasks.only_one", "mail", 0, None, 1, "discard"],
        ["tests.app.tasks.noop", "reports", -9, None, None, None],
    ]


def test_no_calls_are_no_statement(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert default_task_backend.enqueue_all([]) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((noop, (object(),), {}), SerializationError),
        ((keyed, (7,), {}), ValueError),
        ((limited, (), {}), TypeError),
    ],
)
def test_when_one_of_many_is_refused_none_is_stored_and_none_announced(sql, enqueued, bad, error):
    with pytest.raises(error):
        default_task_backend.enqueue_all([*several(1, 2), bad, *several(3)])
    assert sql(JOBS) == [(0,)]
    assert enqueued == []


def test_when_todays_settings_refuse_one_of_many_none_is_stored(sql, settings):
    mail = noop.using(queue_name="mail")
    settings.TASKS = {"default": {"BACKEND": "steady_queue.backend.SteadyQueueBackend"}}
    with pytest.raises(InvalidTask, match="'mail'"):
        default_task_backend.enqueue_all([(noop, (), {}), (mail, (), {})])
    assert sql(JOBS) == [(0,)]


def test_a_bulk_is_announced_in_order_once_all_is_stored(sql):
    heard = []

    def hear(task_result, **kwargs):
        heard.append((task_result.id, sql(JOBS)[0][0]))

    task_enqueued.connect(hear)
    results = default_task_backend.enqueue_all(several(1, 2, 3))
    task_enqueued.disconnect(hear)
    assert heard == [(result.id, 3) for result in results]


# Arguments.


def test_rich_arguments_come_back_as_they_were_given(sql):
    user = User.objects.create(username="ada")
    moment = timezone.now()
    args, kwargs = (user, moment, Decimal("1.50")), {"pair": (1, {2, 3}), "raw": b"\x00"}
    result = noop.enqueue(*args, **kwargs)
    assert (result.args, result.kwargs) == (list(args), kwargs)
    [(text,)] = sql("select arguments::text from steady_queue_jobs")
    assert Arguments.deserialize(text) == (list(args), kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ((1, object()), {}, "args[1]"),
        ((), {"order": [1, {"lines": {"x": float("nan")}}]}, 'kwargs["order"][1]["lines"]["x"]'),
        (("a\x00b",), {}, "args[0]"),
        ((User(username="unsaved"),), {}, "args[0]"),
        (({1: "\ud800"},), {}, "args[0][1]"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_place_and_not_stored(sql, args, kwargs, place):
    with pytest.raises(SerializationError) as raised:
        noop.enqueue(*args, **kwargs)
    assert f"cannot keep {place} exactly" in str(raised.value)
    assert sql(JOBS) == [(0,)]


def test_arguments_over_a_mebibyte_are_refused_with_the_way_out(sql):
    with pytest.raises(SerializationError, match="pass its primary key instead"):
        noop.enqueue("x" * 1_048_576)
    assert sql(JOBS) == [(0,)]


# Priorities.


def test_both_ends_of_the_priorities_are_stored_and_the_higher_is_claimed_first(queue):
    results = default_task_backend.enqueue_all(several(-100, 0, 100))
    assert list(queue.claim(queue.process())) == [int(r.id) for r in reversed(results)]


def test_members_of_enums_are_taken_for_their_values(sql):
    default_task_backend.enqueue_all(
        [(noop.using(queue_name=Names.MAIL, priority=Ranks.HIGH), (), {}), (noop, (), {})]
    )
    assert sql("select queue, priority from steady_queue_jobs order by id") == [
        ("mail", 5),
        ("default", 0),
    ]


@pytest.mark.parametrize("priority", [5.0, True])
def test_a_whole_number_of_another_type_is_taken_for_a_priority(sql, priority):
    noop.using(priority=priority).enqueue()
    assert sql("select priority from steady_queue_jobs") == [(int(priority),)]


@pytest.mark.parametrize("priority", [5.0, True])
def test_priorities_of_several_types_can_be_in_one_bulk(sql, priority):
    default_task_backend.enqueue_all(several(priority, 1))
    assert sql("select priority from steady_queue_jobs order by id") == [(int(priority),), (1,)]


# Times.


def test_a_job_for_later_is_scheduled_at_exactly_that_time(queue, sql):
    moment = timezone.now() + timedelta(days=1, microseconds=1)
    result = noop.using(run_after=moment).enqueue()
    assert queue.state(int(result.id)) == "scheduled"
    assert sql("select run_after from steady_queue_scheduled") == [(moment,)]


def test_a_span_is_counted_from_now(queue, sql):
    result = noop.using(run_after=timedelta(hours=1)).enqueue()
    assert queue.state(int(result.id)) == "scheduled"
    [(span,)] = sql("select run_after - enqueued_at from steady_queue_jobs")
    assert abs(span - timedelta(hours=1)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "past",
    [
        timedelta(0),
        timedelta(days=-1),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ],
)
def test_a_time_in_the_past_is_ready_at_once(queue, past):
    result = noop.using(run_after=past).enqueue()
    assert queue.state(int(result.id)) == "ready"


def test_a_naive_time_is_in_time_zone_where_times_have_no_zones(settings, sql):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    summer, winter = datetime(2100, 7, 1, 12), datetime(2100, 12, 1, 12)
    noop.using(run_after=summer).enqueue()
    noop.using(run_after=winter).enqueue()
    assert sql(
        "select (run_after at time zone 'UTC')::text from steady_queue_scheduled order by job"
    ) == [("2100-07-01 10:00:00",), ("2100-12-01 11:00:00",)]


def test_an_aware_time_is_taken_where_times_have_no_zones(settings, sql):
    settings.USE_TZ = False
    noop.using(run_after=datetime(2100, 7, 1, 12, tzinfo=UTC)).enqueue()
    assert sql("select (run_after at time zone 'UTC')::text from steady_queue_scheduled") == [
        ("2100-07-01 12:00:00",)
    ]


def test_results_have_naive_times_where_times_have_no_zones(settings, db):
    settings.USE_TZ = False
    assert timezone.is_naive(noop.enqueue().enqueued_at)


def test_a_span_is_elapsed_time_where_times_have_no_zones(settings, sql):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    # Whatever the date: at least one of these ends on the other side of a clock change.
    spans = [timedelta(days=days) for days in (90, 180, 270)]
    for span in spans:
        noop.using(run_after=span).enqueue()
    stored = sql("select run_after - enqueued_at from steady_queue_jobs order by id")
    for (found,), span in zip(stored, spans, strict=True):
        assert abs(found - span) < timedelta(minutes=1)


# Queue names.


@pytest.mark.parametrize(
    "name", ["mail", "🚀", 'it\'s "quoted"', "%s; drop table --", "a b\tc\n", "x" * 300, "🚀" * 300]
)
def test_a_queue_may_have_any_name_of_1_to_300_characters(queue, name):
    result = noop.using(queue_name=name).enqueue()
    assert list(queue.claim(queue.process(), name)) == [int(result.id)]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 301,
        "a\x00b",
        7,
        b"mail",
        "\ud800",
    ],
)
def test_other_queue_names_are_refused_with_what_is_expected(name):
    with pytest.raises(InvalidTask, match="expected a queue name of 1 to 300 characters, got"):
        noop.using(queue_name=name)


# Limits.


def test_a_limit_is_stored_with_group_and_key_together(sql):
    limited.enqueue("tenant 7")
    charge.enqueue()
    assert sql("select limit_key from steady_queue_jobs order by id") == [
        ("tests.app.tasks.limited: tenant 7",),
        ("billing: account",),
    ]


def test_a_limit_is_stored_with_its_size_its_duration_and_what_a_conflict_does(sql):
    three_at_a_time.enqueue()
    one_at_a_time.enqueue()
    assert sql("select limit_to, limit_for, limit_conflict from steady_queue_jobs order by id") == [
        (3, timedelta(minutes=10), "discard"),
        (1, timedelta(minutes=3), "block"),
    ]


def test_the_default_duration_is_the_setting(sql, monkeypatch):
    monkeypatch.setattr(steady_queue, "default_concurrency_control_period", timedelta(minutes=42))
    one_at_a_time.enqueue()
    assert sql("select limit_for from steady_queue_jobs") == [(timedelta(minutes=42),)]


def test_tasks_of_the_same_key_do_not_share_a_limit(queue):
    jobs = [one_a_user.enqueue("7"), another_one_a_user.enqueue("7"), one_a_user.enqueue("7")]
    queue.claim(queue.process())
    assert queue.states(*(int(job.id) for job in jobs)) == ["running", "running", "blocked"]


def test_tasks_of_the_same_group_and_key_share_a_limit(queue):
    jobs = [charge.enqueue(), refund.enqueue()]
    queue.claim(queue.process())
    assert queue.states(*(int(job.id) for job in jobs)) == ["running", "blocked"]


def grouped(group, key):
    return limit_key(limits_concurrency(key=key, group=group)(noop), (), {})


parts = st.text(alphabet=": a", min_size=1, max_size=6)


@given(one=st.tuples(parts, parts), other=st.tuples(parts, parts))
@example(one=("a: b", "c"), other=("a", "b: c"))
@example(one=("a:", "b"), other=("a", ": b"))
def test_two_pairs_of_group_and_key_never_look_alike(one, other):
    assert (grouped(*one) == grouped(*other)) == (one == other)


@pytest.mark.parametrize("value", [None, "", 7, b"k", ["k"]])
def test_a_key_that_turns_out_not_to_be_text_is_refused_and_nothing_is_stored(sql, value):
    with pytest.raises(ValueError, match=r"concurrency key of tests\.django\.test_backend\.keyed"):
        keyed.enqueue(value)
    assert sql(JOBS) == [(0,)]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_cannot_be_stored_is_refused_before_the_database_sees_it(
    sql, name, django_assert_num_queries
):
    with django_assert_num_queries(0), pytest.raises(ValueError, match="concurrency key of tests"):
        badly_keyed.enqueue(name)


def test_what_a_key_raises_comes_through_and_nothing_is_stored(sql):
    with pytest.raises(KeyError, match="unheard of"):
        badly_keyed.enqueue("unheard of")
    assert sql(JOBS) == [(0,)]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"key": "k", "to": 0}, ValueError, "to to be a whole number of at least 1, got 0"),
        ({"key": "k", "to": -1}, ValueError, "at least 1, got -1"),
        ({"key": "k", "to": 1.5}, ValueError, "at least 1, got 1.5"),
        ({"key": "k", "to": True}, ValueError, "at least 1, got True"),
        ({"key": "k", "to": 2**31}, ValueError, "to"),
        ({"key": 7}, TypeError, "expected key to be a string or a callable, got 7"),
        ({"key": None}, TypeError, "expected key to be a string or a callable, got None"),
        ({"key": ""}, ValueError, "expected key not to be empty"),
        ({"key": "k", "duration": timedelta(0)}, ValueError, "positive timedelta"),
        ({"key": "k", "duration": timedelta(seconds=-1)}, ValueError, "positive timedelta"),
        (
            {"key": "k", "duration": 60},
            ValueError,
            "positive timedelta of at most 100 years, got 60",
        ),
        ({"key": "k", "group": ""}, ValueError, "expected group to be a non-empty string"),
        ({"key": "k", "group": 7}, ValueError, "expected group to be a non-empty string, got 7"),
        ({"key": "k", "on_conflict": "wait"}, ValueError, "'block' or 'discard', got 'wait'"),
        ({"key": "k", "duration": timedelta.max}, ValueError, "at most 100 years"),
    ],
)
def test_a_limit_that_cannot_work_is_refused_where_it_is_declared(bad, error, message):
    with pytest.raises(error, match=message):
        limits_concurrency(**bad)(noop)


def test_a_limit_inside_the_task_decorator_is_refused_with_the_right_order():
    with pytest.raises(TypeError, match=r"put it above @task\(\)"):
        task()(limits_concurrency(key="k")(plain))
