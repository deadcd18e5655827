"""What workers have done: appended, made fewer rows of, and read, without a count of any history."""

import json

import pytest

from steady_queue.processes.figures import BOUNDS, Counts
from tests.sql.sessions import Session

SUMS = """
    select queue, task, sum(finished)::int, sum(failed)::int, sum(waited), sum(ran)
    from steady_queue_figures group by 1, 2 order by 1, 2
"""
COUNTED = """
    select array_agg(n order by place) from (
      select place, sum(n)::int as n from steady_queue_figures, unnest(waits) with ordinality u(n, place)
      group by place) c
"""


def figures(queue="mail", task="t", finished=1, failed=0, waited=0.0, ran=0.0, waits=(), runs=()):
    return {
        "queue": queue, "task": task, "finished": finished, "failed": failed,
        "waited": waited, "ran": ran, "waits": list(waits), "runs": list(runs),
    }  # fmt: skip


@pytest.fixture
def add(sql):
    """Adds figures, as of some time ago."""

    def run(*added, ago="0 s"):
        [(last,)] = sql("select coalesce(max(id), 0) from steady_queue_figures")
        assert sql("select steady_queue_add_figures(%s::json)", json.dumps(added)) == [(True,)]
        sql(
            "update steady_queue_figures set minute = date_trunc('minute', now()) - %s::interval "
            "where id > %s",
            ago,
            last,
        )

    return run


@pytest.fixture
def compact(sql):
    """Until there is nothing left to do; each call leaves less of it."""

    def run(count=5000):
        for _ in range(100):
            if sql("select steady_queue_compact_figures(%s)", count) == [(0,)]:
                return
        pytest.fail("there is always something left to do")

    return run


def test_both_sides_count_by_the_same_bounds(sql):
    assert sql("select steady_queue_figure_bounds()") == [(list(BOUNDS),)]


def test_what_is_added_stands_in_the_minute_that_it_is(sql):
    sql("select steady_queue_add_figures(%s::json)", json.dumps([figures()]))
    read = "select minute between date_trunc('minute', now()) and clock_timestamp(), date_trunc('minute', minute) = minute"
    assert sql(f"{read} from steady_queue_figures") == [(True, True)]


def test_what_two_workers_add_stands_in_rows_of_their_own(add, sql):
    add(figures(finished=2, failed=1, waited=0.5, ran=1.5))
    add(figures(finished=3), figures(queue="other"))
    assert sql("select count(*) from steady_queue_figures") == [(3,)]
    assert sql(SUMS) == [("mail", "t", 5, 1, 0.5, 1.5), ("other", "t", 1, 0, 0, 0)]


@pytest.mark.parametrize(
    ("ago", "row"),
    [
        ("3 minutes", "date_trunc('minute', now()) - interval '3 minutes'"),
        ("3 h", "date_bin('10 minutes', now() - interval '3 h', '2000-01-01Z')"),
        ("30 h", "date_trunc('hour', now() - interval '30 h')"),
        ("9 days", "timestamptz '-infinity'"),
    ],
)
def test_what_is_past_becomes_one_row_and_the_sums_stay(add, compact, sql, ago, row):
    for count in range(1, 4):
        add(figures(finished=count, failed=1, waits=[count, 1], runs=[1]), ago=ago)
        # Lost starts count neither waits nor runs.
        add(figures(finished=1, failed=1), ago=ago)
    before = sql(SUMS), sql(COUNTED)
    compact()
    assert (sql(SUMS), sql(COUNTED)) == before
    read = f"select minute = {row}, finished, waits::int[], runs::int[] from steady_queue_figures"
    assert sql(read) == [(True, 9, [6, 3], [3])]


def test_compacting_goes_on_in_batches_and_never_counts_twice(add, compact, sql):
    for ago in ("9 days", "8 days 3 h", "30 h", "3 h", "3 h 1 minute", "5 minutes", "0 s"):
        for task in "abc":
            add(figures(task=task, waits=[1]), figures(task=task, ran=1.0), ago=ago)
    before = sql(SUMS), sql(COUNTED)
    compact(2)
    assert (sql(SUMS), sql(COUNTED)) == before
    # Old hours in one row at -infinity; three hours ago is one span of ten minutes, or two.
    assert sql("select count(*) from steady_queue_figures where minute = '-infinity'") == [(3,)]
    compact()
    assert sql("select steady_queue_compact_figures()") == [(0,)]


