"""Writes reference/sql.md from the comments in sql/schema: python docs/generate_sql_reference.py"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
SCHEMA = DOCS.parent / "sql" / "schema"
PAGE = DOCS / "reference" / "sql.md"

INTRODUCTION = """\
% Generated from sql/schema by docs/generate_sql_reference.py: change the comments there.

# SQL reference

The queue's tables, functions and views, chapter by chapter, as `sql/schema` has them: the text
above each is its comment there. In psql, `\\d+`, `\\df+` and `\\dv+ steady_queue_*` show the short
form of it.

Queries may read any table and view. Changes go through functions. `select * from steady_queue_help`
lists the views, and the functions that are for people, and for triggers and programs of yours:
those whose short form shows a call of them. The others are called by steady_queue itself.

Errors of the functions' own have these codes:

| SQLSTATE | raised when |
|---|---|
| `SQ001` | a process claims that is not, or no longer, registered |
| `SQ002` | a schedule is made at run time under a key that code declares |
| `SQ003` | `steady_queue_enqueue` gets `args` that is no array, or `kwargs` that is no object |
"""

CREATE = re.compile(r"create (table|sequence|type|index|function|trigger|view) (\w+)")
COMMENT_ON = re.compile(
    r"comment on (?:table|sequence|type|function|view) (\w+) is\s+'((?:[^']|'')*)';"
)
COMMENT_ON_COLUMN = re.compile(r"comment on column (\w+)\.(\w+) is\s+'((?:[^']|'')*)';")
SHOWN = ("sequence", "table", "type", "function", "trigger", "view")


@dataclass
class Item:
    """Something that a chapter creates. ``promise`` is the comment above it."""

    kind: str
    name: str
    definition: str
    promise: str


@dataclass
class Chapter:
    name: str
    text: str
    items: list[Item]


def render() -> str:
    """The page."""
    chapters = [read(path) for path in sorted(SCHEMA.glob("*.sql"))]
    return "\n".join([INTRODUCTION, *(part for c in chapters for part in render_chapter(c))])


def read(path: Path) -> Chapter:
    text, items = [], []
    for comment, statement in statements(path.read_text().splitlines()):
        created = CREATE.match(statement)
        if created:
            items.append(Item(created[1], created[2], statement, comment))
        elif not statement:
            text.append(comment)
    return Chapter(path.name, "\n".join(text), items)


def statements(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each statement with the comment right above it; a comment on its own has none under it."""
    comment: list[str] = []
    statement: list[str] = []
    for line in [*lines, ""]:
        if statement or line.startswith(("create ", "comment on ")):
            statement.append(line)
            if line == end_of(statement) or (end_of(statement) is None and line.endswith(";")):
                yield "\n".join(comment), "\n".join(statement)
                comment, statement = [], []
        elif line.startswith("--"):
            comment.append(line[3:])
        elif comment:
            yield "\n".join(comment) + "\n", ""
            comment = []


def end_of(statement: list[str]) -> str | None:
    """The last line of a function; None for a statement that a semicolon ends."""
    if "begin atomic" in statement:
        return "end;"
    if "as $$" in statement:
        return "$$;"
    return "" if statement[0].startswith("create function") else None


def render_chapter(chapter: Chapter) -> Iterator[str]:
    source = (SCHEMA / chapter.name).read_text()
    short = {name: said.replace("''", "'") for name, said in COMMENT_ON.findall(source)}
    yield f"## {chapter.name}\n"
    if chapter.text:
        yield prose(chapter.text)
    indexes = [item for item in chapter.items if item.kind == "index"]
    for kind in SHOWN:
        for item in chapter.items:
            if item.kind == kind:
                yield f"### {item.name}\n"
                yield from render_item(item, short.get(item.name, ""), indexes)
                yield from render_columns(item, source)


def render_item(item: Item, short: str, indexes: list[Item]) -> Iterator[str]:
    if item.kind == "view":
        yield prose(short)
        yield "Columns: " + ", ".join(f"`{name}`" for name in view_columns(item.definition)) + ".\n"
        return
    shown = signature(item.definition) if item.kind == "function" else item.definition
    for index in indexes:
        if f" on {item.name} " in index.definition:
            shown += "".join(f"\n-- {line}" for line in index.promise.splitlines())
            shown += f"\n{index.definition}"
    yield f"```sql\n{shown}\n```\n"
    if item.promise:
        yield prose(item.promise)
    if short and short.rstrip(".") not in " ".join(item.promise.split()):
        yield prose(short)


def render_columns(item: Item, source: str) -> Iterator[str]:
    for table, column, said in COMMENT_ON_COLUMN.findall(source):
        if table == item.name:
            yield prose(f"`{column}`: {said}".replace("''", "'"))


def signature(definition: str) -> str:
    """The head of a function, up to what it returns."""
    head = re.split(r"\nlanguage |\nset |\nas \$\$|\nbegin atomic", definition)[0]
    return re.sub(r"\blanguage .*", "", head).rstrip()


def view_columns(definition: str) -> list[str]:
    """The names in the outermost select list of a view."""
    plain = without_parentheses(definition)
    selected = plain[plain.rindex("select ") + 7 :].split(" from ")[0]
    return [re.split(r"[ .]", column.strip())[-1] for column in selected.split(",")]


def without_parentheses(text: str) -> str:
    """The text on one line, without what stands in parentheses."""
    depth, kept = 0, []
    for character in re.sub(r"\s+", " ", text.rstrip(";")):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character != ")":
            kept.append(character)
    return "".join(kept)


def prose(comment: str) -> str:
    """A comment as Markdown: paragraphs, and what is indented as it stands."""
    paragraphs = re.split(r"\n\s*\n", comment.strip("\n"))
    return "\n".join(map(paragraph, paragraphs))


def paragraph(text: str) -> str:
    if text.startswith("  "):
        return f"```text\n{text}\n```\n"
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else escaped(p) for p in pieces).strip() + "\n"


def escaped(text: str) -> str:
    return re.sub(r"([*<\[|\\])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(render())
