"""A small shop. What the queue needs are the parts marked `queue`; the rest is any project's."""

import os
from pathlib import Path

from steady_queue import embedded
from steady_queue.configuration import Configuration

BASE_DIR = Path(__file__).parents[1]
SECRET_KEY = "known to everybody: this is a demo"
# The demo's admin has a password that everybody knows: migrate makes it only where this is True.
DEBUG = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "steady_queue",  # queue
    "shop",
]

# queue: a private PostgreSQL in a folder, or the one that the variable DATABASE_URL names.
DATABASES = {"default": embedded.database(BASE_DIR / ".postgres")}

# queue: Django's setting. An empty list allows any queue; without it only "default" is.
TASKS = {"default": {"BACKEND": "steady_queue.backend.SteadyQueueBackend", "QUEUES": []}}

# queue: what `manage.py steady_queue start` runs. Without it: one worker for all queues.
STEADY_QUEUE = Configuration.Options(
    workers=[
        Configuration.Worker(queues=["default", "mail"], threads=3),
        # Apart, so that long reports never keep a customer waiting.
        Configuration.Worker(queues=["reports"], threads=1),
    ],
)

ROOT_URLCONF = "demo.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
# Mails of the demo go nowhere.
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "steady_queue": {"handlers": ["console"], "level": "INFO"},
        # Django's own lines about each task, too many for a thousand of them.
        "django.tasks": {"level": os.environ.get("TASKS_LOG_LEVEL", "INFO")},
    },
}
