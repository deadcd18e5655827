"""The admin: everybody sees what they may see, and does what they may do, and nothing else."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from steady_queue import queries, signals
from steady_queue.admin import jobs as jobs_admin
from steady_queue.models import JobState, Process, Queue, Schedule

HOSTILE = "<script>alert(1)</script>"
STATES = ["ready", "scheduled", "blocked", "running", "successful", "failed", "discarded"]
MODELS = ["jobstate", "queue", "process", "schedule"]


@pytest.fixture(autouse=True)
def jobs(queue, sql):
    """A job in each state, by its state, a paused queue named `stopped`, and two schedules."""
    worker = queue.process()
    made = {}
    made["running"], made["blocked"] = queue.enqueue_limited("k", queue="limits", count=2)
    queue.claim(worker, "limits")
    made["successful"] = queue.enqueue()
    queue.finish(queue.claim(worker))
    made["failed"] = queue.enqueue()
    error = {"exception_class": "builtins.ValueError", "message": "boom", "traceback": "Traceback"}
    queue.finish(queue.claim(worker), json.dumps(error))
    made["discarded"] = queue.enqueue()
    sql("select steady_queue_discard_jobs(array[%s])", made["discarded"])
    made["ready"] = queue.enqueue(queue="mail", args='["a secret"]')
    made["scheduled"] = queue.enqueue(run_after=timezone.now() + timedelta(hours=1))
    sql("select steady_queue_pause_queue('stopped')")
    sql("select steady_queue_schedule_task('nightly', 't', '0 3 * * *')")
    sql("select steady_queue_schedule_task('weekly', 't', '0 3 * * 1')")
    sql("select steady_queue_pause_recurring_task('weekly')")
    assert {job.state: job.pk for job in JobState.objects.all()} == made
    return made


@pytest.fixture
def user(db):
    """Makes users with the named permissions of steady_queue."""

    def make(*permissions, **fields):
        made = User.objects.create_user(
            fields.pop("username", "person"), **{"is_staff": True, **fields}
        )
        found = Permission.objects.filter(
            content_type__app_label="steady_queue", codename__in=permissions
        )
        assert len(found) == len(permissions)
        made.user_permissions.set(found)
        return made

    return make


@pytest.fixture
def client_of(user):
    """A browser with such a user logged in."""

    def make(*permissions, **fields):
        browser = Client()
        browser.force_login(user(*permissions, **fields))
        return browser

    return make


@pytest.fixture
def superuser(client_of):
    return client_of(is_superuser=True)


@pytest.fixture
def snapshot(sql):
    """Everything that an action could change."""
    return lambda: (
        sql("select id, state from steady_queue_all_jobs order by id"),
        sql("select queue from steady_queue_pauses order by queue"),
        sql("select key, paused_at from steady_queue_recurring_tasks order by key"),
        sql("select count(*) from steady_queue_recurring_executions"),
    )


def changelist(model):
    return reverse(f"admin:steady_queue_{model}_changelist")


def page(model, key, name="change"):
    return reverse(f"admin:steady_queue_{model}_{name}", args=[quote(str(key))])


def chosen(action, *keys):
    return {"action": action, "_selected_action": [*map(str, keys)], "index": "0"}


# Pages.


@pytest.mark.parametrize("model", MODELS)
def test_each_list_shows_its_rows(superuser, model):
    response = superuser.get(changelist(model))
    assert response.status_code == 200
    assert len(response.context["cl"].result_list) > 0


def test_the_list_of_queues_says_how_far_it_counts(superuser):
    assert "up to 10,000" in superuser.get(changelist("queue")).content.decode()


def test_the_index_leads_to_each_list(superuser):
    content = superuser.get(reverse("admin:app_list", args=["steady_queue"])).content.decode()
    for model in MODELS:
        assert changelist(model) in content


def test_every_registered_model_is_tested_here():
    ours = [m for m in admin.site._registry if m._meta.app_label == "steady_queue"]
    # The dashboard has no rows: see test_dashboard.py.
    assert sorted(m._meta.model_name for m in ours) == sorted([*MODELS, "dashboard"])


@pytest.mark.parametrize("state", STATES)
def test_each_state_can_be_looked_at(superuser, jobs, state):
    for url in (page("jobstate", jobs[state]), page("jobstate", jobs[state], "history")):
        response = superuser.get(url)
        assert response.status_code == 200
    content = superuser.get(page("jobstate", jobs[state])).content.decode()
    assert f'<div class="readonly">{state}</div>' in content


def test_the_list_can_be_filtered_by_state(superuser, jobs):
    response = superuser.get(changelist("jobstate"), {"state": "failed"})
    assert [job.pk for job in response.context["cl"].result_list] == [jobs["failed"]]


def test_the_page_of_a_failed_job_has_its_error_and_its_traceback(superuser, jobs):
    content = superuser.get(page("jobstate", jobs["failed"])).content.decode()
    assert "<h4>Attempt 1: builtins.ValueError: boom</h4><pre>Traceback</pre>" in content


def test_the_page_of_a_job_has_its_latest_errors_in_order(superuser, jobs, sql, monkeypatch):
    monkeypatch.setattr("steady_queue.admin.jobs.ERRORS", 2)
    for attempt in (2, 3):
        sql(
            "insert into steady_queue_errors "
            "(job, attempt, failed_at, exception_class, message, traceback) "
            "values (%s, %s, now(), 'E', 'm', 't')",
            jobs["failed"],
            attempt,
        )
        content = superuser.get(page("jobstate", jobs["failed"])).content.decode()
        shown = [f"Attempt {number}:" in content for number in (1, 2, 3)]
        assert shown == [attempt == 2, True, attempt == 3]
        assert ("The latest 2, of more." in content) == (attempt == 3)
    assert content.index("Attempt 2:") < content.index("Attempt 3:")


def test_an_error_without_an_attempt_is_a_lost_start(superuser, jobs, sql):
    sql("update steady_queue_errors set attempt = 0")
    content = superuser.get(page("jobstate", jobs["failed"])).content.decode()
    assert "<h4>Lost start: builtins.ValueError: boom</h4>" in content


def test_the_page_of_a_job_has_its_timeline(superuser, jobs):
    content = superuser.get(page("jobstate", jobs["scheduled"])).content.decode()
    assert "</time> enqueued in queue default, priority 0</li>" in content
    assert "</time> due for attempt 1</li>" in content


@pytest.mark.parametrize("model", [Queue, Process, Schedule])
def test_each_queue_process_and_schedule_can_be_looked_at(superuser, model):
    rows = list(model.objects.all())
    assert rows
    for row in rows:
        for name in ("change", "history"):
            url = page(model._meta.model_name, row.pk, name)
            assert superuser.get(url).status_code == 200


@pytest.mark.parametrize("name", ["a/b?c#d", "_5F", "🚀", 'it\'s "quoted"', "x" * 300])
def test_a_queue_of_any_name_can_be_looked_at_and_paused(superuser, queue, snapshot, name):
    queue.enqueue(queue=name)
    assert superuser.get(page("queue", name)).status_code == 200
    superuser.post(changelist("queue"), chosen("pause", name))
    assert (name,) in snapshot()[1]


@pytest.mark.parametrize(
    "query",
    [
        "q=abc",
        "q=default",
        "q=99999999999999999999999",
        "q=%00",
        "q=%25",
        "p=99",
        "p=x",
        "o=1.-2",
        "o=99",
        "e=1",
        "all=",
        "state__exact=unheard-of",
        "id=x",
        "unheard=of",
    ],
)
def test_no_query_breaks_the_list_of_jobs(superuser, query):
    assert superuser.get(f"{changelist('jobstate')}?{query}", follow=True).status_code == 200


def test_a_search_finds_a_job_by_number_queue_and_task(superuser, jobs, queue):
    found = queue.enqueue(task="shop.tasks.receipt", queue="receipts")
    for term in (str(found), "receipts", "shop.tasks"):
        response = superuser.get(changelist("jobstate"), {"q": term})
        assert [job.pk for job in response.context["cl"].result_list] == [found]


def listed(browser, **query):
    response = browser.get(changelist("jobstate"), query)
    return [job.pk for job in response.context["cl"].result_list]


def test_a_search_finds_a_job_by_its_limit_and_by_all_words(superuser, jobs, queue):
    found = queue.enqueue(task="shop.tasks.receipt", queue="receipts")
    assert listed(superuser, q="k") == [jobs["blocked"], jobs["running"]]
    assert listed(superuser, q="shop. receipts") == [found]
    assert listed(superuser, q="shop. mail") == []
    [spaced] = queue.enqueue_limited("customer 42", queue="limits")
    assert listed(superuser, q="customer 42") == [spaced]


def test_jobs_are_listed_by_queue_and_time(superuser, jobs, queue, sql):
    old, new = queue.enqueue(queue="receipts"), queue.enqueue(queue="receipts")
    sql("update steady_queue_jobs set enqueued_at = now() - interval '2 days' where id <= %s", old)
    assert listed(superuser, queue="receipts") == [new, old]
    assert listed(superuser, queue="receipts", since="day") == [new]
    assert listed(superuser, since="week", state="failed") == [jobs["failed"]]
    sql("update steady_queue_jobs set enqueued_at = now() - interval '9 days'")
    assert listed(superuser, since="week") == []


def test_a_search_reads_the_newest_jobs_only_unless_told_where(superuser, queue, monkeypatch):
    monkeypatch.setattr("steady_queue.admin.search.SEARCHED", 5)
    old = queue.enqueue(queue="receipts")
    for _ in range(5):
        queue.enqueue()
    assert listed(superuser, q="receipts") == listed(superuser, queue="receipts") == []
    for more in ({"since": "day"}, {"state": "ready"}):
        assert listed(superuser, q="receipts", **more) == [old]
        assert listed(superuser, queue="receipts", **more) == [old]
    assert listed(superuser, q=str(old)) == [old]


def test_what_failed_last_is_listed_first(superuser, queue, sql):
    first, last = queue.enqueue(), queue.enqueue()
    error = {"exception_class": "E", "message": "m", "traceback": "t"}
    queue.finish(claimed := queue.claim(queue.process()), json.dumps(error))
    assert {first, last} < set(claimed)
    sql(
        "update steady_queue_outcomes set finished_at = now() + interval '1 h' where job = %s",
        first,
    )
    assert listed(superuser, state="failed")[0] == first
    assert listed(superuser)[0] == last


def test_a_long_list_is_not_counted_to_its_end(superuser, queue, monkeypatch):
    monkeypatch.setattr("steady_queue.admin.search.LISTED", 60)
    for _ in range(61):
        queue.enqueue(queue="bulk")
    response = superuser.get(changelist("jobstate"), {"state": "ready", "queue": "bulk"})
    paginator = response.context["cl"].paginator
    assert (paginator.count, paginator.num_pages, paginator.more) == (60, 2, True)
    content = response.content.decode()
    assert "More than 60 jobs" in content
    assert "Select all that match" in content


def test_no_list_of_jobs_counts_or_sorts_all_of_them(superuser):
    with CaptureQueriesContext(connection) as captured:
        superuser.get(changelist("jobstate"), {"o": "2", "q": "t"})
    asked = [query["sql"].lower() for query in captured if "all_jobs" in query["sql"]]
    assert asked
    for statement in asked:
        assert "count(" not in statement
        assert "distinct" not in statement
        assert re.search(r'order by (1|"steady_queue_all_jobs"."id") desc limit', statement)


@pytest.mark.parametrize(
    "hardly_readable",
    [
        {"args": f"[{'9' * 5000}]"},
        {"args": "[" * 10_000 + "]" * 10_000},
    ],
    ids=["a number of 5,000 digits", "10,000 levels"],
)
def test_a_row_that_python_cannot_read_does_not_break_the_list(superuser, queue, hardly_readable):
    queue.enqueue(**hardly_readable)
    assert superuser.get(changelist("jobstate")).status_code == 200


# Nobody edits rows.


@pytest.mark.parametrize("model", MODELS)
def test_not_even_a_superuser_adds_changes_or_deletes_rows(superuser, snapshot, model):
    row = apps.get_model("steady_queue", model).objects.first()
    before = snapshot(), Process.objects.count()
    assert superuser.get(reverse(f"admin:steady_queue_{model}_add")).status_code == 403
    assert superuser.post(reverse(f"admin:steady_queue_{model}_add"), {}).status_code == 403
    assert superuser.post(page(model, row.pk), {"priority": "9"}).status_code == 403
    assert superuser.post(page(model, row.pk, "delete"), {"post": "yes"}).status_code == 403
    superuser.post(changelist(model), {**chosen("delete_selected", row.pk), "post": "yes"})
    assert (snapshot(), Process.objects.count()) == before


# Who may do what.

# By what they are called here: model, action, permission, on what, and what the log says then.
ACTIONS = {
    "retry": ("jobstate", "retry", "retry_jobs", "failed", "retried"),
    "discard": ("jobstate", "discard", "discard_jobs", "ready", "discarded"),
    "run now": ("jobstate", "run_now", "run_jobs_now", "scheduled", "run now"),
    "copy": ("jobstate", "enqueue_copy", "enqueue_copy", "successful", "copied"),
    "pause": ("queue", "pause", "pause_queues", "mail", "paused"),
    "resume": ("queue", "resume", "pause_queues", "stopped", "resumed"),
    "pause schedule": ("schedule", "pause", "pause_schedules", "nightly", "paused"),
    "resume schedule": ("schedule", "resume", "pause_schedules", "weekly", "resumed"),
    "run schedule": ("schedule", "run_now", "run_schedules_now", "nightly", "run now"),
}
OURS = [
    *sorted({permission for _, _, permission, _, _ in ACTIONS.values()}),
    "view_arguments",
    *(f"{verb}_{model}" for verb in ("add", "change", "delete") for model in MODELS),
]
MAY = ["superuser", "the one permission"]
MAY_NOT = [
    "view only",
    "every other permission",
    "not allowed to view",
    "staff without permissions",
    "not staff",
    "inactive",
    "anonymous",
]


@pytest.fixture
def browser_of(client_of):
    """A browser in somebody's hands, by what they may do about an action."""

    def make(role, model, permission):
        views = [f"view_{m}" for m in MODELS]
        others = [p for p in OURS if p != permission]
        return {
            "superuser": lambda: client_of(is_superuser=True),
            "the one permission": lambda: client_of(f"view_{model}", permission),
            "view only": lambda: client_of(*views),
            "every other permission": lambda: client_of(*views, *others),
            "not allowed to view": lambda: client_of(permission),
            "staff without permissions": client_of,
            "not staff": lambda: client_of(*views, *OURS, is_staff=False),
            "inactive": lambda: client_of(is_superuser=True, is_active=False),
            "anonymous": Client,
        }[role]()

    return make


