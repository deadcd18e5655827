from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import steady_queue
from steady_queue.task import SteadyQueueTask, is_own_task, is_storable

LONGEST_DURATION = timedelta(days=36_500)
LONGEST_KEY = 1000
"""Characters of group and key together."""


def limits_concurrency(
    key: str | Callable[..., str],
    to: int = 1,
    duration: timedelta | None = None,
    group: str | None = None,
    on_conflict: Literal["block", "discard"] = "block",
) -> Callable[[SteadyQueueTask], SteadyQueueTask]:
    """Let at most ``to`` jobs with the same group and key run at once, on all hosts together.

    Applied outside ``@task()``::

        @limits_concurrency(key=lambda user_id: str(user_id), to=1)
        @task()
        def generate_report(user_id: int): ...

    ``key`` is a string, or a callable that takes the task's arguments and returns one.
    ``duration`` is how long a slot is guaranteed (default:
    ``steady_queue.default_concurrency_control_period``): past it, maintenance may give the slot
    on. ``group`` (default: the task's module path) shares a limit between tasks. With
    ``on_conflict="discard"`` a job that finds no free slot when it is claimed ends as discarded
    and never runs; with ``"block"`` it waits, highest priority first.

    Raises ValueError or TypeError where the decorator is used, for arguments that cannot work.
    """
    _validate(key, to, duration, group, on_conflict)

    def limit(task: SteadyQueueTask) -> SteadyQueueTask:
        if not is_own_task("@limits_concurrency", task):
            return task
        return replace(
            task,
            concurrency_key=key,
            concurrency_limit=to,
            concurrency_duration=duration,
            concurrency_group=group or task.module_path,
            concurrency_conflict=on_conflict,
        )

    return limit


def _validate(key: Any, to: Any, duration: Any, group: Any, on_conflict: Any) -> None:
    if not (callable(key) or isinstance(key, str)):
        raise TypeError(f"expected key to be a string or a callable, got {key!r}")
    if key == "":
        raise ValueError("expected key not to be empty")
    if isinstance(to, bool) or not isinstance(to, int) or not 1 <= to <= 2**31 - 1:
        raise ValueError(f"expected to to be a whole number of at least 1, got {to!r}")
    if duration is not None and not (
        isinstance(duration, timedelta) and timedelta(0) < duration <= LONGEST_DURATION
    ):
        raise ValueError(
            f"expected duration to be a positive timedelta of at most 100 years, got {duration!r}"
        )
    if group is not None and not (isinstance(group, str) and group):
        raise ValueError(f"expected group to be a non-empty string, got {group!r}")
    if on_conflict not in ("block", "discard"):
        raise ValueError(f"expected on_conflict to be 'block' or 'discard', got {on_conflict!r}")


def limit_key(task: SteadyQueueTask, args: Any, kwargs: Any) -> str | None:
    """What the job's slot is counted under, group and key together; None without a limit."""
    key = task.concurrency_key
    if key is None:
        return None
    value = key(*args, **kwargs) if callable(key) else key
    if not isinstance(value, str) or not value:
        raise ValueError(
            f"expected the concurrency key of {task.module_path} to be a non-empty string, "
            f"got {value!r}"
        )
    # The group's own colons are doubled, so that no two pairs give the same text.
    full = f"{(task.concurrency_group or '').replace(':', '::')}: {value}"
    if len(full) > LONGEST_KEY or not is_storable(full):
        raise ValueError(
            f"expected the concurrency key of {task.module_path} to be of at most {LONGEST_KEY} "
            f"characters, group included, without NUL and lone surrogates, got {value[:100]!r}"
        )
    return full


def limit_duration(task: SteadyQueueTask) -> timedelta:
    """How long a slot of this task is guaranteed."""
    return task.concurrency_duration or steady_queue.default_concurrency_control_period
