"""What the documentation shows is run, and what it lists is there."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import unittest
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.tasks import Task

import steady_queue
import steady_queue.metrics
from steady_queue import checks, queries, recurring_task
from steady_queue.configuration import Dispatcher, Options, RecurringTask, Worker
from steady_queue.retries import verdict
from tests.docs.pages import DOCS, HOW_TO, ROOT, blocks, run


@pytest.fixture(autouse=True)
def _settings_end_with_the_test(monkeypatch):
    """Pages assign to the settings of ``steady_queue``, as a project's settings file would."""
    for name, value in vars(steady_queue).copy().items():
        if not name.startswith("_") and not isinstance(value, ModuleType):
            monkeypatch.setattr(steady_queue, name, value)


def page(name: str) -> Path:
    return DOCS / f"{name}.md"


@pytest.mark.parametrize("path", [ROOT / "README.md", *HOW_TO], ids=lambda path: path.stem)
def test_the_python_of_each_page_runs(db, path):
    with run(path):
        pass


def test_the_cases_of_the_page_about_tests_pass(django_db_setup, django_db_blocker):
    with run(page("how-to/test-your-tasks")) as module, django_db_blocker.unblock():
        # Not TestCase itself, which the page imports.
        own = [c for c in vars(module).values() if getattr(c, "__module__", "") == module.__name__]
        suites = [
            unittest.defaultTestLoader.loadTestsFromTestCase(case)
            for case in own
            if isinstance(case, type) and issubclass(case, unittest.TestCase)
        ]
        result = unittest.TestSuite(suites).run(unittest.TestResult())
    assert result.testsRun == 4
    assert not result.errors + result.failures


def test_every_page_of_a_decorator_has_tasks_of_it(db):
    pages = [
        ("limit-concurrency", "concurrency_key"),
        ("retry-and-discard", None),
        ("time-out", "timeout"),
    ]
    for name, attribute in pages:
        with run(page(f"how-to/{name}")) as module:
            tasks = [task for task in vars(module).values() if isinstance(task, Task)]
            assert tasks
            assert attribute is None or all(getattr(task, attribute) for task in tasks)


def test_the_limit_page_blocks_the_one_that_it_says(db, queue):
    with run(page("how-to/limit-concurrency")):
        queue.claim(queue.process())
        rows = queue.run("select arguments ->> 'args', state from steady_queue_all_jobs order by 1")
        assert sorted(rows) == [("[7]", "blocked"), ("[7]", "running"), ("[8]", "running")]


def test_the_retry_page_says_what_becomes_of_its_errors():
    with run(page("how-to/retry-and-discard")) as module:
        assert verdict(module.call_webhook, ConnectionError(), 4)[1] is not None
        assert verdict(module.call_webhook, ConnectionError(), 5) == (False, None)
        assert verdict(module.call_webhook, KeyError(), 1) == (True, None)
        assert verdict(module.call_webhook, ValueError(), 1) == (False, None)
        assert verdict(module.sync_stock, ConnectionError(), 3) == (False, 6 * 3600)
        assert verdict(module.upload, ConnectionError(), 19)[1] is not None
        assert verdict(module.upload, FileNotFoundError(), 2) == (False, None)


def test_the_recurring_page_declares_its_schedules(db):
    with run(page("how-to/recurring-tasks")) as module:
        declared = {
            key: declaration.recurring
            for key, declaration in recurring_task.declarations.items()
            if declaration.recurring.task.module_path.startswith(module.__name__)
        }
    assert set(declared) == {
        "weekly_report", "greet_alice", "greet_bob", "tokyo_open", "refresh_rates", "measure",
    }  # fmt: skip
    assert declared["tokyo_open"].timezone == "Asia/Tokyo"


@pytest.fixture
def a_job_in_each_state(queue, sql):
    worker = queue.process()
    sql("select steady_queue_register_process('supervisor', 'supervisor', null, 'host', 1)")
    failed = {"exception_class": "builtins.ValueError", "message": "", "traceback": ""}
    queue.enqueue()
    queue.finish(queue.claim(worker), error=str(failed).replace("'", '"'))
    queue.enqueue_limited("key", count=2)
    queue.claim(worker)
    queue.enqueue(run_after="2100-01-01")
    queue.enqueue()
    assert sorted(state for (state,) in sql("select state from steady_queue_all_jobs")) == [
        "blocked", "failed", "ready", "running", "scheduled",
    ]  # fmt: skip


SQL_BLOCKS = [
    pytest.param(block.code, id=f"{path.stem}:{block.line + 1}")
    for path in HOW_TO
    for block in blocks(path, "sql")
]


@pytest.mark.parametrize("code", SQL_BLOCKS)
def test_the_sql_of_each_page_runs(sql, a_job_in_each_state, code):
    sql(code)


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_sql", DOCS / "generate_sql_reference.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_sql_reference_is_up_to_date():
    rendered = load_generator().render()
    assert rendered == page("reference/sql").read_text(), "run docs/generate_sql_reference.py"