@pytest.fixture
def attempt(browser_of, jobs):
    def make(called, role):
        model, action, permission, target, done = ACTIONS[called]
        key = str(jobs.get(target, target))
        return SimpleNamespace(
            browser=browser_of(role, model, permission),
            url=changelist(model),
            data=chosen(action, key),
            button=reverse(f"admin:steady_queue_{model}_act"),
            pressed={action: key},
            page=page(model, key),
            key=key,
            done=done,
        )

    return make


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_acts_and_is_written_to_the_log(attempt, snapshot, action, role):
    before, one = snapshot(), attempt(action, role)
    response = one.browser.post(one.url, one.data, follow=True)
    assert response.status_code == 200
    assert snapshot() != before
    [entry] = LogEntry.objects.all()
    assert (entry.user.username, entry.object_id) == ("person", one.key)
    assert entry.change_message == one.done


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_acts_by_the_button_of_the_row_and_is_written_to_the_log(
    attempt, snapshot, action, role
):
    before, one = snapshot(), attempt(action, role)
    [name] = one.pressed
    assert f'name="{name}" value="{one.key}"' in one.browser.get(one.page).content.decode()
    response = one.browser.post(one.button, one.pressed)
    assert (response.status_code, response.url) == (302, one.page)
    assert snapshot() != before
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == (one.key, one.done)


