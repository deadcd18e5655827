"""Blocked jobs that follow another into its slot, to run after it in the same thread."""

import pytest


@pytest.fixture(autouse=True)
def _lanes(lanes):
    lanes("default", "mail")


@pytest.fixture
def worker(queue):
    return queue.process()


@pytest.fixture
def running(queue, worker):
    """Claims jobs as they are enqueued: some run, and the others stand in line."""

    def run(*limits, count=1, **more):
        jobs = [job for to in limits for job in queue.enqueue_limited("k", to, count=count, **more)]
        return jobs, queue.claim(worker, count=1000)

    return run


@pytest.fixture
def follow(queue, worker):
    """Finishes jobs and claims what is next, followers too."""

    def finish_and_claim(running, *queues, **more):
        refused, claimed = queue.finish_and_claim(running, worker, *queues, **more)
        assert refused == {}
        return claimed

    return finish_and_claim


@pytest.fixture
def held(sql):
    return lambda: sql("select held from steady_queue_slots_held('{k}')")[0][0]


def test_the_blocked_follow_who_is_handed_the_slot_in_order_under_its_claim(queue, running, follow):
    jobs, first = running(1, count=5)
    claimed = follow(first, followers=2)
    assert list(claimed) == jobs[1:4]
    assert len(set(claimed.values())) == 1
    assert queue.slots() == [jobs[1:4]]
    assert queue.states(*jobs) == ["successful", *["running"] * 3, "blocked"]


def test_a_follower_comes_with_all_that_a_worker_needs(queue, worker, running, sql):
    _, first = running(1, count=3)
    queue.finish(first, p_limit_keys=["k"])
    leader, follower = sql(
        "select * from steady_queue_finish_and_claim_jobs('{}', '{}', '{}', '{}', null, '{k}', "
        "true, %s, '{*}', 10, 1)",
        worker,
    )
    *alike, claimed_at, errors, workers = follower[1:]
    assert alike == list(leader[1:-3])
    assert claimed_at >= leader[-3]
    assert errors is workers is None


def test_followers_are_spread_evenly_over_the_slots(queue, running, follow):
    jobs, first = running(2, count=7)
    follow(first)
    a, b, *rest = jobs[2:]
    assert queue.slots() == [[a, *rest[::2]], [b, rest[1]]]


@pytest.mark.parametrize(
    ("count", "followers", "most"), [(3, 9, 3), (9, 1, 4), (9, 0, 2), (2, 9, 2)]
)
def test_no_more_follow_than_are_asked_for(running, follow, count, followers, most):
    jobs, first = running(2, count=20)
    claimed = follow(first, count=count, followers=followers)
    assert list(claimed) == jobs[2 : 2 + most]


def test_only_keys_of_what_was_finished_are_followed(queue, running, follow):
    _, first = running(1, count=3)
    queue.finish(first, p_limit_keys=["k"])
    assert len(follow({}, keys=["l"])) == 1


def test_nobody_follows_a_suspect(running, follow, sql):
    jobs, first = running(1, count=3)
    sql("update steady_queue_blocked set suspect = true where job = %s", jobs[1])
    assert list(follow(first)) == [jobs[1]]


@pytest.mark.parametrize(
    "unfit",
    [
        "update steady_queue_blocked set suspect = true where job = %s",
        "update steady_queue_blocked set attempt = 1 where job = %s",
        "update steady_queue_jobs set limit_for = '9 s' where id = %s",
        "update steady_queue_jobs set queue = 'mail' where id = %s",
        "update steady_queue_jobs set limit_to = 2 where id = %s",
    ],
)
def test_who_may_not_follow_is_not_passed_over_either(running, follow, sql, unfit):
    jobs, first = running(1, count=5)
    sql(unfit, jobs[3])
    assert list(follow(first, "def*")) == jobs[1:3]


@pytest.mark.parametrize("priority", [-1, 1])
def test_only_those_of_the_same_priority_follow(queue, worker, running, follow, priority):
    """Who is more urgent is handed the next slot, alone; who is less so waits for a slot."""
    _, first = running(1)
    [goes] = queue.enqueue_limited("k", priority=max(priority, 0))
    [waits] = queue.enqueue_limited("k", priority=min(priority, 0))
    queue.claim(worker)
    assert list(follow(first)) == [goes]
    assert queue.state(waits) == "blocked"


