import argparse
import random
import tempfile

from tests.chaos.run import main

parser = argparse.ArgumentParser(
    prog="python -m tests.chaos", description="Harm a queue at work, and look whether it minds."
)
parser.add_argument("--minutes", type=float, default=20)
parser.add_argument("--seed", default=str(random.randrange(10**6)), help="repeats a run's choices")
parser.add_argument(
    "--phases",
    nargs="*",
    help="processes, database, limits, deploy (by default), sessions, listeners, terms, silences",
)
parser.add_argument("--polling", type=float, default=1, help="seconds")
parser.add_argument("--rate", type=float, default=30, help="transactions a second")
parser.add_argument(
    "--patience", type=float, default=60, help="seconds from the last fault to the last job's end"
)
parser.add_argument("--folder", help="where to keep the server, the logs and the history")
arguments = parser.parse_args()
arguments.folder = arguments.folder or tempfile.mkdtemp(prefix="chaos-")
main(arguments)
