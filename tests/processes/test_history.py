"""What is kept of jobs that have ended, and for how long."""

import pytest
from django.tasks import default_task_backend

from steady_queue.processes.dispatcher import PRUNE_BATCH
from tests.app.tasks import fail, limited, speak

pytestmark = pytest.mark.processes

END_LONG_AGO = """
    with ended as (
      insert into steady_queue_jobs (task, queue, priority, arguments)
      select 't', 'default', 0, '{"args": [], "kwargs": {}}' from generate_series(1, %s)
      returning id
    )
    insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at)
    select id, %s, 1, 0, now() - interval '25 hours' from ended
"""


def test_jobs_that_succeed_leave_nothing_behind_when_told_so_and_failures_stay(node, watch):
    node(workers=[{"threads": 4}], env={"TEST_FORGET_FINISHED": "1"})
    calls = [(speak, [f"word {number}"], {}) for number in range(20)]
    default_task_backend.enqueue_all([*calls, *[(limited, ["key"], {})] * 4, (fail, [], {})])
    watch.until_states(failed=1)
    assert sorted(watch.heard()) == sorted(
        [f"word {number}" for number in range(20)] + ["key begins", "key ends"] * 4
    )
    assert watch.value("select count(*) from steady_queue_jobs") == 1
    assert watch.rows("select * from steady_queue_check(p_deep => true)") == []


def test_history_past_its_time_is_deleted_however_much_has_gathered(node, watch):
    watch.connection.execute(END_LONG_AGO, (2 * PRUNE_BATCH + 1, "successful"))
    watch.connection.execute(END_LONG_AGO, (1, "failed"))
    node("--only-dispatch")
    watch.until_states(failed=1)
    assert watch.value("select count(*) from steady_queue_jobs") == 1
