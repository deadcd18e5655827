"""Writes the next migration: ``python sql/migration.py NAME``.

Copies every function and view of sql/schema that is not, word for word, what the migrations made
last, with its comment; the reverse gets what was there before. Changes of tables are added by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SQL = Path(__file__).parent
DJANGO = SQL.parent / "steady_queue" / "migrations"

# From its first line to its comment: functions end with `$$;` or `end;`, views with `;`.
OBJECT = re.compile(
    r"^create (?:or replace )?(function|view) (\w+)(.*?)"
    r"^(comment on \1 \2 is.*?;)$",
    re.MULTILINE | re.DOTALL,
)

MIGRATION = """\
from django.db import migrations

from steady_queue.sql_files import RunFile


class Migration(migrations.Migration):
    dependencies = [("steady_queue", "{previous}")]

    operations = [RunFile("{name}")]
"""


def objects(text: str) -> dict[tuple[str, str], str]:
    """Each function and view as text, by kind and name."""
    return {(m[1], m[2]): m[3] + m[4] for m in OBJECT.finditer(text)}


def schema() -> dict[tuple[str, str], str]:
    return objects("\n".join(p.read_text() for p in sorted((SQL / "schema").glob("*.sql"))))


def applied() -> dict[tuple[str, str], str]:
    """What the migrations made last."""
    made: dict[tuple[str, str], str] = {}
    for path in sorted((SQL / "migrations").glob("*.sql")):
        if not path.name.endswith(".reverse.sql"):
            made |= objects(path.read_text())
    return made


def replace_all(found: dict[tuple[str, str], str]) -> str:
    return "\n\n\n".join(
        f"create or replace {kind} {name}{text}" for (kind, name), text in found.items()
    )


def drop_all(names: list[tuple[str, str]]) -> str:
    return "\n".join(f"drop {kind} {name};" for kind, name in reversed(names))


def main() -> None:
    if len(sys.argv) != 2 or not re.fullmatch(r"[a-z][a-z0-9_]*", sys.argv[1]):
        sys.exit("usage: python sql/migration.py NAME (lower case, digits and _)")
    now, before = schema(), applied()
    changed = {key: text for key, text in now.items() if before.get(key) != text}
    if not changed:
        sys.exit("nothing changed: every function and view is what the migrations made last")
    last = sorted(p.stem for p in DJANGO.glob("[0-9]*.py"))[-1]
    name = f"{int(last[:4]) + 1:04}_{sys.argv[1]}"
    old = {key: before[key] for key in changed if key in before}
    new = [key for key in changed if key not in before]
    reverse = "\n\n\n".join(part for part in (replace_all(old), drop_all(new)) if part)
    (SQL / "migrations" / f"{name}.sql").write_text(replace_all(changed) + "\n")
    (SQL / "migrations" / f"{name}.reverse.sql").write_text(reverse + "\n")
    (DJANGO / f"{name}.py").write_text(MIGRATION.format(previous=last, name=name))
    print(f"{name}: {', '.join(key[1] for key in changed)}")


if __name__ == "__main__":
    main()
