"""What is published: built as it will be, and used by a project that has nothing else."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from django.db import connections

from tests.conftest import PATIENCE, connect

pytest.importorskip("build")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PUBLISHED = [
    "steady_queue", "sql", "tests", "docs",
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE",
]  # fmt: skip
NOT_SOURCE = shutil.ignore_patterns("__pycache__", ".*", "_build", "node_modules")

SETTINGS = """
from pathlib import Path
from steady_queue import embedded

SECRET_KEY = "only for a test"
USE_TZ = True
INSTALLED_APPS = ["steady_queue", "shop"]
TASKS = {"default": {"BACKEND": "steady_queue.backend.SteadyQueueBackend", "QUEUES": []}}
# With DATABASE_URL in the environment nothing is started.
DATABASES = {"default": embedded.database(Path(__file__).parent / ".postgres")}
"""
TASKS = """
from django.db import connection
from django.tasks import task


@task()
def shout(word):
    with connection.cursor() as cursor:
        cursor.execute("select pg_notify('shouted', %s)", [word.upper()])
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
"""


def run(*command, **options):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source, kind, into):
    # With hatchling at hand there is no need to download it once more.
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    run(sys.executable, "-m", "build", *isolation, f"--{kind}", "--outdir", into, source)
    [built] = into.iterdir()
    return built


def contents(wheel):
    """Each file and its bytes; the list of hashes of the wheel itself repeats them."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.endswith(".dist-info/RECORD")
        }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy, so that nothing that is edited or left about meanwhile gets in."""
    folder = tmp_path_factory.mktemp("source") / "steady-queue"
    folder.mkdir()
    for name in PUBLISHED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=NOT_SOURCE)
        else:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    return build(source, "sdist", tmp_path_factory.mktemp("sdist"))


def test_the_wheel_carries_the_package_its_sql_and_its_types(source, wheel):
    packed = contents(wheel)
    for path in source.glob("steady_queue/**/*"):
        if path.is_file():
            assert packed[path.relative_to(source).as_posix()] == path.read_bytes()
    for path in source.glob("sql/**/*.sql"):
        assert packed[f"steady_queue/{path.relative_to(source).as_posix()}"] == path.read_bytes()
    assert "steady_queue/py.typed" in packed
    assert "steady_queue/sql/schema/00_flow.sql" in packed
    assert "steady_queue/sql/migrations/0001_queue.sql" in packed
    assert "steady_queue/migrations/0001_queue.py" in packed


def test_the_wheel_puts_nothing_else_into_site_packages(wheel):
    tops = {name.split("/")[0] for name in contents(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"steady_queue"}


def test_the_wheel_needs_four_packages_and_no_more(wheel):
    [metadata] = [
        text.decode() for name, text in contents(wheel).items() if name.endswith("/METADATA")
    ]
    needed = {
        line.removeprefix("Requires-Dist: ").split(">")[0].split("[")[0].strip().lower()
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }
    assert needed == {"django", "crontab", "psycopg", "psycopg-pool"}
    assert "License-Expression: MIT" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in contents(wheel))


def test_the_sdist_builds_the_same_wheel(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.iterdir()
    again = build(unpacked, "wheel", tmp_path / "again")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of an environment that has the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[binary]")
    return python


@pytest.fixture
def project(tmp_path):
    files = {"settings": SETTINGS, "manage": MANAGE, "shop/tasks": TASKS, "shop/__init__": ""}
    (tmp_path / "shop").mkdir()
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@pytest.fixture
def database(db):
    """The address of an empty database."""
    settings = connections["default"].settings_dict
    name = f"{settings['NAME']}_wheel"
    with connect(autocommit=True) as owner:
        owner.execute(f'drop database if exists "{name}" with (force)')
        owner.execute(f'create database "{name}"')
        yield psycopg.conninfo.make_conninfo(
            host=settings["HOST"],
            port=settings["PORT"],
            user=settings["USER"],
            password=settings["PASSWORD"] or None,
            dbname=name,
        )
        owner.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def manage(python, project, database):
    """Starts ``manage.py`` commands of the project; what still runs at the end is killed."""
    started = []
    # Nothing of the checkout: neither its path nor its settings.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}

    def start(*arguments):
        started.append(
            subprocess.Popen(
                [str(python), "manage.py", *arguments],
                cwd=project,
                env={**kept, "DATABASE_URL": database},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def end(process):
    """What it printed, after it has ended well."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def test_a_project_with_the_wheel_alone_migrates_enqueues_and_performs(manage, database):
    assert "Applying steady_queue.0001_queue... OK" in end(manage("migrate"))
    assert "no issues" in end(manage("check", "--database", "default"))
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("listen shouted")
        end(manage("shell", "-c", "from shop.tasks import shout; shout.enqueue('hello')"))
        supervisor = manage("steady_queue", "start")
        heard = [n.payload for n in listener.notifies(timeout=PATIENCE, stop_after=1)]
        assert heard == ["HELLO"]
        supervisor.send_signal(signal.SIGTERM)
        end(supervisor)
        states = listener.execute("select task, state from steady_queue_all_jobs").fetchall()
        assert states == [("shop.tasks.shout", "successful")]
        assert listener.execute("select count(*) from steady_queue_processes").fetchone() == (0,)
