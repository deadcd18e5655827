"""Sphinx: `sphinx-build -W -b html docs docs/_build/html`. Needs no network and no database."""

import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).parents[1]))

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "steady_queue"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "unused"}},
    TASKS={"default": {"BACKEND": "steady_queue.backend.SteadyQueueBackend"}},
    USE_TZ=True,
)
django.setup()

import steady_queue  # noqa: E402

project = "steady_queue"
author = "the authors of steady_queue"
version = release = steady_queue.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "demo"]
# Single backticks in docstrings are code.
default_role = "code"
# Quotes in text are often quotes of SQL: they are left as they are.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "steady_queue"
html_show_copyright = False
html_show_sphinx = False
