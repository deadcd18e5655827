from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.servers.basehttp import ThreadedWSGIServer
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from steady_queue.admin import dashboard
from tests.conftest import PATIENCE, Queue, connect

CHROMIUM = Path(os.environ.get("TEST_CHROMIUM", "/usr/bin/chromium"))
SCREENSHOTS = Path(__file__).parent / "screenshots"

DASHBOARD = "/admin/steady_queue/dashboard/"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no chromium at {CHROMIUM}: apt-get install chromium, or set TEST_CHROMIUM")
    playwright.expect.set_options(timeout=PATIENCE * 1000)
    # Its event loop is there in the test's thread, in which Django is asked nothing meanwhile.
    with pytest.MonkeyPatch.context() as patch, playwright.sync_playwright() as driver:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def live_server(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    """A server for one test, which has answered what it was asked before tables are emptied."""
    monkeypatch.setattr(ThreadedWSGIServer, "daemon_threads", False)
    server = LiveServer("localhost")
    yield server
    server.stop()


@pytest.fixture
def open_page(
    chromium: Any,
    live_server: LiveServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Any]]:
    """Opens a page of the admin as a superuser; fails in the end if it has met an error."""
    monkeypatch.setattr(dashboard, "EVERY", timedelta(milliseconds=200))
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    errors: list[str] = []
    contexts: list[Any] = []

    def make(path: str = DASHBOARD, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE * 1000)
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}]
        )
        page = context.new_page()
        page.on("console", lambda said: errors.append(said.text) if is_error(said) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(live_server.url + path)
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


def is_error(said: Any) -> bool:
    return said.type == "error" and not said.location["url"].endswith("/favicon.ico")


@pytest.fixture
def jobs(transactional_db: None) -> Iterator[Queue]:
    """The SQL functions, in a session of the test's own."""
    with connect(autocommit=True) as connection:

        def run(statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

        yield Queue(run)


@pytest.fixture
def keep_screenshot(request: pytest.FixtureRequest) -> Callable[[Any], Path]:
    """Keeps what a page looks like, under the name of the test."""

    def keep(page: Any) -> Path:
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{request.node.name.removeprefix('test_')}.png"
        page.screenshot(path=path, full_page=True)
        return path

    return keep
