"""Runs the files of ``sql/migrations``: the only SQL that reaches a real database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db.migrations.operations import RunSQL


def sql_folder() -> Path:
    """``sql/``: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent / "sql"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "sql"


# Functions keep the search path they are created under. It is set to the one schema that is
# installed into, with pg_temp last, so that no object of anybody else's can take a name's place.
BEFORE = """\
select set_config('steady_queue.search_path', current_setting('search_path'), true);
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
"""
AFTER = """
select set_config('search_path', current_setting('steady_queue.search_path'), true);
"""


class RunFile(RunSQL):
    """Runs ``sql/migrations/NAME.sql`` forwards and ``NAME.reverse.sql`` backwards."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.name = name
        super().__init__(_read(f"{name}.sql"), _read(f"{name}.reverse.sql"), **kwargs)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__qualname__, [self.name], {}


def _read(name: str) -> str:
    return BEFORE + (sql_folder() / "migrations" / name).read_text() + AFTER
