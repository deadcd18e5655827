"""Django settings of the peers that are backends of its tasks framework."""

import importlib
import os

from peer import parameters

_given = parameters()
SECRET_KEY = "bench"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _given["host"],
        "PORT": _given["port"],
        "USER": _given["user"],
        "NAME": _given["dbname"],
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django": {"level": "WARNING"}, "django.tasks": {"level": "WARNING"}},
}
importlib.import_module(os.environ["BENCH_PEER"]).Peer.configure(globals())