@pytest.mark.parametrize("role", MAY_NOT)
@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_not_changes_nothing(attempt, snapshot, action, role):
    before, one = snapshot(), attempt(action, role)
    one.browser.post(one.url, one.data, follow=True)
    one.browser.post(one.url, {**one.data, "select_across": "1"}, follow=True)
    one.browser.post(one.button, one.pressed, follow=True)
    assert snapshot() == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("role", MAY + MAY_NOT)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_get_changes_nothing_whoever_sends_it(attempt, snapshot, action, role):
    before, one = snapshot(), attempt(action, role)
    one.browser.get(one.url, one.data, follow=True)
    one.browser.get(one.button, one.pressed, follow=True)
    assert snapshot() == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_post_from_another_site_changes_nothing(user, attempt, snapshot, action):
    before, one = snapshot(), attempt(action, "anonymous")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user(is_superuser=True))
    assert browser.post(one.url, one.data).status_code == 403
    assert browser.post(one.button, one.pressed).status_code == 403
    assert snapshot() == before


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("role", ["staff without permissions", "not staff", "anonymous"])
def test_who_may_not_view_sees_nothing(browser_of, jobs, model, role):
    browser = browser_of(role, model, "retry_jobs")
    for url in (changelist(model), page("jobstate", jobs["ready"])):
        assert browser.get(url).status_code in (302, 403)


