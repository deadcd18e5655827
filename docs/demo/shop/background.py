"""What the demo's commands run beside themselves, and how they end."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from django.conf import settings
from django.db import connection

from steady_queue import embedded

PATIENCE = 20
"""Seconds that a process may take to end, more than its running tasks may take (5 s)."""


@contextmanager
def running(*command, **environment):
    """Run a command of manage.py in a process of its own; TERM ends it gracefully."""
    process = subprocess.Popen(
        [sys.executable, settings.BASE_DIR / "manage.py", *command],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        # Ctrl-C is for the command that waits for this process, and then stops it.
        process_group=0,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_on_signals():
    """TERM, and the end of the terminal, end a command as Ctrl-C does: KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def stop_embedded_server():
    """Stop the embedded PostgreSQL unless somebody else uses it. The next command starts it."""
    if embedded.started and not _others_are_connected():
        connection.close()
        for folder in embedded.started:
            embedded.stop(folder)


def _others_are_connected():
    with connection.cursor() as cursor:
        # Sessions of processes that ended just now take a moment to go.
        cursor.execute("select pg_sleep(0.2)")
        cursor.execute(
            "select exists (select from pg_stat_activity"
            " where backend_type = 'client backend' and pid <> pg_backend_pid())"
        )
        return cursor.fetchone()[0]
