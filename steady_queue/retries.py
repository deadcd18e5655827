from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from steady_queue.task import SteadyQueueTask, is_own_task

type Wait = Literal["exponential"] | timedelta | Callable[[int], timedelta]

LONGEST_WAIT = timedelta(hours=1)

FAR_OFF = 36_500 * 86_400.0
"""Seconds: a wait beyond this would be past what a timestamp can hold."""


class Retry(Exception):
    """Raised by a task to be run again after a span, whatever its decorators say of errors.

    It counts as an attempt; ``attempts`` of the task's first ``@retry_on``, if it has one, still
    ends it. Without one there is no end: the task decides by ``context.attempt``.
    """

    def __init__(self, after: timedelta = timedelta(0)) -> None:
        super().__init__(f"retry after {after}")
        self.after = after


@dataclass(frozen=True)
class RetryPolicy:
    """What becomes of a task that raised one of ``exceptions``."""

    exceptions: tuple[type[BaseException], ...]
    attempts: int
    wait: Wait
    jitter: float

    def retry_in(self, attempt: int) -> float | None:
        """Seconds until the next try, after this many attempts; None when it was the last."""
        if attempt >= self.attempts:
            return None
        spread = 1 + random.uniform(-self.jitter, self.jitter)
        return _seconds(self._wait(attempt).total_seconds() * spread)

    def _wait(self, attempt: int) -> timedelta:
        if isinstance(self.wait, timedelta):
            return self.wait
        if callable(self.wait):
            return self.wait(attempt)
        return exponential(attempt)


def exponential(attempt: int) -> timedelta:
    """attempt ** 4 + 2 seconds, at most an hour: 3 s, 18 s, 83 s, 258 s, 627 s ...

    The formula of Rails' ``retry_on(wait: :polynomially_longer)``, which Sidekiq had before it.
    """
    return min(timedelta(seconds=min(attempt, 10) ** 4 + 2), LONGEST_WAIT)


def retry_on(
    *exceptions: type[BaseException],
    attempts: int = 5,
    wait: Wait = "exponential",
    jitter: float = 0.15,
) -> Callable[[SteadyQueueTask], SteadyQueueTask]:
    """Run the task again when it raises one of ``exceptions``. Applied outside ``@task()``::

        @retry_on(ConnectionError, attempts=5)
        @discard_on(Order.DoesNotExist)
        @task()
        def send_receipt(order_id: int): ...

    ``attempts`` counts the first. ``wait`` is a timedelta, ``"exponential"`` (attempt ** 4 + 2
    seconds, at most an hour: 3 s, 18 s, 83 s ...), or a callable that takes the number of attempts
    so far and returns a timedelta. ``jitter`` spreads the wait by that part of it, up and down.
    While it waits the job is scheduled and holds no slot of a limit. Stackable for different
    exceptions; the outermost that fits decides.

    Raises ValueError or TypeError where the decorator is used, for arguments that cannot work.
    """
    _validate_exceptions("retry_on", exceptions)
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValueError(f"expected attempts to be a whole number of at least 1, got {attempts!r}")
    if not (wait == "exponential" or callable(wait) or _is_span(wait)):
        raise ValueError(
            f"expected wait to be 'exponential', a timedelta or a callable, got {wait!r}"
        )
    if not 0 <= jitter <= 1:
        raise ValueError(f"expected jitter between 0 and 1, got {jitter!r}")
    return _add("retry_on", RetryPolicy(exceptions, attempts, wait, jitter))


def discard_on(
    *exceptions: type[BaseException],
) -> Callable[[SteadyQueueTask], SteadyQueueTask]:
    """End the task as discarded, not failed, when it raises one of ``exceptions``.

    Applied outside ``@task()``. The error is kept all the same.
    """
    _validate_exceptions("discard_on", exceptions)
    return _add("discard_on", DiscardPolicy(exceptions))


@dataclass(frozen=True)
class DiscardPolicy:
    exceptions: tuple[type[BaseException], ...]


def _validate_exceptions(name: str, exceptions: tuple[Any, ...]) -> None:
    if not exceptions:
        raise ValueError(f"@{name} needs at least one exception class")
    for kind in exceptions:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"@{name} needs exception classes, got {kind!r}")


def _is_span(wait: Any) -> bool:
    return isinstance(wait, timedelta) and wait >= timedelta(0)


def _add(
    name: str, policy: RetryPolicy | DiscardPolicy
) -> Callable[[SteadyQueueTask], SteadyQueueTask]:
    def add(task: SteadyQueueTask) -> SteadyQueueTask:
        if not is_own_task(f"@{name}", task):
            return task
        return replace(task, policies=(policy, *task.policies))

    return add


def verdict(task: SteadyQueueTask, error: BaseException, attempt: int) -> tuple[bool, float | None]:
    """Whether to discard the job, and else in how many seconds to retry it (None: it failed)."""
    policies = (*task.policies, *_from_options(task))
    if isinstance(error, Retry):
        most = next((p.attempts for p in policies if isinstance(p, RetryPolicy)), None)
        ended = most is not None and attempt >= most
        return False, None if ended else _seconds(error.after.total_seconds())
    policy = next((p for p in policies if isinstance(error, p.exceptions)), None)
    if isinstance(policy, DiscardPolicy):
        return True, None
    return False, policy.retry_in(attempt) if policy else None


def _seconds(wait: float) -> float:
    return min(max(0.0, wait), FAR_OFF)


def _from_options(task: SteadyQueueTask) -> tuple[RetryPolicy, ...]:
    """What ``@task(max_attempts=..., backoff=...)`` of Django 6.1 says."""
    if task.max_attempts is None:
        return ()
    wait: Wait = "exponential" if task.backoff is None else task.backoff
    return (RetryPolicy((Exception,), task.max_attempts, wait, 0.15),)
