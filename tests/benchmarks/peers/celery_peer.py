"""Celery with Redis as its broker, and no store of results."""

from __future__ import annotations

from typing import Any

from peer import BasePeer, dsn, record

LEAN = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--pool=solo"]


def _app() -> Any:
    from celery import Celery

    app = Celery("bench", broker=dsn())
    app.conf.broker_connection_retry_on_startup = True

    @app.task(name="noop", ignore_result=True)
    def noop(number: int) -> None:
        record(number)

    return app


class Peer(BasePeer):
    store = "redis"
    requirements = ["celery[redis]"]
    # Two workers without a process that hands out: the best of seven tried.
    workers = {
        "default": [[]],
        "best": [[*LEAN, "--hostname=one"], [*LEAN, "--hostname=two"]],
    }
    jobs = {"default": 5000, "best": 10_000}
    left = "llen celery\nhlen unacked"
    bulk = False

    def install(self) -> None:
        """Nothing: it makes what it needs."""

    def connect(self) -> None:
        self.noop = _app().tasks["noop"]

    def enqueue(self, number: int) -> None:
        self.noop.delay(number)

    def work(self, *options: str) -> None:
        _app().worker_main(["worker", "--loglevel=WARNING", *options])