def test_who_may_only_view_is_offered_no_action(client_of):
    browser = client_of(*(f"view_{model}" for model in MODELS))
    for model in MODELS:
        response = browser.get(changelist(model))
        assert response.status_code == 200
        assert b'name="action"' not in response.content


def test_who_may_only_view_is_offered_no_button(client_of, jobs):
    browser = client_of(*(f"view_{model}" for model in MODELS))
    for model, action, _, target, _ in ACTIONS.values():
        response = browser.get(page(model, jobs.get(target, target)))
        assert response.status_code == 200
        assert f'name="{action}"' not in response.content.decode()


def test_a_button_leads_back_to_where_it_was_pressed_and_to_no_other_site(superuser):
    button = reverse("admin:steady_queue_queue_act")
    for url, leads_to in (
        ("/admin/steady_queue/dashboard/?span=day", "/admin/steady_queue/dashboard/?span=day"),
        ("https://elsewhere.example/", page("queue", "mail")),
        ("//elsewhere.example/", page("queue", "mail")),
    ):
        assert superuser.post(button, {"pause": "mail", "next": url}).url == leads_to


def test_a_button_of_a_row_that_is_gone_says_so(superuser):
    for model, key in (("jobstate", "0"), ("jobstate", "x"), ("queue", "gone"), ("schedule", "")):
        action = {"jobstate": "retry"}.get(model, "pause")
        response = superuser.post(reverse(f"admin:steady_queue_{model}_act"), {action: key})
        assert response.status_code == 404


