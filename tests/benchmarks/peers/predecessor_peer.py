"""steady-queue 0.3.0: the earlier package of this project's name, by another design."""

from __future__ import annotations

from typing import Any

from django_peer import DjangoPeer, limit_by_decorator, options


class Peer(DjangoPeer):
    requirements = ["steady-queue==0.3.0", "psycopg[binary,pool]"]
    # The best of six tried.
    workers = {"default": [[None]], "best": [[{"processes": 2, "threads": 8}]]}
    jobs = {"default": 1000, "best": 3000, "limited": 1000}
    left = "select count(*) from steady_queue_job where finished_at is null"
    command = "steady_queue"
    bulk = False
    limits = True
    limit = staticmethod(limit_by_decorator)

    @staticmethod
    def configure(settings: dict[str, Any]) -> None:
        settings["INSTALLED_APPS"] += ["steady_queue"]
        settings["TASKS"] = {
            "default": {
                "BACKEND": "steady_queue.backend.SteadyQueueBackend",
                "QUEUES": ["default"],
                "OPTIONS": {},
            }
        }
        if options():
            _configure_workers(settings, **options())

    def enqueue_many(self, numbers: range) -> None:
        for number in numbers:
            self.enqueue(number)


def _configure_workers(settings: dict[str, Any], processes: int, threads: int) -> None:
    from datetime import timedelta

    from steady_queue.configuration import Configuration

    worker = Configuration.Worker(
        processes=processes, threads=threads, polling_interval=timedelta(seconds=0.1)
    )
    settings["STEADY_QUEUE"] = Configuration.Options(
        dispatchers=[Configuration.Dispatcher()], workers=[worker]
    )
    pool = {"min_size": 1, "max_size": threads + 3}
    settings["DATABASES"]["default"]["OPTIONS"] = {"pool": pool}
