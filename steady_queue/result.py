"""Django's results, made for each job at either end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from django.tasks import TaskResult


@dataclass(frozen=True, kw_only=True)
class SteadyQueueResult(TaskResult):  # type: ignore[type-arg, misc]
    """Django's TaskResult, whose arguments may be more than JSON."""

    lost_starts: int = 0
    """How many starts were lost with their process. ``attempts`` and ``errors`` leave them out."""

    def __post_init__(self) -> None:
        """Keeps the arguments as given: Django's would refuse dates and model instances."""


# Instead of Django's slots, so that a result's values lie in its ``__dict__``.
for _field in fields(TaskResult):
    setattr(SteadyQueueResult, _field.name, None)


def make_result(**values: Any) -> SteadyQueueResult:
    """A result of these values; what is left out is None.

    The constructor of a frozen class takes five times as long.
    """
    result = object.__new__(SteadyQueueResult)
    object.__setattr__(result, "__dict__", values)
    return result


def change_result(result: SteadyQueueResult, **values: Any) -> None:
    """Give it these values. Nobody else's: a result is frozen for whoever is handed one."""
    vars(result).update(values)
