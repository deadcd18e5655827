"""What was done stands in steady_queue_figures, soon while a worker runs and at its end."""

import pytest

from tests.app.tasks import fail, noop

pytestmark = pytest.mark.processes

FIGURES = """
    select task, sum(finished)::int, sum(failed)::int, sum(n)::int
    from steady_queue_figures, lateral (select sum(u) as n from unnest(runs) u) c
    group by 1 order by 1
"""


def test_a_worker_writes_its_figures_while_it_runs_and_the_rest_when_it_ends(node, watch):
    running = node()
    watch.until_idle()
    noop.enqueue()
    fail.enqueue()
    expected = [("tests.app.tasks.fail", 1, 1, 1), ("tests.app.tasks.noop", 1, 0, 1)]
    # Fails when they do not come; without a further job, and without a poll.
    watch.until(lambda: watch.rows(FIGURES) == expected, "the figures")
    noop.enqueue()
    watch.until_states(successful=2, failed=1)
    assert running.stop() == 0
    expected[1] = ("tests.app.tasks.noop", 2, 0, 2)
    assert watch.rows(FIGURES) == expected


def test_a_dispatcher_makes_one_row_of_many(node, watch):
    watch.rows("""insert into steady_queue_figures (minute, queue, task, finished)
      select now() - interval '1 h', 'mail', 't', 2 from generate_series(1, 3) returning id""")
    node("--only-dispatch")
    rows = "select finished::int from steady_queue_figures"
    watch.until(lambda: watch.rows(rows) == [(6,)], "one row")
