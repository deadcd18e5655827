import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tests.chaos.producer import Producer


class Command(BaseCommand):
    help = "enqueue until terminated"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seed", required=True)
        parser.add_argument("--rate", type=float, required=True, help="transactions a second")
        parser.add_argument("--ledger", required=True, help="a file to write to")
        parser.add_argument("--bursts", action="store_true", help="many limited jobs at once")
        parser.add_argument("--lowers", action="store_true", help="with one limit lowered")

    def handle(self, *args: Any, **options: Any) -> None:
        with open(options["ledger"], "a") as ledger:
            producer = Producer(
                options["seed"],
                options["rate"],
                ledger,
                bursts=options["bursts"],
                lowers=options["lowers"],
            )
            signal.signal(signal.SIGTERM, lambda number, frame: producer.stopped.set())
            producer.run()
