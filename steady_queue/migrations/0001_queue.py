import django.db.models.deletion
from django.db import migrations, models

import steady_queue.models
from steady_queue.sql_files import RunFile


class Migration(migrations.Migration):
    dependencies = []

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[RunFile("0001_queue")],
            state_operations=[
                migrations.CreateModel(
                    name="JobState",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        ),
                        ("state", models.TextField()),
                        ("task", models.TextField()),
                        ("queue", models.TextField()),
                        ("priority", models.SmallIntegerField()),
                        ("arguments", steady_queue.models.JSONText()),
                        ("enqueued_at", models.DateTimeField()),
                        ("run_after", models.DateTimeField(null=True)),
                        ("claimed_at", models.DateTimeField(null=True)),
                        ("started_at", models.DateTimeField(null=True)),
                        ("finished_at", models.DateTimeField(null=True)),
                        ("attempt", models.SmallIntegerField()),
                        ("lost_starts", models.SmallIntegerField()),
                        ("process", models.BigIntegerField(null=True)),
                        ("limit_key", models.TextField(null=True)),
                        ("backend", models.TextField()),
                    ],
                    options={
                        "verbose_name": "job",
                        "db_table": "steady_queue_all_jobs",
                        "permissions": [
                            ("view_arguments", "Can see the arguments of jobs"),
                            ("retry_jobs", "Can retry jobs"),
                            ("discard_jobs", "Can discard jobs"),
                            ("run_jobs_now", "Can let scheduled jobs run now"),
                            ("enqueue_copy", "Can enqueue copies of jobs"),
                        ],
                        "managed": False,
                    },
                ),
                migrations.CreateModel(
                    name="Queue",
                    fields=[
                        ("queue", models.TextField(primary_key=True, serialize=False)),
                        ("ready", models.BigIntegerField()),
                        ("scheduled", models.BigIntegerField()),
                        ("blocked", models.BigIntegerField()),
                        ("running", models.BigIntegerField()),
                        ("failed", models.BigIntegerField()),
                        ("finished_per_minute", models.FloatField()),
                        ("oldest_wait", models.DurationField(null=True)),
                        ("paused", models.BooleanField()),
                    ],
                    options={
                        "db_table": "steady_queue_queues_at_a_glance",
                        "permissions": [("pause_queues", "Can pause and resume queues")],
                        "managed": False,
                    },
                ),
                migrations.CreateModel(
                    name="Dashboard",
                    fields=[],
                    options={
                        "verbose_name_plural": "dashboard",
                        "proxy": True,
                        "indexes": [],
                        "constraints": [],
                    },
                    bases=("steady_queue.queue",),
                ),
                migrations.CreateModel(
                    name="Schedule",
                    fields=[
                        ("key", models.TextField(primary_key=True, serialize=False)),
                        ("schedule", models.TextField()),
                        ("timezone", models.TextField()),
                        ("task", models.TextField()),
                        ("queue", models.TextField(null=True)),
                        ("next_run_at", models.DateTimeField(null=True)),
                        ("last_run_at", models.DateTimeField(null=True)),
                        ("last_job", models.BigIntegerField(null=True)),
                        ("last_state", models.TextField(null=True)),
                        ("paused", models.BooleanField()),
                        ("removed_at", models.DateTimeField(null=True)),
                        ("owner", models.TextField(null=True)),
                        ("description", models.TextField()),
                    ],
                    options={
                        "db_table": "steady_queue_recurring",
                        "permissions": [
                            ("pause_schedules", "Can pause and resume schedules"),
                            ("run_schedules_now", "Can let schedules run now"),
                        ],
                        "managed": False,
                    },
                ),
                migrations.CreateModel(
                    name="Figures",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        ),
                        ("minute", models.DateTimeField()),
                        ("queue", models.TextField()),
                        ("task", models.TextField()),
                        ("finished", models.BigIntegerField(default=0)),
                        ("failed", models.BigIntegerField(default=0)),
                        ("waited", models.FloatField(default=0)),
                        ("ran", models.FloatField(default=0)),
                    ],
                    options={
                        "verbose_name_plural": "figures",
                        "db_table": "steady_queue_figures",
                    },
                ),
                migrations.CreateModel(
                    name="Job",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        ),
                        ("task", models.TextField()),
                        ("backend", models.TextField(default="default")),
                        ("queue", models.TextField()),
                        ("priority", models.SmallIntegerField()),
                        ("arguments", steady_queue.models.JSONText()),
                        ("run_after", models.DateTimeField(null=True)),
                        ("enqueued_at", models.DateTimeField()),
                        ("limit_key", models.TextField(null=True)),
                        ("limit_to", models.IntegerField(null=True)),
                        ("limit_for", models.DurationField(null=True)),
                        ("limit_conflict", models.TextField(null=True)),
                    ],
                    options={
                        "db_table": "steady_queue_jobs",
                    },
                ),
                migrations.CreateModel(
                    name="Lane",
                    fields=[
                        ("id", models.IntegerField(primary_key=True, serialize=False)),
                        ("queue", models.TextField()),
                        ("priority", models.SmallIntegerField()),
                        ("express", models.BooleanField(default=False)),
                        ("mark", models.BigIntegerField(default=0)),
                    ],
                    options={
                        "db_table": "steady_queue_lanes",
                    },
                ),
                migrations.CreateModel(
                    name="Pause",
                    fields=[
                        ("queue", models.TextField(primary_key=True, serialize=False)),
                        ("paused_at", models.DateTimeField()),
                    ],
                    options={
                        "db_table": "steady_queue_pauses",
                    },
                ),
                migrations.CreateModel(
                    name="Process",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        ),
                        ("kind", models.TextField()),
                        ("name", models.TextField()),
                        ("supervisor", models.BigIntegerField(null=True)),
                        ("host", models.TextField()),
                        ("pid", models.IntegerField()),
                        ("threads", models.IntegerField(default=0)),
                        ("started_at", models.DateTimeField()),
                        ("heartbeat_at", models.DateTimeField()),
                        ("steady_since", models.DateTimeField()),
                    ],
                    options={
                        "verbose_name_plural": "processes",
                        "db_table": "steady_queue_processes",
                    },
                ),
                migrations.CreateModel(
                    name="RecurringExecution",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "key",
                                "run_at",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("key", models.TextField()),
                        ("run_at", models.DateTimeField()),
                        ("job", models.BigIntegerField(null=True)),
                        ("enqueued_at", models.DateTimeField()),
                    ],
                    options={
                        "db_table": "steady_queue_recurring_executions",
                    },
                ),
                migrations.CreateModel(
                    name="RecurringTask",
                    fields=[
                        ("key", models.TextField(primary_key=True, serialize=False)),
                        ("task", models.TextField()),
                        ("schedule", models.TextField()),
                        ("timezone", models.TextField()),
                        ("arguments", steady_queue.models.JSONText()),
                        ("queue", models.TextField(null=True)),
                        ("priority", models.SmallIntegerField(null=True)),
                        ("backend", models.TextField(default="default")),
                        ("jitter", models.DurationField()),
                        ("missed", models.TextField(default="latest")),
                        ("description", models.TextField(default="")),
                        ("owner", models.TextField(null=True)),
                        ("declared_at", models.DateTimeField()),
                        ("paused_at", models.DateTimeField(null=True)),
                        ("removed_at", models.DateTimeField(null=True)),
                        ("next_run_at", models.DateTimeField(null=True)),
                        ("last_run_at", models.DateTimeField(null=True)),
                    ],
                    options={
                        "db_table": "steady_queue_recurring_tasks",
                    },
                ),
                migrations.CreateModel(
                    name="Semaphore",
                    fields=[
                        ("limit_key", models.TextField(primary_key=True, serialize=False)),
                    ],
                    options={
                        "db_table": "steady_queue_semaphores",
                    },
                ),
                migrations.CreateModel(
                    name="BlockedJob",
                    fields=[
                        (
                            "job",
                            models.OneToOneField(
                                db_column="job",
                                db_constraint=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                primary_key=True,
                                related_name="%(class)s",
                                serialize=False,
                                to="steady_queue.job",
                            ),
                        ),
                        ("attempt", models.SmallIntegerField(default=0)),
                        ("lost_starts", models.SmallIntegerField(default=0)),
                        ("suspect", models.BooleanField(default=False)),
                        ("limit_key", models.TextField()),
                        ("priority", models.SmallIntegerField()),
                        ("blocked_at", models.DateTimeField()),
                    ],
                    options={
                        "db_table": "steady_queue_blocked",
                    },
                ),
                migrations.CreateModel(
                    name="Outcome",
                    fields=[
                        (
                            "job",
                            models.OneToOneField(
                                db_column="job",
                                db_constraint=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                primary_key=True,
                                related_name="outcome",
                                serialize=False,
                                to="steady_queue.job",
                            ),
                        ),
                        ("status", models.TextField()),
                        ("attempt", models.SmallIntegerField()),
                        ("lost_starts", models.SmallIntegerField()),
                        ("process", models.BigIntegerField(null=True)),
                        ("claimed_at", models.DateTimeField(null=True)),
                        ("started_at", models.DateTimeField(null=True)),
                        ("finished_at", models.DateTimeField()),
                    ],
                    options={
                        "db_table": "steady_queue_outcomes",
                    },
                ),
                migrations.CreateModel(
                    name="ReadyJob",
                    fields=[
                        (
                            "job",
                            models.OneToOneField(
                                db_column="job",
                                db_constraint=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                primary_key=True,
                                related_name="%(class)s",
                                serialize=False,
                                to="steady_queue.job",
                            ),
                        ),
                        ("attempt", models.SmallIntegerField(default=0)),
                        ("lost_starts", models.SmallIntegerField(default=0)),
                        ("suspect", models.BooleanField(default=False)),
                        ("lane", models.IntegerField()),
                        ("position", models.BigIntegerField()),
                        ("limit_key", models.TextField(null=True)),
                        ("holds_until", models.DateTimeField(null=True)),
                    ],
                    options={
                        "db_table": "steady_queue_ready",
                    },
                ),
                migrations.CreateModel(
                    name="RunningJob",
                    fields=[
                        (
                            "job",
                            models.OneToOneField(
                                db_column="job",
                                db_constraint=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                primary_key=True,
                                related_name="%(class)s",
                                serialize=False,
                                to="steady_queue.job",
                            ),
                        ),
                        ("attempt", models.SmallIntegerField(default=0)),
                        ("lost_starts", models.SmallIntegerField(default=0)),
                        ("suspect", models.BooleanField(default=False)),
                        ("claim", models.BigIntegerField()),
                        ("process", models.BigIntegerField()),
                        ("limit_key", models.TextField(null=True)),
                        ("slot", models.BigIntegerField(null=True)),
                        ("holds_until", models.DateTimeField(null=True)),
                        ("claimed_at", models.DateTimeField()),
                    ],
                    options={
                        "db_table": "steady_queue_running",
                    },
                ),
                migrations.CreateModel(
                    name="ScheduledJob",
                    fields=[
                        (
                            "job",
                            models.OneToOneField(
                                db_column="job",
                                db_constraint=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                primary_key=True,
                                related_name="%(class)s",
                                serialize=False,
                                to="steady_queue.job",
                            ),
                        ),
                        ("attempt", models.SmallIntegerField(default=0)),
                        ("lost_starts", models.SmallIntegerField(default=0)),
                        ("suspect", models.BooleanField(default=False)),
                        ("run_after", models.DateTimeField()),
                    ],
                    options={
                        "db_table": "steady_queue_scheduled",
                    },
                ),
                migrations.CreateModel(
                    name="JobError",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        ),
                        ("attempt", models.SmallIntegerField()),
                        ("process", models.BigIntegerField(null=True)),
                        ("failed_at", models.DateTimeField()),
                        ("exception_class", models.TextField()),
                        ("message", models.TextField()),
                        ("traceback", models.TextField()),
                        (
                            "job",
                            models.ForeignKey(
                                db_column="job",
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="job_errors",
                                to="steady_queue.job",
                            ),
                        ),
                    ],
                    options={
                        "db_table": "steady_queue_errors",
                    },
                ),
            ],
        ),
    ]
