"""A task queue for Django that lives in PostgreSQL.

The settings below are module attributes: assign to them in the project's settings file, for
example ``steady_queue.shutdown_timeout = timedelta(seconds=30)``.
"""

from datetime import timedelta

__version__ = "1.0.0.dev0"

database: str = "default"
"""Alias in ``DATABASES`` of the database that holds the queue."""

listen_database: str | None = None
"""Alias in ``DATABASES`` with the direct address of the same database, for ``LISTEN``; needed where
that of ``database`` leads through a transaction pooler."""

process_heartbeat_interval: timedelta = timedelta(seconds=7.5)
"""How often a supervisor says that it and its children are alive; twice as often where another has
fallen silent, whose jobs it would put back."""

process_alive_threshold: timedelta = timedelta(seconds=30)
"""How long a process may be silent before the others put its jobs back."""

shutdown_timeout: timedelta = timedelta(seconds=5)
"""How long running tasks may go on after TERM or INT."""

preserve_finished_jobs: bool = True
"""Whether jobs that succeeded are kept as history."""

clear_finished_jobs_after: timedelta | None = timedelta(days=1)
"""How long successful jobs are kept; None keeps them for ever."""

clear_failed_jobs_after: timedelta | None = timedelta(days=30)
"""How long failed and discarded jobs are kept; None keeps them for ever."""

default_concurrency_control_period: timedelta = timedelta(minutes=3)
"""How long a slot of ``@limits_concurrency`` is guaranteed unless the decorator says otherwise."""

default_task_timeout: timedelta | None = None
"""How long a task may run unless it says so itself; None: for as long as it likes."""

max_lost_starts: int = 3
"""How many times a job may take its process down with it before it is failed."""

monitoring_token: str | None = None
"""What ``/metrics`` and ``/stats.json`` of ``steady_queue.urls`` ask for; None closes them."""

tracing: bool = False
"""Whether enqueueing and performing make spans, with the API of OpenTelemetry."""

supervisor_pidfile: str | None = None
"""Where ``steady_queue start`` writes its process id; a second supervisor is refused."""
