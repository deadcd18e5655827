"""The dashboard, as it comes from the server; tests/browser look at it in a browser."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

import steady_queue
from steady_queue.admin import charts, dashboard
from steady_queue.queries import Throughput

HOSTILE = "<script>alert(1)</script>"
ERROR = {"exception_class": "builtins.ValueError", "message": "a secret", "traceback": "t"}
PAGE = "/admin/steady_queue/dashboard/"
LIVE = f"{PAGE}live/"


@pytest.fixture
def client_of(db):
    """A browser of somebody with these permissions of steady_queue."""

    def make(*permissions, **fields):
        user = User.objects.create_user("person", **{"is_staff": True, **fields})
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        browser = Client()
        browser.force_login(user)
        return browser

    return make


@pytest.fixture
def busy(queue, sql):
    """Something for each section; the jobs by what they are for."""
    worker = queue.process()
    sql("update steady_queue_processes set threads = 2, name = 'worker-1' where id = %s", worker)
    made = {}
    made["holds"], made["waits"] = queue.enqueue_limited("customer", queue="limits", count=2)
    queue.claim(worker, "limits")
    made["failed"] = queue.enqueue(task="shop.tasks.webhook", queue="hooks")
    queue.finish(queue.claim(worker), json.dumps(ERROR))
    queue.enqueue(queue="mail")
    queue.enqueue(queue="mail", args='["a secret"]')
    sql("select steady_queue_pause_queue('stopped')")
    sql("select steady_queue_schedule_task('nightly', 'shop.tasks.report', '0 3 * * *')")
    sql("""select steady_queue_add_figures('[{"queue": "mail", "task": "t", "finished": 600,
      "failed": 30, "waited": 9, "ran": 9, "waits": [0, 0, 600], "runs": [600]}]')""")
    # The charts leave a step out that has just begun.
    sql("update steady_queue_figures set minute = minute - interval '1 minute'")
    return made


def sections(browser, query=""):
    return browser.get(LIVE + query).json()["sections"]


