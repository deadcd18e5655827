"""This project."""

from __future__ import annotations

from typing import Any

from django_peer import DjangoPeer, limit_by_decorator, options


class Peer(DjangoPeer):
    requirements = []
    workers = {"default": [[None]], "best": [[{"processes": 2}]]}
    left = """
        select (select count(*) from steady_queue_ready)
          + (select count(*) from steady_queue_running)"""
    command = "steady_queue"
    fast = limits = True
    limit = staticmethod(limit_by_decorator)

    @staticmethod
    def configure(settings: dict[str, Any]) -> None:
        settings["INSTALLED_APPS"] += ["steady_queue", "bench_tasks"]
        # Its producers prepare their statements, as plain SQL, pgqueuer and procrastinate do.
        settings["DATABASES"]["default"]["OPTIONS"] = {"prepare_threshold": 5}
        settings["TASKS"] = {
            "default": {"BACKEND": "steady_queue.backend.SteadyQueueBackend", "QUEUES": []}
        }
        if options():
            settings["STEADY_QUEUE"] = {"workers": [options()]}
