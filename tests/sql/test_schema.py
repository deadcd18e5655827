"""sql/schema, which people read, and sql/migrations, which is applied, say the same."""

import psycopg
import pytest
from django.db import connections

from steady_queue.sql_files import AFTER, BEFORE, sql_folder
from tests.conftest import connect

CATALOGUE = {
    "columns": """
        select table_name, column_name, ordinal_position, data_type, is_nullable, column_default
        from information_schema.columns where table_schema = current_schema()""",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace = current_schema()::regnamespace""",
    "indexes": "select tablename, indexname, indexdef from pg_indexes where schemaname = current_schema()",
    "functions": """
        select oid::regprocedure::text, pg_get_functiondef(oid), obj_description(oid, 'pg_proc')
        from pg_proc where pronamespace = current_schema()::regnamespace""",
    "views": "select viewname, definition from pg_views where schemaname = current_schema()",
    "triggers": "select tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal",
    "relations": """
        select relname, relkind, reloptions, obj_description(oid, 'pg_class')
        from pg_class where relnamespace = current_schema()::regnamespace""",
    "sequences": """
        select sequencename, start_value, cache_size, cycle from pg_sequences
        where schemaname = current_schema()""",
}


def chapters():
    return "\n".join(p.read_text() for p in sorted((sql_folder() / "schema").glob("*.sql")))


def migrations():
    files = sorted((sql_folder() / "migrations").glob("*.sql"))
    return [p.read_text() for p in files if not p.name.endswith(".reverse.sql")]


@pytest.fixture
def empty_database(db):
    """Makes connections to databases of their own, removed afterwards."""
    admin = connect(autocommit=True)
    made = []

    def make(name):
        admin.execute(f"drop database if exists {name} with (force)")
        admin.execute(f"create database {name}")
        made.append((name, psycopg.connect(**{**parameters, "dbname": name}, autocommit=True)))
        return made[-1][1]

    parameters = {
        k: v
        for k, v in connections["default"].get_connection_params().items()
        if k in ("host", "port", "user", "password")
    }
    yield make
    for name, connection in made:
        connection.close()
        admin.execute(f"drop database {name} with (force)")
    admin.close()


def apply(connection, *texts):
    for text in texts:
        with connection.transaction():
            connection.execute(BEFORE + text + AFTER)


def catalogue(connection):
    return {
        name: sorted(connection.execute(query).fetchall(), key=repr)
        for name, query in CATALOGUE.items()
    }


def test_the_present_and_the_history_build_the_same_database(empty_database):
    present, history = empty_database("sq_present"), empty_database("sq_history")
    apply(present, chapters())
    apply(history, *migrations())
    one, two = catalogue(present), catalogue(history)
    for name in CATALOGUE:
        assert one[name] == two[name], name


def test_the_reverse_migrations_leave_nothing(empty_database):
    connection = empty_database("sq_reverse")
    before = catalogue(connection)
    apply(connection, *migrations())
    reverses = sorted((sql_folder() / "migrations").glob("*.reverse.sql"), reverse=True)
    apply(connection, *(p.read_text() for p in reverses))
    assert catalogue(connection) == before


def test_it_installs_into_the_first_schema_of_the_path_and_runs_from_there(empty_database):
    connection = empty_database("sq_elsewhere")
    connection.execute("create schema tenant")
    connection.execute("set search_path = tenant, public")
    apply(connection, *migrations())
    connection.execute("reset search_path")
    assert connection.execute("select tenant.steady_queue_enqueue('t')").fetchone() == (1,)
    assert connection.execute("select count(*) from tenant.steady_queue_ready").fetchone() == (1,)


def test_the_flow_in_the_opening_essay_names_chapters_that_exist():
    essay = (sql_folder() / "schema" / "00_flow.sql").read_text()
    for chapter in sorted((sql_folder() / "schema").glob("[2-9]*.sql")):
        assert chapter.name in essay
