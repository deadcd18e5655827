"""Enqueues, and keeps a ledger of what became of each transaction."""

from __future__ import annotations

import random
import threading
import uuid
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.utils import Error
from django.utils import timezone

from tests.chaos import tasks

KEYS = 40
WEIGHTS = {"work": 78, "limited": 15, "flaky": 5, "poison": 2}
"""Of a hundred jobs."""


class RollBack(Exception):
    """Raised by the producer, to roll its transaction back."""


class Producer(threading.Thread):
    """``fates`` is the ledger: token to committed, rolled back, or unsure.

    Written once COMMIT has returned. Unsure is what was sent a COMMIT that nobody answered.
    """

    def __init__(self, seed: str, per_second: float, ledger: Any) -> None:
        super().__init__(name="producer", daemon=True)
        self.random = random.Random(seed)
        self.fates: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.stopped = threading.Event()
        self._per_second = per_second
        self._ledger = ledger

    def run(self) -> None:
        while not self.stopped.wait(self.random.expovariate(self._per_second)):
            self.produce(self._enqueue_one)
        connection.close()

    def produce(self, enqueue: Any, rolls_back: bool | None = None) -> None:
        """One transaction, and its lines in the ledger."""
        tokens: list[str] = []
        if rolls_back is None:
            rolls_back = self.random.random() < 0.2
        fate = "rolled back"
        try:
            with transaction.atomic():
                enqueue(tokens)
                if rolls_back:
                    raise RollBack
                fate = "unsure"
            fate = "committed"
        except RollBack:
            pass
        except Error:
            connection.close()
        for token in tokens:
            self.fates[token] = fate
            self._ledger.write(f"{token} {fate}\n")

    def enqueue_limited(self, tokens: list[str], count: int, keys: int) -> None:
        """A burst of short jobs."""
        for _ in range(count):
            token = self._token("limited", tokens)
            task = tasks.LIMITED[self.random.choice([1, 2, 5])]
            task.enqueue(
                token, self.random.uniform(0, 0.02), f"burst {self.random.randrange(keys)}"
            )

    def _token(self, kind: str, tokens: list[str]) -> str:
        token = uuid.UUID(int=self.random.getrandbits(128)).hex
        tokens.append(token)
        self.kinds[token] = kind
        return token

    def _enqueue_one(self, tokens: list[str]) -> None:
        [kind] = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        token, seconds = self._token(kind, tokens), self._seconds()
        task, arguments = getattr(self, f"_{kind}")(seconds)
        if self.random.random() < 0.1:
            ahead = timedelta(seconds=self.random.uniform(0, 10))
            task = task.using(run_after=timezone.now() + ahead)
        task.enqueue(token, *arguments)

    def _seconds(self) -> float:
        """Most are short; one in a hundred outlasts the threshold, and what it is put back for."""
        most = 8.0 if self.random.random() < 0.01 else 0.2
        return self.random.uniform(0, most)

    def _work(self, seconds: float) -> Any:
        return tasks.work, [seconds]

    def _limited(self, seconds: float) -> Any:
        number = self.random.randrange(KEYS)
        return tasks.LIMITED[[1, 2, 5][number % 3]], [seconds, f"key {number}"]

    def _flaky(self, seconds: float) -> Any:
        return tasks.flaky, [seconds]

    def _poison(self, seconds: float) -> Any:
        # One that kills costs three processes: they are few enough for the others to have one.
        kinds = tasks.RAISERS if self.random.random() < 0.9 else tasks.KILLERS
        return tasks.poison, [self.random.choice(list(kinds))]
