"""Settings of the test suite: a real PostgreSQL, embedded unless TEST_DATABASE_URL names one."""

import json
import os
from datetime import timedelta
from pathlib import Path

import steady_queue
from steady_queue import embedded

BASE_DIR = Path(__file__).parent
SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "steady_queue",
    "tests.app",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

SERVER_VERSION = int(os.environ.get("TEST_POSTGRES", "18"))
SERVER_PATH = Path(
    os.environ.get("TEST_POSTGRES_PATH", BASE_DIR.parent / f".postgres-{SERVER_VERSION}")
)
DATABASES = {"default": embedded.database(SERVER_PATH, name="tests", version=SERVER_VERSION)}
if name := os.environ.get("TEST_DATABASE_NAME"):
    # Processes that a test starts work on the database of that test.
    DATABASES["default"]["NAME"] = name

if os.environ.get("TEST_POOLED"):
    DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
if host := os.environ.get("TEST_DIRECT_HOST"):
    # The same database, without the pooler between.
    DATABASES["direct"] = {**DATABASES["default"], "HOST": host, "PORT": "5432"}
    steady_queue.listen_database = "direct"

TASKS = {"default": {"BACKEND": "steady_queue.backend.SteadyQueueBackend", "QUEUES": []}}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"job": {"()": "steady_queue.logs.JobFilter"}},
    "formatters": {
        "job": {"style": "{", "format": "{message} [{job_id} {task} {queue} {attempt} {worker}]"}
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "filters": ["job"], "formatter": "job"}
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"steady_queue": {"level": os.environ.get("TEST_LOG_LEVEL", "WARNING")}},
}

for setting, seconds in (
    ("process_heartbeat_interval", os.environ.get("TEST_HEARTBEAT")),
    ("process_alive_threshold", os.environ.get("TEST_THRESHOLD")),
    ("shutdown_timeout", os.environ.get("TEST_SHUTDOWN_TIMEOUT")),
    ("default_task_timeout", os.environ.get("TEST_TASK_TIMEOUT")),
):
    if seconds:
        setattr(steady_queue, setting, timedelta(seconds=float(seconds)))

if starts := os.environ.get("TEST_MAX_LOST_STARTS"):
    steady_queue.max_lost_starts = int(starts)

if os.environ.get("TEST_FORGET_FINISHED"):
    steady_queue.preserve_finished_jobs = False

if path := os.environ.get("TEST_TRACES"):
    from tests.app import traces

    traces.write_to(path)
    steady_queue.tracing = True

if options := os.environ.get("TEST_STEADY_QUEUE"):
    STEADY_QUEUE = json.loads(options)
    for process in STEADY_QUEUE["workers"] + STEADY_QUEUE["dispatchers"]:
        process.setdefault("polling_seconds", 3600)
        for name in [name for name in process if name.endswith("_seconds")]:
            span = timedelta(seconds=process.pop(name))
            process[name.removesuffix("_seconds") + "_interval"] = span

steady_queue.supervisor_pidfile = os.environ.get("TEST_PIDFILE")