# What actions do.


def test_retry_makes_failed_and_discarded_jobs_ready_and_leaves_the_others(superuser, jobs, queue):
    everything = chosen("retry", *jobs.values())
    response = superuser.post(changelist("jobstate"), everything, follow=True)
    assert "2 of 7 jobs are ready again." in response.content.decode()
    assert queue.states(*jobs.values()) == [
        "ready" if state in ("failed", "discarded") else state for state in jobs
    ]


def test_discard_ends_waiting_jobs_and_leaves_the_others(superuser, jobs, queue):
    everything = chosen("discard", *jobs.values())
    response = superuser.post(changelist("jobstate"), everything, follow=True)
    assert "3 of 7 jobs were discarded." in response.content.decode()
    assert queue.states(*jobs.values()) == [
        "discarded" if state in ("ready", "scheduled", "blocked") else state for state in jobs
    ]


def test_an_action_on_all_pages_acts_on_what_the_filter_shows(superuser, jobs, queue):
    more = [queue.enqueue() for _ in range(60)]
    data = {**chosen("discard", more[0]), "select_across": "1"}
    superuser.post(f"{changelist('jobstate')}?state=ready", data)
    assert set(queue.states(*more, jobs["ready"])) == {"discarded"}
    assert queue.state(jobs["scheduled"]) == "scheduled"


