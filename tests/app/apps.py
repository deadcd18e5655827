import os

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    name = "tests.app"

    def ready(self):
        if seconds := os.environ.get("TEST_STEADY_AFTER"):
            from steady_queue.processes import supervisor

            supervisor.STEADY_AFTER = float(seconds)
