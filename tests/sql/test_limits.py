import pytest


@pytest.fixture
def worker(queue):
    return queue.process()


def test_no_more_run_at_once_than_the_limit(queue, worker):
    jobs = queue.enqueue_limited("k", to=2, count=5)
    assert list(queue.claim(worker)) == jobs[:2]
    assert queue.states(*jobs) == ["running"] * 2 + ["blocked"] * 3
    assert queue.claim(worker) == {}


def test_keys_do_not_hold_each_other_up(queue, worker):
    [one], [two] = queue.enqueue_limited("a"), queue.enqueue_limited("b")
    assert list(queue.claim(worker)) == [one, two]


def test_a_batch_is_filled_from_behind_the_blocked(queue, worker):
    [first, *_] = queue.enqueue_limited("k", count=20)
    free = queue.enqueue()
    assert list(queue.claim(worker, count=2)) == [first, free]


def test_a_freed_slot_goes_to_the_next_at_once(queue, worker):
    first, second, third = queue.enqueue_limited("k", count=3)
    claimed = queue.claim(worker)
    assert queue.finish_limited(claimed, "k") == {}
    assert queue.states(first, second, third) == ["successful", "ready", "blocked"]
    assert list(queue.claim(worker)) == [second]


def test_the_slot_goes_to_the_highest_priority_then_the_oldest(queue, worker):
    queue.enqueue_limited("k")
    running = queue.claim(worker)
    [old] = queue.enqueue_limited("k")
    [new] = queue.enqueue_limited("k")
    [urgent] = queue.enqueue_limited("k", priority=9)
    queue.claim(worker)
    order = []
    while running:
        queue.finish_limited(running, "k")
        running = queue.claim(worker)
        order += running
    assert order == [urgent, old, new]


def test_a_job_that_was_handed_a_slot_is_served_before_its_queue(queue, worker):
    _, second = queue.enqueue_limited("k", count=2)
    claimed = queue.claim(worker)
    plain = queue.enqueue()
    queue.finish_limited(claimed, "k")
    assert list(queue.claim(worker)) == [second, plain]


def test_slots_of_paused_queues_go_to_others(queue, worker, sql):
    queue.enqueue_limited("k")
    claimed = queue.claim(worker)
    queue.enqueue_limited("k", queue="mail")
    queue.claim(worker)
    [other] = queue.enqueue_limited("k")
    queue.claim(worker)
    sql("select steady_queue_pause_queue('mail')")
    queue.finish_limited(claimed, "k")
    assert list(queue.claim(worker)) == [other]


def test_a_lower_limit_in_a_paused_queue_holds_nobody_else_back(queue, worker, sql):
    queue.enqueue_limited("k", to=3, count=3)
    running = list(queue.claim(worker).items())
    [paused] = queue.enqueue_limited("k", to=1, queue="mail")
    [waiter] = queue.enqueue_limited("k", to=3)
    queue.claim(worker)
    sql("select steady_queue_pause_queue('mail')")
    queue.finish_limited(dict(running[:2]), "k")
    assert queue.states(paused, waiter) == ["blocked", "ready"]


@pytest.fixture
def holding(queue, worker):
    """A ready job of the queue mail that was handed a slot, and one of another that waits for it."""
    queue.enqueue_limited("k")
    running = queue.claim(worker)
    [holder] = queue.enqueue_limited("k", queue="mail")
    [waiter] = queue.enqueue_limited("k")
    queue.claim(worker)
    queue.finish_limited(running, "k")
    assert queue.states(holder, waiter) == ["ready", "blocked"]
    return holder, waiter


def test_pausing_a_queue_gives_the_slots_of_its_ready_jobs_to_others(queue, worker, sql, holding):
    holder, waiter = holding
    sql("select steady_queue_pause_queue('mail')")
    sql("select steady_queue_maintain_limits()")
    assert queue.states(holder, waiter) == ["blocked", "ready"]
    running = queue.claim(worker)
    assert list(running) == [waiter]
    sql("select steady_queue_resume_queue('mail')")
    queue.finish_limited(running, "k")
    assert list(queue.claim(worker)) == [holder]


def test_a_discarded_jobs_slot_goes_to_the_next(queue, worker, sql, holding):
    holder, waiter = holding
    sql("select steady_queue_discard_jobs(array[%s])", holder)
    sql("select steady_queue_maintain_limits()")
    assert list(queue.claim(worker)) == [waiter]


