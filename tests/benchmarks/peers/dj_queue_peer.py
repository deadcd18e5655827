"""dj-queue: another backend of Django's tasks framework on PostgreSQL."""

from __future__ import annotations

from typing import Any

from django_peer import DjangoPeer, options


class Peer(DjangoPeer):
    requirements = ["dj-queue", "psycopg[binary,pool]"]
    # The best of a dozen tried.
    workers = {
        "default": [[None]],
        "best": [[{"threads": 20, "processes": 2, "prefetch_multiplier": 10}]],
    }
    jobs = {"default": 2000, "best": 20_000, "limited": 2000}
    left = "select count(*) from dj_queue_jobs where finished_at is null"
    command = "dj_queue"
    limits = True

    @staticmethod
    def configure(settings: dict[str, Any]) -> None:
        settings["INSTALLED_APPS"] += ["dj_queue"]
        settings["DATABASE_ROUTERS"] = ["dj_queue.routers.DjQueueRouter"]
        backend: dict[str, Any] = {"BACKEND": "dj_queue.backend.DjQueueBackend", "QUEUES": []}
        if options():
            backend["OPTIONS"] = {
                "workers": [{"queues": "*", "polling_interval": 0.1, **options()}]
            }
            settings["DATABASES"]["default"]["CONN_MAX_AGE"] = None
        settings["TASKS"] = {"default": backend}

    @staticmethod
    def limit(function: Any, to: int) -> Any:
        function.concurrency_key, function.concurrency_limit = "bench", to
        return DjangoPeer.limit(function, to)