def test_a_small_batch_takes_rows_that_become_one(add, compact, sql):
    for ago in ("3 h", "30 h", "9 days"):
        for task in "abcd":
            add(figures(task=task), figures(task=task), ago=ago)
    assert sql("select steady_queue_compact_figures(2)") == [(2,)]
    assert sql("select count(*) from steady_queue_figures") == [(23,)]
    compact(2)
    assert sql("select count(*), sum(finished)::int from steady_queue_figures") == [(12, 24)]


def test_the_minute_that_workers_add_to_is_left_alone(add, compact, sql):
    add(figures())
    add(figures())
    compact()
    assert sql("select count(*) from steady_queue_figures") == [(2,)]


def test_compacting_leaves_out_what_somebody_has_locked(other):
    one, two = Session(other()), Session(other())
    for _ in range(2):
        one.run("select steady_queue_add_figures(%s::json)", json.dumps([figures()]))
    one.run("update steady_queue_figures set minute = minute - interval '1 h'")
    one.commit()
    one.run("select from steady_queue_figures order by id limit 1 for update")
    assert two.value("select steady_queue_compact_figures()") == 1
    two.commit()
    one.commit()
    assert one.value("select sum(finished) from steady_queue_figures") == 2


def test_adding_does_not_wait_for_a_locked_table(other):
    one, two = Session(other()), Session(other())
    one.run("lock table steady_queue_figures in access exclusive mode")
    two.run("set lock_timeout = 0")
    two.run("set statement_timeout = '20s'")
    add = "select steady_queue_add_figures(%s::json)"
    assert two.value(add, json.dumps([figures()])) is False
    two.commit()
    one.rollback()
    assert two.value(add, json.dumps([figures()])) is True


@pytest.mark.parametrize(
    ("counts", "fraction", "seconds"),
    [
        ([], 0.5, None),
        ([0, 0], 0.5, None),
        # All between 2 and 5 ms: the middle of it.
        ([0, 0, 10], 0.5, 0.0035),
        ([90, 0, 0, 0, 0, 0, 0, 0, 0, 10], 0.5, 0.001 * 5 / 9),
        ([90, 0, 0, 0, 0, 0, 0, 0, 0, 10], 0.95, 0.75),
        # Longer than the longest bound is known no better.
        ([0] * len(BOUNDS) + [1], 0.5, BOUNDS[-1]),
    ],
)
def test_quantiles_are_estimated_within_their_bounds(sql, counts, fraction, seconds):
    [(found,)] = sql("select steady_queue_quantile(%s::bigint[], %s)", counts, fraction)
    assert (found and found.total_seconds()) == (seconds and pytest.approx(seconds, abs=1e-6))


def test_the_throughput_of_each_minute_and_queue_is_a_view(add, sql):
    add(figures(finished=3, failed=1, waits=[0, 0, 3], runs=[0] * 9 + [2]), figures(queue="other"))
    add(figures(finished=2, waits=[0, 0, 2]))
    add(figures(finished=7), ago="10 minutes")
    add(figures(finished=9), ago="3 h")
    assert sql(
        "select queue, finished::int, failed::int, extract(epoch from wait_p50)::float8, "
        "extract(epoch from run_p95)::float8 from steady_queue_throughput"
    ) == [
        ("mail", 5, 1, 0.0035, 0.975),
        ("other", 1, 0, None, None),
        ("mail", 7, 0, None, None),
    ]


def test_throughput_is_read_in_steps_of_one_queue_or_of_all(add, sql):
    add(figures(finished=3), figures(queue="other", finished=1))
    add(figures(finished=5), ago="90 minutes")
    read = "select finished::int from steady_queue_throughput_of('2 h', '1 h', %s)"
    assert sum(n for (n,) in sql(read, None)) == 9
    assert sum(n for (n,) in sql(read, "mail")) == 8
    assert sql(read, "other") == [(1,)]


def test_a_job_failed_for_its_lost_starts_is_counted(queue, sql):
    job = queue.enqueue(task="poison", queue="mail")
    queue.claim(worker := queue.process())
    sql("select steady_queue_recover_jobs(%s, array[%s], 'E', 'm', 1)", worker, job)
    assert sql(SUMS) == [("mail", "poison", 1, 1, 0, 0)]


def test_figures_come_through_flush_and_truncate(add, sql):
    add(figures())
    sql("truncate steady_queue_figures")
    add(figures(finished=2))
    assert sql(SUMS) == [("mail", "t", 2, 0, 0, 0)]


def test_what_a_worker_counts_can_be_added(sql, add):
    counts = Counts()
    counts.finished, counts.waits[0] = 1, 1
    add({"queue": "mail", "task": "t", **counts.named()})
    assert sql(COUNTED) == [([1] + [0] * len(BOUNDS),)]
    assert sql(SUMS) == [("mail", "t", 1, 0, 0, 0)]