def test_each_brings_its_own_along_not_those_of_another_priority(queue, worker, running, follow):
    _, first = running(2, count=2)
    [urgent] = queue.enqueue_limited("k", to=2, priority=1)
    line = queue.enqueue_limited("k", to=2, count=4)
    queue.claim(worker)
    assert sorted(follow(first, followers=1)) == [urgent, *line[:2]]
    assert queue.slots() == [[urgent], line[:2]]


def test_nobody_follows_into_a_slot_that_is_running_out(queue, worker, running, sql):
    _, first = running(1, count=3)
    queue.finish_limited(first, "k")
    [claim] = queue.claim(worker).values()
    sql("update steady_queue_running set holds_until = clock_timestamp() + interval '0.9 s'")
    follow = "select job from steady_queue_follow_jobs(%s, '{k}', '{*}', 9, 9)"
    assert sql(follow, claim) == []
    sql("update steady_queue_running set holds_until = clock_timestamp() + interval '1 hour'")
    assert len(sql(follow, claim)) == 1


def test_a_lower_limit_behind_more_holders_waits(queue, worker, running, follow):
    jobs, first = running(3, count=4)
    [late] = queue.enqueue_limited("k", to=2)
    queue.claim(worker)
    one = dict(list(first.items())[:1])
    assert list(follow(one)) == jobs[3:]
    assert queue.state(late) == "blocked"


def test_jobs_of_paused_queues_are_passed_over(queue, running, follow, sql):
    jobs, first = running(1, count=4)
    sql("update steady_queue_jobs set queue = 'mail' where id = %s", jobs[2])
    sql("select steady_queue_pause_queue('mail')")
    assert list(follow(first)) == [jobs[1], jobs[3]]


def test_the_slot_is_taken_until_the_last_in_it_has_ended(queue, running, follow, held):
    jobs, first = running(1, count=5)
    claimed = follow(first, followers=2)
    for job in jobs[1:4]:
        assert held() == 1
        assert queue.state(jobs[4]) == "blocked"
        queue.finish_limited({job: claimed[job]}, "k")
    assert queue.state(jobs[4]) == "ready"
    assert held() == 1


def test_given_back_together_the_first_keeps_the_slot(queue, worker, running, follow, held, sql):
    jobs, first = running(1, count=4)
    claimed = follow(first)
    assert sql("select steady_queue_release_jobs(%s, %s)", [*claimed], [*claimed.values()]) == []
    holding = sql("select job, holds_until is not null from steady_queue_ready order by job")
    assert holding == [(jobs[1], True), (jobs[2], False), (jobs[3], False)]
    assert held() == 1
    assert list(queue.claim(worker)) == [jobs[1]]
    assert queue.states(*jobs[2:]) == ["blocked"] * 2


@pytest.mark.parametrize("left", [0, 1, 2])
def test_given_back_while_another_runs_they_have_no_slot(
    queue, worker, running, follow, held, sql, left
):
    jobs, first = running(1, count=4)
    claimed = follow(first)
    runs = jobs[1 + left]
    back = [job for job in claimed if job != runs]
    assert sql("select steady_queue_release_jobs(%s, %s)", back, [claimed[j] for j in back]) == []
    assert sql("select count(*) from steady_queue_ready where holds_until is not null") == [(0,)]
    assert held() == 1
    assert queue.claim(worker) == {}
    queue.finish_limited({runs: claimed[runs]}, "k")
    assert list(queue.claim(worker)) == back[:1]


def test_recovered_they_go_back_and_one_gets_the_slot(queue, worker, running, follow, held, sql):
    jobs, first = running(1, count=4)
    follow(first, followers=1)
    sql("select steady_queue_recover_jobs(%s, %s::bigint[], 'E', 'm')", worker, [jobs[1]])
    assert queue.states(*jobs) == ["successful", "ready", "ready", "ready"]
    assert held() == 1
    assert sql("select * from steady_queue_check()") == []


def test_a_leader_deleted_by_hand_leaves_the_slot_to_its_followers(
    queue, running, follow, held, sql
):
    jobs, first = running(1, count=4)
    follow(first, followers=1)
    sql("delete from steady_queue_running where job = %s", jobs[1])
    sql("select steady_queue_maintain_limits()")
    assert held() == 1
    assert queue.states(*jobs[2:]) == ["running", "blocked"]