def text(html):
    """What is read, without tags, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_the_index_leads_to_it(client_of):
    browser = client_of("view_dashboard")
    assert PAGE in browser.get(reverse("admin:app_list", args=["steady_queue"])).content.decode()


def test_it_shows_each_section_without_javascript(client_of, busy):
    content = client_of(is_superuser=True).get(PAGE).content.decode()
    shown = text(content)
    assert "mail 2 0 0 0 30 " in shown
    assert "stopped 0 0 0 0 0 0.0 - paused" in shown
    assert re.search(
        rf"worker-1 worker host, 1 - [\d.]+ s ago [\d.]+ s 1 of 2 {busy['holds']} t,", shown
    )
    assert "nightly 0 3 * * * UTC shop.tasks.report" in shown
    assert f"customer 1 {busy['holds']} 1 {busy['waits']}" in shown
    assert f"{busy['failed']} shop.tasks.webhook hooks" in shown
    assert content.count("<polyline") == 4


def test_what_is_live_is_what_the_page_shows(client_of, busy):
    browser = client_of(is_superuser=True)
    content = text(browser.get(PAGE).content.decode())
    answer = browser.get(LIVE)
    assert list(answer.json()["sections"]) == list(dashboard.SECTIONS)
    for name in ("schedules", "limits", "failures"):
        assert text(answer.json()["sections"][name]) in content
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("permissions", [(), ("view_queue", "view_jobstate", "pause_queues")])
@pytest.mark.parametrize("url", [PAGE, LIVE])
def test_who_may_not_view_it_does_not(client_of, url, permissions):
    assert client_of(*permissions).get(url).status_code == 403
    assert Client().get(url).status_code == 302


def test_nobody_sees_arguments_or_messages_of_errors_on_it(client_of, busy):
    browser = client_of(is_superuser=True)
    assert "a secret" not in browser.get(PAGE).content.decode()
    assert "a secret" not in str(sections(browser))


def test_keys_lead_to_schedules_and_numbers_to_jobs(client_of, busy):
    browser = client_of("view_dashboard", "view_schedule", "view_jobstate")
    shown = sections(browser)
    assert 'href="/admin/steady_queue/schedule/nightly/change/"' in shown["schedules"]
    for section, query in (
        ("queues", "queue=mail&amp;state=ready"),
        ("limits", "state=blocked&amp;q=customer"),
    ):
        assert f'href="/admin/steady_queue/jobstate/?{query}"' in shown[section]
        assert browser.get(f"/admin/steady_queue/jobstate/?{unescape(query)}").status_code == 200


def test_who_may_only_view_it_is_offered_no_link_to_jobs_and_no_button(client_of, busy):
    shown = str(sections(client_of("view_dashboard", "pause_queues")))
    assert "jobstate" not in shown
    assert "<button" not in shown
    assert "schedule/" not in shown


def test_a_queue_is_paused_and_resumed_by_its_button(client_of, busy):
    browser = client_of("view_dashboard", "view_queue", "pause_queues")
    for button, then in (("pause", "resume"), ("resume", "pause")):
        assert f'name="{button}" value="mail"' in sections(browser)["queues"]
        act = reverse("admin:steady_queue_queue_act")
        response = browser.post(act, {button: "mail", "next": PAGE})
        assert response.url == PAGE
        assert f'name="{then}" value="mail"' in sections(browser)["queues"]


def test_html_in_names_is_escaped_in_every_section(client_of, queue, sql):
    [number] = sql("select steady_queue_register_process('worker', %s, null, %s, 1, %s, 1)",
                   HOSTILE, HOSTILE, [HOSTILE])  # fmt: skip
    queue.enqueue(task=HOSTILE, queue=HOSTILE)
    queue.finish(queue.claim(number[0]), json.dumps({**ERROR, "exception_class": HOSTILE}))
    queue.enqueue_limited(HOSTILE, queue=HOSTILE, count=2)
    queue.claim(number[0])
    sql("select steady_queue_schedule_task(%s, %s, %s)", HOSTILE, HOSTILE, HOSTILE)
    browser = client_of(is_superuser=True)
    shown = sections(browser, f"?queue={HOSTILE}&span={HOSTILE}")
    for name, html in shown.items():
        assert "&lt;script&gt;" in html, name
        assert HOSTILE not in html, name
    assert HOSTILE not in browser.get(f"{PAGE}?queue={HOSTILE}").content.decode()


def test_it_brings_no_script_or_style_of_its_own_along(client_of, busy):
    browser = client_of(is_superuser=True)
    content = browser.get(PAGE).content.decode()
    main = content[content.index('<div id="steady-queue"') :]
    main = main[: main.index("</main>")]
    for html in (main, *sections(browser).values()):
        assert not re.search(r"<script|<style|\son\w+=|\sstyle=|https?:", html)


def test_a_count_that_was_cut_says_so(client_of, busy, monkeypatch):
    browser = client_of("view_dashboard")
    assert ">2</td>" in sections(browser)["queues"]
    monkeypatch.setattr(dashboard, "MOST", 2)
    assert ">2+</td>" in sections(browser)["queues"]


def test_python_knows_how_far_sql_counts(sql):
    [(definition,)] = sql("select pg_get_viewdef('steady_queue_queues_at_a_glance'::regclass)")
    assert f"({dashboard.MOST})" in definition or f"({dashboard.MOST}::" in definition


def test_a_silent_process_is_called_silent(client_of, busy, sql):
    browser = client_of("view_dashboard")
    assert "silent for" not in sections(browser)["processes"]
    sql(
        "update steady_queue_processes set heartbeat_at = now() - %s",
        steady_queue.process_alive_threshold * 2,
    )
    assert "silent for 1 min" in text(sections(browser)["processes"])


def test_charts_are_of_the_span_and_the_queue_asked_for(client_of, busy):
    browser = client_of("view_dashboard")
    for span in charts.SPANS:
        assert f"All queues, the past {span}" in sections(browser, f"?span={span}")["charts"]
    shown = sections(browser, "?queue=mail")["charts"]
    assert "Queue mail, the past hour" in shown
    assert "nothing" not in text(shown)
    assert "half (p50): nothing" in text(sections(browser, "?queue=hooks")["charts"])


NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
HOUR = charts.SPANS["hour"]


def done(minutes_ago, finished=0, failed=0, wait=None):
    wait = wait and timedelta(seconds=wait)
    at = NOW.replace(second=0) - timedelta(minutes=minutes_ago)
    return Throughput(at, finished, failed, wait, wait, None, None)


def points(chart, line=0):
    return [
        tuple(float(n) for n in point.split(","))
        for piece in chart.lines[line].pieces
        for point in piece.split()
    ]


def test_a_step_in_which_nothing_ended_is_zero_and_has_no_wait():
    finished, waited, _ = charts.draw([done(10, 50, wait=2.0), done(8, 100)], HOUR, NOW)
    shown = points(finished)
    assert len(shown) == 60
    assert [y for _, y in shown[48:53]] == [120, 60, 120, 0, 120]
    # One point, drawn twice to be seen.
    assert points(waited) == [(shown[49][0], 0.0)] * 2


def test_the_step_that_is_not_over_counts_by_how_long_it_has_lasted():
    finished, *_ = charts.draw([done(0, 50), done(1, 100)], HOUR, NOW)
    assert [y for _, y in points(finished)[-2:]] == [0, 0]
    assert finished.summary == "finished: last 100, most 100"


def test_a_step_that_has_just_begun_is_left_out():
    just = NOW.replace(second=5)
    finished, *_ = charts.draw([done(0, 50), done(1, 100)], HOUR, just)
    assert points(finished)[-1] == (charts.WIDTH, 0)
    assert len(points(finished)) == 60


def test_the_axis_ends_at_a_round_number():
    for most, top in ((0, "1"), (3, "5"), (10, "10"), (1234, "2,000")):
        finished, *_ = charts.draw([done(5, most)], HOUR, NOW)
        assert finished.up[-1].label == top


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0"), (0.0035, "3.5 ms"), (0.25, "250 ms"), (2.5, "2.5 s"), (600, "10 min"), (7200, "2 h")]
)  # fmt: skip
def test_spans_are_brief(seconds, said):
    assert charts.brief(seconds) == said
