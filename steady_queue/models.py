"""Models over the tables and views of ``sql/schema``, for the admin and for queries.

They are for reading. Every change goes through a function of ``sql/schema``, by way of ``queries``.
"""

from typing import Any

from django.db import models


class JSONText(models.JSONField):
    """A column of type ``json``, which psycopg has decoded already."""

    def db_type(self, connection: Any) -> str:
        return "json"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value


class Job(models.Model):
    """What was asked: one row a job, never updated."""

    task = models.TextField()
    backend = models.TextField(default="default")
    queue = models.TextField()
    priority = models.SmallIntegerField()
    arguments = JSONText()
    run_after = models.DateTimeField(null=True)
    enqueued_at = models.DateTimeField()
    limit_key = models.TextField(null=True)
    limit_to = models.IntegerField(null=True)
    limit_for = models.DurationField(null=True)
    limit_conflict = models.TextField(null=True)

    class Meta:
        db_table = "steady_queue_jobs"


class Lane(models.Model):
    """A (queue, priority) pair that was used."""

    id = models.IntegerField(primary_key=True)
    queue = models.TextField()
    priority = models.SmallIntegerField()
    express = models.BooleanField(default=False)
    mark = models.BigIntegerField(default=0)

    class Meta:
        db_table = "steady_queue_lanes"


class WaitingJob(models.Model):
    """What jobs that wait have in common."""

    job = models.OneToOneField(
        Job,
        models.DO_NOTHING,
        primary_key=True,
        db_column="job",
        db_constraint=False,
        related_name="%(class)s",
    )
    attempt = models.SmallIntegerField(default=0)
    lost_starts = models.SmallIntegerField(default=0)
    suspect = models.BooleanField(default=False)

    class Meta:
        abstract = True


class ReadyJob(WaitingJob):
    """A job that can run now."""

    lane = models.IntegerField()
    position = models.BigIntegerField()
    limit_key = models.TextField(null=True)
    holds_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "steady_queue_ready"


class ScheduledJob(WaitingJob):
    """A job that becomes ready at ``run_after``."""

    run_after = models.DateTimeField()

    class Meta:
        db_table = "steady_queue_scheduled"


class BlockedJob(WaitingJob):
    """A job that waits for a slot of its limit."""

    limit_key = models.TextField()
    priority = models.SmallIntegerField()
    blocked_at = models.DateTimeField()

    class Meta:
        db_table = "steady_queue_blocked"


class RunningJob(WaitingJob):
    """A job that a process has claimed."""

    claim = models.BigIntegerField()
    process = models.BigIntegerField()
    limit_key = models.TextField(null=True)
    slot = models.BigIntegerField(null=True)
    holds_until = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField()

    class Meta:
        db_table = "steady_queue_running"


class Outcome(models.Model):
    """How a job ended."""

    job = models.OneToOneField(
        Job,
        models.DO_NOTHING,
        primary_key=True,
        db_column="job",
        db_constraint=False,
        related_name="outcome",
    )
    status = models.TextField()
    attempt = models.SmallIntegerField()
    lost_starts = models.SmallIntegerField()
    process = models.BigIntegerField(null=True)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()

    class Meta:
        db_table = "steady_queue_outcomes"


class JobError(models.Model):
    """An attempt that did not succeed."""

    job = models.ForeignKey(
        Job,
        models.DO_NOTHING,
        db_column="job",
        db_constraint=False,
        db_index=False,
        related_name="job_errors",
    )
    attempt = models.SmallIntegerField()
    process = models.BigIntegerField(null=True)
    failed_at = models.DateTimeField()
    exception_class = models.TextField()
    message = models.TextField()
    traceback = models.TextField()

    class Meta:
        db_table = "steady_queue_errors"

    def __str__(self) -> str:
        return f"attempt {self.attempt}" if self.attempt else "lost start"


class Figures(models.Model):
    """What workers have done in a minute, for one queue and task."""

    minute = models.DateTimeField()
    queue = models.TextField()
    task = models.TextField()
    finished = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    waited = models.FloatField(default=0)
    ran = models.FloatField(default=0)

    class Meta:
        db_table = "steady_queue_figures"
        verbose_name_plural = "figures"


class Semaphore(models.Model):
    """The lock of a limit key."""

    limit_key = models.TextField(primary_key=True)

    class Meta:
        db_table = "steady_queue_semaphores"