def test_who_asked_to_be_discarded_does_not_wait(queue, worker):
    queue.enqueue_limited("k")
    queue.claim(worker)
    [spare] = queue.enqueue_limited("k", conflict="discard")
    assert queue.claim(worker) == {}
    assert queue.state(spare) == "discarded"


def test_a_raised_limit_lets_later_jobs_in_and_a_lowered_one_drains(queue, worker):
    queue.enqueue_limited("k", to=3, count=3)
    running = queue.claim(worker)
    [late] = queue.enqueue_limited("k", to=1)
    assert queue.claim(worker) == {}
    jobs = list(running.items())
    queue.finish_limited(dict(jobs[:2]), "k")
    assert queue.state(late) == "blocked"
    queue.finish_limited(dict(jobs[2:]), "k")
    assert list(queue.claim(worker)) == [late]


def test_a_holder_past_its_duration_no_longer_counts(queue, worker, sql):
    first, second = queue.enqueue_limited("k", count=2)
    queue.claim(worker)
    sql("update steady_queue_running set holds_until = clock_timestamp()")
    sql("select steady_queue_maintain_limits()")
    assert list(queue.claim(worker)) == [second]
    assert queue.states(first, second) == ["running", "running"]


@pytest.mark.parametrize("table", ["running", "jobs"])
def test_a_delete_typed_by_a_person_leaks_no_slot(queue, worker, sql, table):
    first, second = queue.enqueue_limited("k", count=2)
    queue.claim(worker)
    sql("delete from steady_queue_running where job = %s", first)
    if table == "jobs":
        sql("delete from steady_queue_jobs where id = %s", first)
    sql("select steady_queue_maintain_limits()")
    assert list(queue.claim(worker)) == [second]


def test_a_recovered_holder_gives_its_slot_to_the_next(queue, worker, sql):
    first, second = queue.enqueue_limited("k", count=2)
    queue.claim(worker)
    sql("select steady_queue_recover_jobs(%s, '{}', '', '')", worker)
    another = queue.process()
    assert list(queue.claim(another)) == [second]
    assert queue.state(first) == "blocked"


def test_keys_that_nobody_uses_are_forgotten(queue, worker, sql):
    queue.enqueue_limited("k")
    queue.finish_limited(queue.claim(worker), "k")
    sql("select steady_queue_maintain_limits()")
    assert sql("select count(*) from steady_queue_semaphores") == [(0,)]


def test_slots_that_ran_out_before_their_jobs_were_claimed_are_decided_anew(queue, worker, sql):
    queue.enqueue_limited("k", count=4)
    running = queue.claim(worker)
    for _ in range(3):
        queue.finish_limited(running, "k")
        running = {}
        sql("update steady_queue_ready set holds_until = clock_timestamp()")
        sql("select steady_queue_maintain_limits()")
    assert len(queue.claim(worker)) == 1


def test_a_blocked_job_whose_row_was_deleted_does_not_block_its_key(queue, worker, sql):
    _, gone, next_one = queue.enqueue_limited("k", count=3)
    running = queue.claim(worker)
    sql("delete from steady_queue_jobs where id = %s", gone)
    queue.finish_limited(running, "k")
    sql("select steady_queue_maintain_limits()")
    assert list(queue.claim(worker)) == [next_one]
    assert sql("select count(*) from steady_queue_blocked") == [(0,)]


def test_a_semaphore_that_was_deleted_by_hand_is_made_again(queue, worker, sql):
    first, second = queue.enqueue_limited("k", count=2)
    running = queue.claim(worker)
    sql("delete from steady_queue_semaphores")
    assert queue.finish_limited(running, "k") == {}
    assert queue.states(first, second) == ["successful", "ready"]


def test_maintenance_reaches_every_key(queue, worker, sql):
    for number in range(7):
        queue.enqueue_limited(f"k{number}", count=2)
    queue.claim(worker, count=20)
    sql("delete from steady_queue_running")
    sql("select steady_queue_maintain_limits(3)")
    assert len(queue.claim(worker, count=20)) == 7


def test_claiming_a_job_does_not_prolong_the_slot_that_it_was_handed(queue, worker, sql, holding):
    holder, _ = holding
    [(until,)] = sql("select holds_until from steady_queue_ready where job = %s", holder)
    assert holder in queue.claim(worker)
    kept = sql("select holds_until from steady_queue_running where job = %s", holder)
    assert kept == [(until,)]