def test_run_now_makes_scheduled_jobs_ready_and_leaves_the_others(superuser, jobs, queue):
    everything = chosen("run_now", *jobs.values())
    response = superuser.post(changelist("jobstate"), everything, follow=True)
    assert "1 of 7 jobs are ready now." in response.content.decode()
    assert queue.states(*jobs.values()) == [
        "ready" if state == "scheduled" else state for state in jobs
    ]


def test_a_copy_of_each_job_is_enqueued_and_the_jobs_are_left_alone(superuser, jobs, queue, sql):
    everything = chosen("enqueue_copy", *jobs.values())
    response = superuser.post(changelist("jobstate"), everything, follow=True)
    assert "7 of 7 jobs were enqueued once more." in response.content.decode()
    assert queue.states(*jobs.values()) == list(jobs)
    assert sql("select count(*) from steady_queue_jobs") == [(14,)]
    [(first,)] = sql("select min(id) from steady_queue_jobs where id > %s", max(jobs.values()))
    assert f'The first copy is <a href="{page("jobstate", first)}">{first}</a>.' in (
        response.content.decode()
    )


def test_an_action_on_very_many_is_done_in_batches_and_logged_as_one(
    superuser, jobs, queue, sql, monkeypatch
):
    monkeypatch.setattr("steady_queue.admin.jobs.BATCH", 20)
    batches = []
    discard = queries.discard_jobs

    def noted(database, batch):
        batches.append(len(batch))
        return discard(database, batch)

    monkeypatch.setattr("steady_queue.admin.jobs.DISCARD", replace(jobs_admin.DISCARD, act=noted))
    more = [queue.enqueue(queue="bulk") for _ in range(45)]
    data = {**chosen("discard", more[0]), "select_across": "1"}
    response = superuser.post(f"{changelist('jobstate')}?queue=bulk", data, follow=True)
    assert "45 of 45 jobs were discarded." in response.content.decode()
    assert batches == [20, 20, 5]
    assert set(queue.states(*more)) == {"discarded"}
    shown = LogEntry.objects.values_list("object_id", "object_repr")
    assert len(shown) == 21
    assert (None, "45 of 45 jobs") in shown


def test_a_schedule_that_is_run_now_is_due_for_a_scheduler(superuser, sql):
    superuser.post(changelist("schedule"), chosen("run_now", "nightly"))
    due = "select key from steady_queue_due_recurring_tasks() where run_now_at is not null"
    assert sql(due) == [("nightly",)]


def test_nothing_is_claimed_from_a_paused_queue_until_it_is_resumed(superuser, jobs, queue):
    superuser.post(changelist("queue"), chosen("pause", "mail"))
    assert queue.claim(queue.process(), "mail") == {}
    superuser.post(changelist("queue"), chosen("resume", "mail"))
    assert list(queue.claim(queue.process(), "mail")) == [jobs["ready"]]


