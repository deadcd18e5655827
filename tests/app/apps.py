import os
from importlib import import_module

from django.apps import AppConfig

CONSTANTS = {
    "TEST_STEADY_AFTER": ("steady_queue.processes.supervisor", "STEADY_AFTER"),
    "TEST_LEAVE_WITHIN": ("steady_queue.processes.supervisor", "LEAVE_WITHIN"),
    "TEST_QUIT_WITHIN": ("steady_queue.processes.supervisor", "QUIT_WITHIN"),
    "TEST_STOPS_WITHIN": ("steady_queue.timeouts", "STOPS_WITHIN"),
}
"""What no setting says, and tests want to be longer or shorter."""


class TestAppConfig(AppConfig):
    name = "tests.app"

    def ready(self):
        for variable, (module, name) in CONSTANTS.items():
            if seconds := os.environ.get(variable):
                held_by = import_module(module)
                setattr(held_by, name, type(getattr(held_by, name))(seconds))
