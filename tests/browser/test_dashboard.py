"""The admin in a real browser, on the test database."""

import json

import pytest
from django.contrib.admin.models import LogEntry

from tests.browser import believable
from tests.browser.conftest import DASHBOARD

ERROR = {"exception_class": "builtins.ValueError", "message": "boom", "traceback": "Traceback ..."}
POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'"

EVERY = 200
"""Milliseconds between two looks of the page, which open_page has set."""


def expect(locator):
    from playwright.sync_api import expect

    return expect(locator)


def count(page, queue, state):
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=queue, exact=True))
    return row.locator(f"[data-count={state}]")


def test_a_queue_is_seen_to_grow_and_to_drain(open_page, jobs, keep_screenshot):
    jobs.enqueue(queue="mail")
    page = open_page()
    expect(count(page, "mail", "ready")).to_have_text("1")
    jobs.enqueue(queue="mail")
    jobs.enqueue(queue="receipts")
    expect(count(page, "mail", "ready")).to_have_text("2")
    expect(count(page, "receipts", "ready")).to_have_text("1")
    claimed = jobs.claim(jobs.process(), "mail")
    expect(count(page, "mail", "running")).to_have_text("2")
    keep_screenshot(page)
    jobs.finish(claimed)
    expect(count(page, "mail", "running")).to_have_text("0")
    expect(count(page, "mail", "ready")).to_have_text("0")


def test_a_failure_is_found_read_and_retried(open_page, jobs, keep_screenshot):
    job = jobs.enqueue(queue="mail")
    jobs.finish(jobs.claim(jobs.process()), json.dumps(ERROR))
    page = open_page()
    page.get_by_role("region", name="Latest failures").get_by_role("link", name=str(job)).click()
    expect(page.get_by_text("Attempt 1: builtins.ValueError: boom")).to_be_visible()
    keep_screenshot(page)
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("1 of 1 jobs are ready again.")).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    assert jobs.state(job) == "ready"
    assert LogEntry.objects.get().change_message == "retried"


def test_a_queue_is_paused_and_resumed(open_page, jobs, keep_screenshot):
    jobs.enqueue(queue="mail")
    page = open_page(f"{DASHBOARD}?span=day")
    page.get_by_role("button", name="Pause queue mail", exact=True).click()
    expect(page.get_by_role("button", name="Resume queue mail", exact=True)).to_be_visible()
    keep_screenshot(page)
    assert page.url.endswith(f"{DASHBOARD}?span=day")
    assert jobs.claim(jobs.process(), "mail") == {}
    page.get_by_role("button", name="Resume queue mail", exact=True).click()
    expect(page.get_by_role("button", name="Pause queue mail", exact=True)).to_be_visible()
    assert len(jobs.claim(jobs.process(), "mail")) == 1


def brightness(page, expression):
    """Of a colour that the browser has worked out, 0 to 255."""
    colour = page.evaluate(f"() => {expression}")
    return sum(map(int, colour[colour.index("(") + 1 : -1].split(", ")[:3])) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_by_day_and_by_night(open_page, jobs, keep_screenshot, scheme):
    believable.fill(jobs)
    page = open_page(color_scheme=scheme)
    expect(page.get_by_role("img")).to_have_count(3)
    keep_screenshot(page)
    ground = brightness(page, "getComputedStyle(document.body).backgroundColor")
    assert (ground < 128) == (scheme == "dark")
    for kind in ("finished", "half", "most", "failed"):
        line = f"getComputedStyle(document.querySelector('.sq-line.sq-{kind}')).stroke"
        assert abs(brightness(page, line) - ground) > 60, kind
    axis = "getComputedStyle(document.querySelector('.sq-up')).fill"
    assert abs(brightness(page, axis) - ground) > 60


def asked(page):
    """Requests for the sections, as they are made."""
    requests = []
    page.on(
        "request", lambda request: requests.append(request) if "/live/" in request.url else None
    )
    return requests


def hide(page, hidden):
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_hidden_page_asks_for_nothing_until_it_is_seen_again(open_page, jobs):
    page = open_page("/admin/")
    page.clock.install()
    page.goto(page.url + "steady_queue/dashboard/")
    requests = asked(page)

    def hide_meanwhile(route):
        hide(page, True)
        route.continue_()

    page.route("**/live/", hide_meanwhile, times=1)
    with page.expect_response("**/live/"):
        page.clock.run_for(EVERY)
    page.clock.run_for(10 * EVERY)
    assert len(requests) == 1
    with page.expect_response("**/live/"):
        hide(page, False)
    hide(page, True)
    page.clock.run_for(10 * EVERY)
    assert len(requests) == 2


def test_focus_stays_where_it_is_while_the_page_is_refreshed(open_page, jobs):
    jobs.enqueue(queue="mail")
    page = open_page()
    page.get_by_role("button", name="Pause queue mail", exact=True).focus()
    jobs.enqueue(queue="mail")
    expect(count(page, "mail", "ready")).to_have_text("2")
    expect(page.get_by_role("button", name="Pause queue mail", exact=True)).to_be_focused()


def test_it_works_under_a_strict_content_security_policy(open_page, jobs):
    jobs.enqueue(queue="mail")
    page = open_page("/admin/")

    def add_policy(route):
        response = route.fetch()
        headers = {**response.headers, "content-security-policy": POLICY}
        route.fulfill(response=response, headers=headers)

    page.route(f"**{DASHBOARD}", add_policy)
    with page.expect_response("**/live/"):
        page.goto(page.url + "steady_queue/dashboard/")
    jobs.enqueue(queue="mail")
    # The fixture sees to it that nothing was refused.
    expect(count(page, "mail", "ready")).to_have_text("2")


def test_without_javascript_it_shows_the_same(open_page, jobs):
    jobs.enqueue(queue="mail")
    page = open_page(java_script_enabled=False)
    expect(count(page, "mail", "ready")).to_have_text("1")
    expect(page.get_by_role("img")).to_have_count(3)
    page.get_by_role("link", name="Past week").click()
    expect(page.get_by_role("heading", name="All queues, the past week")).to_be_visible()


def test_all_that_match_are_discarded_beyond_what_is_listed(open_page, jobs, monkeypatch):
    monkeypatch.setattr("steady_queue.admin.search.LISTED", 60)
    bulk = [jobs.enqueue(queue="bulk") for _ in range(70)]
    other = jobs.enqueue(queue="mail")
    page = open_page("/admin/steady_queue/jobstate/?queue=bulk")
    page.locator("#action-toggle").check()
    page.get_by_text("Select all that match").click()
    page.get_by_label("Action:").select_option("discard")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("70 of 70 jobs were discarded.")).to_be_visible()
    assert set(jobs.states(*bulk)) == {"discarded"}
    assert jobs.state(other) == "ready"
