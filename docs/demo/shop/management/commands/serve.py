import itertools
import subprocess
from contextlib import suppress

from django.core.management import BaseCommand, CommandError, call_command

from shop import background, traffic
from shop.models import Order

EVERY = 1.0
"""Seconds between two customers."""


class Command(BaseCommand):
    help = "Runs the supervisor, the admin and a trickle of customers until Ctrl-C."

    def add_arguments(self, parser):
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, port, **options):
        background.end_on_signals()
        call_command("migrate", verbosity=0)
        address = f"127.0.0.1:{port}"
        try:
            with (
                suppress(KeyboardInterrupt),
                background.running("steady_queue", "start") as supervisor,
                background.running("runserver", "--noreload", address) as web,
            ):
                self.stdout.write(f"http://{address} (user admin, password admin); Ctrl-C stops")
                self.send_customers({"the supervisor": supervisor, "the web server": web})
        finally:
            background.stop_embedded_server()

    def send_customers(self, processes):
        """Send customers for as long as the processes live."""
        for number in itertools.count(Order.objects.count()):
            traffic.send_customer(number)
            with suppress(subprocess.TimeoutExpired):
                processes["the web server"].wait(EVERY)
            for name, process in processes.items():
                if process.poll() is not None:
                    raise CommandError(f"{name} ended with exit status {process.returncode}")
