"""Would the chaos run notice? Breaks the queue in ten ways, each in a copy, and looks.

``python -m tests.chaos.teeth [NAME ...]`` prints which were caught, and after how many seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

LONGEST = 175
"""Seconds within which a fault of ours has to be noticed."""

SQL = "sql/*/*.sql"
WORKER = "steady_queue/processes/worker.py"


@dataclass
class Mutant:
    """What is written instead of what, wherever it stands in these files, and the phase that should
    notice."""

    name: str
    files: str
    changes: dict[str, str]
    phase: str
    polling: str = "1"
    rate: str = "30"
    minutes: str = "0.8"


MUTANTS = [
    Mutant("no fence in finish", SQL, {" and r.claim = g.claim": ""}, "silences"),
    Mutant(
        "release before the thread ended",
        WORKER,
        {
            "            self._release(self.crew.give_back())\n        except": (
                "            queries.disown_jobs(self.database.connection(), self.process_id, [])\n"
                "        except"
            )
        },
        "terms",
    ),
    Mutant(
        "one more than the limit",
        SQL,
        {"::bigint + c.place <= c.limit_to and": "::bigint + c.place <= c.limit_to + 1 and"},
        "limits",
    ),
    Mutant(
        "no lock on the key",
        SQL,
        {"    order by s.limit_key\n    for update skip locked);": "    order by s.limit_key);"},
        "limits",
        # Two claims have to meet on a key: only where all workers are busy.
        rate="240",
        minutes="1.3",
    ),
    Mutant(
        "prune by the wrong threshold",
        SQL,
        {
            "where p.heartbeat_at < clock_timestamp() - p_alive_threshold\n": (
                "where p.heartbeat_at < clock_timestamp() - p_alive_threshold / 8\n"
            )
        },
        "processes",
    ),
    Mutant(
        "LISTEN without a look after reconnect",
        "steady_queue/listener.py",
        {"                self._heard.update(self.topics)\n": ""},
        "listeners",
        polling="3600",
        rate="2",
    ),
    Mutant(
        "recurring tick without unique key",
        SQL,
        {
            " and t.next_run_at is not distinct from p_cursor": "",
            "    on conflict do nothing;\n    return found;": (
                "    on conflict do nothing;\n    return true;"
            ),
        },
        "limits",
    ),
    Mutant(
        "except Exception only",
        "steady_queue/performer.py",
        {"except BaseException as exception": "except Exception as exception"},
        "sessions",
    ),
    Mutant(
        "sys.exit for os._exit in the child",
        "steady_queue/processes/loop.py",
        {"    os._exit(status)": "    sys.exit(status)"},
        "terms",
        # Only where a thread holds the interpreter's end up.
        minutes="1.3",
    ),
    Mutant(
        "outcome dropped on a lost connection",
        WORKER,
        {"            self.crew.keep(finished)\n            self._stop": "            self._stop"},
        "sessions",
    ),
]


def copy_with(mutant: Mutant, folder: Path) -> None:
    for name in ("steady_queue", "sql", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for old, new in mutant.changes.items():
        paths = [path for path in folder.glob(mutant.files) if old in path.read_text()]
        # A migration that still says so may be an old one: what counts is the schema.
        if all("migrations" in path.parts for path in paths):
            sys.exit(f"{mutant.name}: {mutant.files} no longer holds {old!r}")
        for path in paths:
            path.write_text(path.read_text().replace(old, new))


def first_violation(mutant: Mutant, folder: Path) -> str | None:
    """As the run printed it; None when it found nothing in time."""
    command = [sys.executable, "-m", "tests.chaos", "--minutes", mutant.minutes, "--seed", "1"]
    command += [
        "--phases",
        mutant.phase,
        "--polling",
        mutant.polling,
        "--rate",
        mutant.rate,
        "--folder",
        "chaos",
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.communicate()
        return None
    found = [line for line in output.splitlines() if line.startswith("VIOLATION")]
    if not found and process.returncode:
        print(output)
    return found[0] if found else None


def main(names: list[str]) -> None:
    caught = 0
    mutants = [m for m in MUTANTS if not names or any(name in m.name for name in names)]
    for mutant in mutants:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="teeth-", ignore_cleanup_errors=True) as folder:
            copy_with(mutant, Path(folder))
            violation = first_violation(mutant, Path(folder))
        caught += violation is not None
        verdict = f"caught: {violation}"[:160] if violation else "NOT CAUGHT"
        print(f"{mutant.name}: {time.monotonic() - began:.0f} s, {verdict}", flush=True)
    print(f"{caught} of {len(mutants)} caught")


if __name__ == "__main__":
    main(sys.argv[1:])