class Pause(models.Model):
    """A queue from which nothing is claimed."""

    queue = models.TextField(primary_key=True)
    paused_at = models.DateTimeField()

    class Meta:
        db_table = "steady_queue_pauses"


class Process(models.Model):
    """A registered process."""

    kind = models.TextField()
    name = models.TextField()
    supervisor = models.BigIntegerField(null=True)
    host = models.TextField()
    pid = models.IntegerField()
    threads = models.IntegerField(default=0)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    steady_since = models.DateTimeField()

    class Meta:
        db_table = "steady_queue_processes"
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return self.name


class RecurringTask(models.Model):
    """A schedule, declared in code or at run time."""

    key = models.TextField(primary_key=True)
    task = models.TextField()
    schedule = models.TextField()
    timezone = models.TextField()
    arguments = JSONText()
    queue = models.TextField(null=True)
    priority = models.SmallIntegerField(null=True)
    backend = models.TextField(default="default")
    jitter = models.DurationField()
    missed = models.TextField(default="latest")
    description = models.TextField(default="")
    owner = models.TextField(null=True)
    declared_at = models.DateTimeField()
    paused_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    next_run_at = models.DateTimeField(null=True)
    last_run_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "steady_queue_recurring_tasks"

    def __str__(self) -> str:
        return self.key


class RecurringExecution(models.Model):
    """A run of a schedule, and the job that it became."""

    pk = models.CompositePrimaryKey("key", "run_at")
    key = models.TextField()
    run_at = models.DateTimeField()
    job = models.BigIntegerField(null=True)
    enqueued_at = models.DateTimeField()

    class Meta:
        db_table = "steady_queue_recurring_executions"


class JobState(models.Model):
    """Every job with its one state: the view ``steady_queue_all_jobs``."""

    state = models.TextField()
    task = models.TextField()
    queue = models.TextField()
    priority = models.SmallIntegerField()
    arguments = JSONText()
    enqueued_at = models.DateTimeField()
    run_after = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    attempt = models.SmallIntegerField()
    lost_starts = models.SmallIntegerField()
    process = models.BigIntegerField(null=True)
    limit_key = models.TextField(null=True)
    backend = models.TextField()

    class Meta:
        managed = False
        db_table = "steady_queue_all_jobs"
        verbose_name = "job"
        permissions = [
            ("view_arguments", "Can see the arguments of jobs"),
            ("retry_jobs", "Can retry jobs"),
            ("discard_jobs", "Can discard jobs"),
            ("run_jobs_now", "Can let scheduled jobs run now"),
            ("enqueue_copy", "Can enqueue copies of jobs"),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.pk}"


class Queue(models.Model):
    """A queue and how many jobs it holds: the view ``steady_queue_queues_at_a_glance``."""

    queue = models.TextField(primary_key=True)
    ready = models.BigIntegerField()
    scheduled = models.BigIntegerField()
    blocked = models.BigIntegerField()
    running = models.BigIntegerField()
    failed = models.BigIntegerField()
    finished_per_minute = models.FloatField()
    oldest_wait = models.DurationField(null=True)
    paused = models.BooleanField()

    class Meta:
        managed = False
        db_table = "steady_queue_queues_at_a_glance"
        permissions = [("pause_queues", "Can pause and resume queues")]

    def __str__(self) -> str:
        return self.queue


class Dashboard(Queue):
    """All of it on one page of the admin; with a permission of its own."""

    class Meta:
        proxy = True
        verbose_name_plural = "dashboard"


class Schedule(models.Model):
    """A schedule with its next and last run: the view ``steady_queue_recurring``."""

    key = models.TextField(primary_key=True)
    schedule = models.TextField()
    timezone = models.TextField()
    task = models.TextField()
    queue = models.TextField(null=True)
    next_run_at = models.DateTimeField(null=True)
    last_run_at = models.DateTimeField(null=True)
    last_job = models.BigIntegerField(null=True)
    last_state = models.TextField(null=True)
    paused = models.BooleanField()
    removed_at = models.DateTimeField(null=True)
    owner = models.TextField(null=True)
    description = models.TextField()

    class Meta:
        managed = False
        db_table = "steady_queue_recurring"
        permissions = [
            ("pause_schedules", "Can pause and resume schedules"),
            ("run_schedules_now", "Can let schedules run now"),
        ]

    def __str__(self) -> str:
        return self.key
