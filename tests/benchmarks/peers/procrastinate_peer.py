"""procrastinate: an async worker on psycopg."""

from __future__ import annotations

import asyncio
from typing import Any

from peer import BasePeer, dsn, record


def _app(connector: str) -> Any:
    import procrastinate

    app = procrastinate.App(connector=getattr(procrastinate, connector)(conninfo=dsn()))

    @app.task(name="noop")
    async def noop(number: int) -> None:
        record(number)

    return app


class Peer(BasePeer):
    requirements = ["procrastinate", "psycopg[binary,pool]"]
    workers = {"default": [[1]], "best": [[30], [30]]}
    jobs = {"default": 5000, "best": 10_000}
    left = "select count(*) from procrastinate_jobs where status <> 'succeeded'"

    def connect(self) -> None:
        self.app = _app("SyncPsycopgConnector")
        self.app.open()
        self.task = self.app.tasks["noop"]

    def install(self) -> None:
        self.connect()
        self.app.schema_manager.apply_schema()

    def enqueue(self, number: int) -> None:
        self.task.defer(number=number)

    def enqueue_many(self, numbers: range) -> None:
        self.task.batch_defer(*[{"number": number} for number in numbers])

    def work(self, concurrency: int) -> None:
        asyncio.run(self._work(concurrency))

    async def _work(self, concurrency: int) -> None:
        app = _app("PsycopgConnector")
        async with app.open_async():
            await app.run_worker_async(concurrency=concurrency)