@pytest.mark.parametrize(
    ("signal", "action"), [(signals.queue_paused, "pause"), (signals.queue_resumed, "resume")]
)
def test_pausing_and_resuming_is_told_to_receivers(superuser, signal, action):
    heard = []

    def hear(queue_name, changed, **kwargs):
        heard.append((queue_name, changed))

    signal.connect(hear)
    superuser.post(changelist("queue"), chosen(action, "mail", "stopped"))
    signal.disconnect(hear)
    assert sorted(heard) == [("mail", action == "pause"), ("stopped", action == "resume")]


# Arguments.


def test_arguments_are_shown_to_those_who_may_see_them(client_of, jobs):
    browser = client_of("view_jobstate", "view_arguments")
    assert "a secret" in browser.get(page("jobstate", jobs["ready"])).content.decode()


def test_arguments_are_hidden_from_the_others(client_of, jobs):
    browser = client_of("view_jobstate", "retry_jobs", "discard_jobs")
    for url in (changelist("jobstate"), page("jobstate", jobs["ready"])):
        response = browser.get(url)
        assert response.status_code == 200
        assert "a secret" not in response.content.decode()


@pytest.mark.parametrize("lookup", ["icontains", "regex", "startswith"])
def test_arguments_cannot_be_guessed_by_filtering(client_of, lookup):
    browser = client_of("view_jobstate")
    guesses = [
        browser.get(changelist("jobstate"), {f"arguments__{lookup}": guess}, follow=True)
        for guess in ('{"args"', "wrong guess")
    ]
    # The rows of the list, None where there is no list.
    right, wrong = (
        response.context and [job.pk for job in response.context["cl"].result_list]
        for response in guesses
    )
    assert right == wrong


# Text of others.


@pytest.fixture
def hostile(queue, sql):
    """A failed and a ready job, a process and a limit, all named in HTML."""
    process = sql(
        "select steady_queue_register_process('worker', %s, null, %s, 1)", HOSTILE, HOSTILE
    )[0][0]
    names = {"task": HOSTILE, "queue": HOSTILE, "args": json.dumps([HOSTILE])}
    failed = queue.enqueue(**names)
    error = dict.fromkeys(("exception_class", "message", "traceback"), HOSTILE)
    queue.finish(queue.claim(process, HOSTILE), json.dumps(error))
    [limited] = queue.enqueue_limited(HOSTILE, queue=HOSTILE)
    sql("select steady_queue_schedule_task(%s, %s, '0 3 * * *')", HOSTILE, HOSTILE)
    return {"failed": failed, "limited": limited, "process": process}


def test_html_in_names_arguments_and_errors_is_escaped_everywhere(superuser, hostile):
    superuser.post(changelist("queue"), chosen("pause", HOSTILE))
    rows = [
        ("jobstate", hostile["failed"]),
        ("jobstate", hostile["limited"]),
        ("queue", HOSTILE),
        ("process", hostile["process"]),
        ("schedule", HOSTILE),
    ]
    shown = [
        *map(changelist, MODELS),
        f"{changelist('jobstate')}?q={HOSTILE}",
        *(page(*row) for row in rows),
    ]
    for url in shown:
        content = superuser.get(url).content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content, url
    for url in (*shown, *(page(*row, "history") for row in rows), reverse("admin:index")):
        response = superuser.get(url)
        assert response.status_code == 200
        assert HOSTILE not in response.content.decode(), url


def test_html_in_names_is_escaped_in_what_an_action_answers(superuser, hostile):
    for model, action, key in (
        ("jobstate", "retry", hostile["failed"]),
        ("jobstate", "discard", hostile["limited"]),
        ("queue", "pause", HOSTILE),
        ("queue", "resume", HOSTILE),
        ("schedule", "pause", HOSTILE),
        ("schedule", "resume", HOSTILE),
        ("schedule", "run_now", HOSTILE),
    ):
        response = superuser.post(changelist(model), chosen(action, key), follow=True)
        assert response.status_code == 200
        assert HOSTILE not in response.content.decode()
