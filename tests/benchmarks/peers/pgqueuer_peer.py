"""pgqueuer: coroutines on asyncpg, without Django."""

from __future__ import annotations

import asyncio
from typing import Any

from peer import BasePeer, parameters, record


async def _connect() -> Any:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver

    given = parameters()
    return AsyncpgDriver(
        await asyncpg.connect(
            host=given["host"],
            port=int(given["port"]),
            user=given["user"],
            database=given["dbname"],
        )
    )


class Peer(BasePeer):
    requirements = ["pgqueuer", "asyncpg", "uvloop"]
    workers = {"default": [[10]], "best": [[200], [200]]}
    fast = True
    left = "select count(*) from pgqueuer"

    def connect(self) -> None:
        from pgqueuer.queries import Queries

        self.run = asyncio.new_event_loop().run_until_complete
        self.queries = Queries(self.run(_connect()))

    def install(self) -> None:
        self.connect()
        self.run(self.queries.install())

    def enqueue(self, number: int) -> None:
        self.run(self.queries.enqueue("noop", b"%d" % number))

    def enqueue_many(self, numbers: range) -> None:
        names = ["noop"] * len(numbers)
        payloads = [b"%d" % number for number in numbers]
        self.run(self.queries.enqueue(names, payloads, [0] * len(numbers)))

    def work(self, at_once: int) -> None:
        import uvloop

        uvloop.run(self._work(at_once))

    async def _work(self, at_once: int) -> None:
        from pgqueuer import PgQueuer

        queue = PgQueuer(await _connect())

        @queue.entrypoint("noop")
        async def noop(job: Any) -> None:
            record(int(job.payload))

        await queue.run(batch_size=at_once)
