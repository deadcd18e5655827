"""The floor: one narrow table, nothing but SQL, the same durability."""

from __future__ import annotations

from peer import BasePeer, dsn, record

TABLE = """
    create table job (
      id bigint generated always as identity primary key, number bigint not null,
      task text not null default 'noop', running boolean not null default false);
    create index job_waiting on job (id) where not running;
"""
CLAIM = """
    update job set running = true
    where id in (select id from job where not running order by id limit %s for update skip locked)
    returning id, number
"""


class Peer(BasePeer):
    requirements = ["psycopg[binary]"]
    workers = {"default": [[1]], "best": [[200], [200]]}
    jobs = {"default": 5000, "best": 20_000}
    fast = True
    left = "select count(*) from job"

    def connect(self) -> None:
        import psycopg

        self.connection = psycopg.connect(dsn(), autocommit=True)

    def install(self) -> None:
        self.connect()
        self.connection.execute(TABLE)

    def enqueue(self, number: int) -> None:
        self.connection.execute(
            "with one as (insert into job (number) values (%s) returning id)"
            " select pg_notify('job', '') from one",
            [number],
            prepare=True,
        )

    def enqueue_many(self, numbers: range) -> None:
        self.connection.execute(
            "insert into job (number) select unnest(%s::bigint[])", [list(numbers)], prepare=True
        )
        self.connection.execute("notify job")

    def work(self, at_once: int) -> None:
        self.connect()
        self.connection.execute("listen job")
        while True:
            jobs = self.connection.execute(CLAIM, [at_once], prepare=True).fetchall()
            for _, number in jobs:
                record(number)
            if jobs:
                ids = [job for job, _ in jobs]
                self.connection.execute("delete from job where id = any(%s)", [ids], prepare=True)
            else:
                next(self.connection.notifies(timeout=5, stop_after=1), None)
