from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def _positive(name: str, value: Any, kind: type = int) -> None:
    wrong = isinstance(value, bool) or not isinstance(value, kind)
    if wrong or not value > (timedelta(0) if kind is timedelta else 0):
        raise ImproperlyConfigured(
            f"STEADY_QUEUE: expected {name} to be a positive {kind.__name__}, got {value!r}"
        )


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ImproperlyConfigured(f"STEADY_QUEUE: expected {name} to be a list, got {value!r}")
    return list(value)


@dataclass
class RecurringTask:
    """One schedule, as ``@recurring`` declares it."""

    key: str
    class_name: str
    schedule: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    queue_name: str | None = None
    priority: int | None = None
    description: str | None = None


@dataclass
class Worker:
    """``processes`` processes of ``threads`` threads that serve ``queues``.

    ``queues`` lists names in order of preference; a name that ends in ``*`` is a prefix, and ``*``
    alone is any queue. ``polling_interval`` is how often to look without having been notified.
    """

    queues: list[str] | str = field(default_factory=lambda: ["*"])
    threads: int = 3
    processes: int = 1
    polling_interval: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        if isinstance(self.queues, str):
            self.queues = [self.queues]
        self.queues = _list("a worker's queues", self.queues)
        if not self.queues or not all(isinstance(q, str) and q for q in self.queues):
            raise ImproperlyConfigured(
                f"STEADY_QUEUE: expected a worker's queues to be names, got {self.queues!r}"
            )
        _positive("a worker's threads", self.threads)
        _positive("a worker's processes", self.processes)
        _positive("a worker's polling_interval", self.polling_interval, timedelta)


@dataclass
class Dispatcher:
    """Moves due jobs to ready, ``batch_size`` at a time, maintains limits and clears history."""

    polling_interval: timedelta = timedelta(minutes=1)
    batch_size: int = 500
    concurrency_maintenance: bool = True
    concurrency_maintenance_interval: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        _positive("a dispatcher's polling_interval", self.polling_interval, timedelta)
        _positive("a dispatcher's batch_size", self.batch_size)
        _positive(
            "a dispatcher's concurrency_maintenance_interval",
            self.concurrency_maintenance_interval,
            timedelta,
        )


@dataclass
class Options:
    """What ``STEADY_QUEUE`` holds: which processes one supervisor starts."""

    workers: list[Worker] = field(default_factory=lambda: [Worker()])
    dispatchers: list[Dispatcher] = field(default_factory=lambda: [Dispatcher()])
    recurring_tasks: list[RecurringTask] | None = None
    only_work: bool = False
    only_dispatch: bool = False
    skip_recurring: bool = False

    def __post_init__(self) -> None:
        self.workers = _build_all(Worker, self.workers, "workers")
        self.dispatchers = _build_all(Dispatcher, self.dispatchers, "dispatchers")
        if self.recurring_tasks is not None:
            self.recurring_tasks = _build_all(
                RecurringTask, self.recurring_tasks, "recurring_tasks"
            )


def _build_all[T](kind: type[T], values: Any, path: str) -> list[T]:
    return [_build(kind, value, path) for value in _list(path, values)]


def _build[T](kind: type[T], value: Any, path: str) -> T:
    """The options as an object: a mapping is taken too, and an unknown name is refused."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise ImproperlyConfigured(
            f"STEADY_QUEUE: expected {path} to hold {kind.__name__}, got {value!r}"
        )
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    for name in value:
        if name not in known:
            raise ImproperlyConfigured(
                f"STEADY_QUEUE: unknown option {path}.{name}; known: {', '.join(sorted(known))}"
            )
    return kind(**value)


_Options = Options


class Configuration:
    """The names that a settings file uses: ``Configuration.Options(workers=[...])``."""

    Options = Options
    Worker = Worker
    Dispatcher = Dispatcher
    RecurringTask = RecurringTask

    @staticmethod
    def from_settings() -> _Options:
        """What ``settings.STEADY_QUEUE`` says, or the defaults.

        Raises ImproperlyConfigured, with the path of the option.
        """
        value = getattr(settings, "STEADY_QUEUE", None)
        return _build(Options, value if value is not None else {}, "STEADY_QUEUE")
