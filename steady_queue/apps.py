import logging
from typing import Any

from django.apps import AppConfig
from django.core import checks as django_checks
from django.db import connections
from django.db.models.signals import post_migrate


class SteadyQueueConfig(AppConfig):
    name = "steady_queue"
    verbose_name = "Steady Queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Registers Django's own check, which asks each backend for its messages.
        import django.tasks  # noqa: F401

        from steady_queue import checks
        from steady_queue.logs import JobFilter

        logging.getLogger("steady_queue").addFilter(JobFilter())
        django_checks.register(checks.check_configuration)
        django_checks.register(checks.check_database, django_checks.Tags.database)
        post_migrate.connect(ensure_lanes, sender=self)


def ensure_lanes(using: str, **kwargs: Any) -> None:
    """Make the lanes of all known tasks, so that their first jobs need no sorting."""
    import steady_queue
    from steady_queue import queries, task, tasks_modules

    if using == steady_queue.database and queries.is_installed(using):
        tasks_modules.load()
        with connections[using].cursor() as cursor:
            queries.ensure_lanes(cursor, task.known_lanes)