def test_the_sql_reference_lists_each_view_with_its_columns(sql):
    text = page("reference/sql").read_text()
    sections = (section.partition("\n") for section in text.split("\n### "))
    listed = {
        name: re.findall(r"`(\w+)`", body.split("\nColumns: ")[1])
        for name, _, body in sections
        if "\nColumns: " in body
    }
    rows = sql(
        "select table_name, array_agg(column_name::text order by ordinal_position) "
        "from information_schema.columns join information_schema.views using (table_name) "
        "where table_name like 'steady_queue_%' group by 1"
    )
    assert listed == dict(rows)


def test_the_sql_reference_lists_each_function(sql):
    text = page("reference/sql").read_text()
    rows = sql(
        "select distinct proname::text from pg_proc where proname like 'steady_queue_%' "
        "and prorettype <> 'trigger'::regtype and pronamespace = current_schema()::regnamespace"
    )
    missing = [name for (name,) in rows if f"create function {name}(" not in text]
    assert not missing


def test_each_system_check_is_listed_and_each_that_is_listed_exists():
    ids = re.compile(r"steady_queue\.[EW]\d{3}")
    source = Path(checks.__file__).read_text()
    assert set(ids.findall(page("reference/checks").read_text())) == set(ids.findall(source))


def api() -> str:
    return (DOCS / "reference" / "api.rst").read_text()


@pytest.mark.parametrize("kind", [Options, Worker, Dispatcher, RecurringTask])
def test_each_option_is_listed_with_its_default(kind: type[Any]):
    [table] = re.findall(rf"``Configuration\.{kind.__name__}``\n\n(.*?)\n\n", api(), re.S)
    second, third = (match.end() + 1 for match in list(re.finditer("=+", table))[:2])
    rows = {
        line[: second - 1].strip(" `"): line[second : third - 1].strip()
        for line in table.splitlines()
        if line.startswith("``")
    }
    assert set(rows) == {field.name for field in fields(kind)}
    for field in fields(kind):
        assert rows[field.name].strip("`") == shown(field), field.name


def shown(field: Any) -> str:
    if field.default_factory is not MISSING:
        made = field.default_factory()
        one = isinstance(made, list) and type(made[0]).__name__
        return f"one ``{one}()" if one in ("Worker", "Dispatcher") else repr(made).replace("'", '"')
    if isinstance(field.default, timedelta):
        return f"timedelta(seconds={field.default.seconds})"
    return "required" if field.default is MISSING else repr(field.default)


def test_each_setting_of_the_module_is_listed():
    listed = set(re.findall(r"autodata:: steady_queue\.(\w+)$", api(), re.M))
    assert listed == set(steady_queue.__annotations__)


def test_each_subcommand_and_option_is_listed():
    helped = subprocess.run(
        [sys.executable, "-m", "django", "steady_queue", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    commands = re.findall(r"^    (\w+) +\S", helped, re.M)
    assert {"start", "pause"} <= set(commands)
    section = api().split("The management command\n")[1]
    for word in [*commands, *re.findall(r"^  (--(?:only|skip-rec|disable)[\w-]*)", helped, re.M)]:
        assert word in section


def test_each_test_that_the_guarantees_name_exists():
    text = page("explanation/guarantees").read_text()
    names = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", text)
    assert len(names) > 30
    missing = [f"{path}::{name}" for path, name in names if not has_test(ROOT / path, name)]
    assert not missing


def has_test(path: Path, name: str) -> bool:
    body: Any = ast.parse(path.read_text()) if path.exists() else None
    for part in name.split("::"):
        named = [n for n in getattr(body, "body", []) if getattr(n, "name", None) == part]
        body = named[0] if named else None
    return body is not None


def test_each_table_view_and_function_that_a_page_names_exists(sql):
    rows = sql(
        "select proname::text from pg_proc where proname ~ '^steady_queue_' "
        "union select relname::text from pg_class where relname ~ '^steady_queue_' "
        "union select typname::text from pg_type where typname ~ '^steady_queue_' and typtype = 'd'"
    )
    pages = [page("index"), page("tutorial"), *HOW_TO, *(DOCS / "explanation").glob("*.md")]
    named = {name for p in pages for name in re.findall(r"\bsteady_queue_[a-z_]+", p.read_text())}
    named -= {"steady_queue_", *metrics(), *(f"{name}_bucket" for name in metrics())}
    assert named <= {name for (name,) in rows}


def metrics() -> set[str]:
    families = steady_queue.metrics.families({name: [] for name in queries.METRICS})
    return {
        f"{family.name}_total" if family.type == "counter" else family.name for family in families
    }


def test_each_metric_is_listed_and_each_that_is_listed_exists():
    listed = re.findall(r"^\| `(steady_queue_\w+)` \|", page("how-to/monitor").read_text(), re.M)
    assert sorted(listed) == sorted(metrics())


@pytest.mark.slow
def test_sphinx_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", DOCS, tmp_path]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert 'id="api-recurring"' in (tmp_path / "reference" / "api.html").read_text()
    assert 'id="api-limits-concurrency"' in (tmp_path / "reference" / "api.html").read_text()
