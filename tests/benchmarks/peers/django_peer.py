"""What peers that are backends of Django's tasks framework have in common."""

from __future__ import annotations

import json
import os
from typing import Any

from peer import BasePeer


class DjangoPeer(BasePeer):
    command = ""

    @staticmethod
    def configure(settings: dict[str, Any]) -> None:
        """Add to Django's settings what the product needs."""
        raise NotImplementedError

    @staticmethod
    def limit(function: Any, to: int) -> Any:
        """A task of the function, of which so many may run at once where it ``limits``."""
        from django.tasks import task

        return task()(function)

    def _django(self) -> None:
        import django

        os.environ["DJANGO_SETTINGS_MODULE"] = "bench_settings"
        django.setup()

    def connect(self) -> None:
        self._django()
        from bench_tasks import limited, noop

        self.noop, self.limited = noop, limited

    def install(self) -> None:
        self._django()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def enqueue(self, number: int) -> None:
        self.noop.enqueue(number)

    def enqueue_many(self, numbers: range) -> None:
        self.noop.get_backend().enqueue_all([(self.noop, [number], {}) for number in numbers])

    def enqueue_limited(self, numbers: range, to: int) -> None:
        for number in numbers:
            self.limited[to].enqueue(number)

    def work(self, options: Any) -> None:
        os.environ["BENCH_OPTIONS"] = json.dumps(options)
        self._django()
        from django.core.management import call_command

        call_command(self.command)


def limit_by_decorator(function: Any, to: int) -> Any:
    """As this project and its predecessor do, whose decorators are the same."""
    from steady_queue.concurrency import limits_concurrency

    return limits_concurrency(key="bench", to=to)(DjangoPeer.limit(function, to))


def options() -> Any:
    return json.loads(os.environ.get("BENCH_OPTIONS", "null"))
