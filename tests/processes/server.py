"""A PostgreSQL of a test's own, that can be crashed, reached through a faulty network, followed."""

import os
import signal
import subprocess
import sys

import psycopg

from steady_queue import embedded
from tests.processes.conftest import ROOT, WATCHED, Watch, say_changes

VERSION = int(os.environ.get("TEST_POSTGRES", "18"))

MAKE_ROLE = """
    create role node login;
    grant all on all tables in schema public to node;
    grant all on all sequences in schema public to node;
"""
ENQUEUE_LIMITED = """
    select steady_queue_enqueue_jobs('default', array[%s], array['default'], array[0::smallint],
      array['{"args": [], "kwargs": {}}'::json], null, array[%s], array[%s],
      array[interval '3 minutes'], array['block'])
"""


class Server:
    """The queue is in it, and says its changes."""

    def __init__(self, path):
        self.path = path
        self.entry = embedded.database(path, version=VERSION)
        self.manage("migrate", "--run-syncdb", "-v0")
        with self.connect() as connection:
            say_changes(connection)

    @property
    def env(self):
        return {
            "DATABASE_URL": self.url(self.entry["HOST"], self.entry["PORT"], self.entry["USER"]),
            "TEST_DATABASE_NAME": self.entry["NAME"],
            "DJANGO_SETTINGS_MODULE": "tests.settings",
        }

    def url(self, host, port, user, **options):
        more = {"dbname": self.entry["NAME"], **options}
        named = " ".join(f"{name}={value}" for name, value in more.items())
        return f"host={host} port={port} user={user} {named}"

    def through(self, proxy, user="postgres", patience=1):
        """The environment of a node that reaches the server by a proxy, and waits for a reply for
        so many seconds."""
        options = {"sslmode": "disable", "tcp_user_timeout": patience * 1000}
        return {**self.env, "DATABASE_URL": self.url("127.0.0.1", proxy.port, user, **options)}

    def as_role(self, **settings):
        """Who nodes are when they are no superuser: a role with these settings."""
        with self.connect() as connection:
            if not connection.execute("select from pg_roles where rolname = 'node'").fetchall():
                connection.execute(MAKE_ROLE)
            connection.execute("alter role node reset all")
            for name, value in settings.items():
                connection.execute(f"alter role node set {name} = '{value}'")
        return {
            **self.env,
            "DATABASE_URL": self.url(self.entry["HOST"], self.entry["PORT"], "node"),
        }

    def manage(self, *arguments):
        subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.env},
            check=True,
        )

    def connect(self):
        return psycopg.connect(self.env["DATABASE_URL"], autocommit=True)

    def watch(self):
        connection = self.connect()
        connection.execute("listen changed")
        return Watch(connection)

    def enqueue(self, task, *args):
        with self.connect() as connection:
            connection.execute(
                "select steady_queue_enqueue(%s, args => %s)",
                (f"tests.app.tasks.{task}", psycopg.types.json.Json(list(args))),
            )

    def enqueue_limited(self, task, key, to):
        with self.connect() as connection:
            connection.execute(ENQUEUE_LIMITED, (f"tests.app.tasks.{task}", key, to))

    def empty(self):
        """Forget every job, for the next test."""
        tables = ["jobs", "errors", "recurring_tasks", "recurring_executions", *WATCHED]
        names = ", ".join(f"steady_queue_{table}" for table in tables)
        with self.connect() as connection:
            connection.execute(f"truncate heard, {names}")

    def crash(self):
        """Immediate shutdown: as a power cut, for PostgreSQL."""
        pid = embedded.status(self.path).pid
        os.kill(pid, signal.SIGQUIT)
        while embedded.status(self.path).running:
            pass

    def start(self):
        embedded.start(self.path, version=VERSION)


def socket_folder(path):
    """The host of the server in a folder, whether it runs or not."""
    data = embedded._data(path)
    return str(data if embedded._fits_a_socket(data) else embedded._short_folder(data))


def base_backup():
    """The program that makes standbys; not every wheel has it."""
    return embedded._binaries(VERSION) / "pg_basebackup"


class Standby(Server):
    """A copy of a server that follows it, made by the server's own programs.

    ``moved`` says where its tablespaces are, by where those of the primary are.
    """

    def __init__(self, primary, path, moved=None):
        self.path = path
        self.entry = {**primary.entry, "HOST": socket_folder(path)}
        self._copy(primary, embedded._data(path), moved or {})
        self.start()

    def _copy(self, primary, data, moved):
        data.parent.mkdir()
        owner = embedded._as_owner(primary.path / "data")
        if owner:
            os.chown(data.parent, owner["user"], owner["group"])
        program = base_backup()
        command = [
            program,
            f"--pgdata={data}",
            f"--host={primary.entry['HOST']}",
            f"--port={primary.entry['PORT']}",
            "--username=postgres",
            "--write-recovery-conf",
            "--checkpoint=fast",
            *(f"--tablespace-mapping={old}={new}" for old, new in moved.items()),
        ]
        with embedded._passage_for_the_server(data, program):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd="/", **owner
            )
        assert done.returncode == 0, done.stderr

    def promote(self):
        done, output = embedded._pg_ctl(VERSION, embedded._data(self.path), "promote")
        assert done, output
