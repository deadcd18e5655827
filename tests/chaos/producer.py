"""Enqueues, and keeps a ledger of what became of each transaction."""

from __future__ import annotations

import itertools
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
LONG = 0.01
"""Of one: jobs that outlast the threshold."""

BURST, BURST_KEYS, BURST_EVERY = 40, 200, 100
"""Jobs at once on two keys, of so many keys, once in so many transactions."""

MOST_READY, LOOK_EVERY = 300, 20
"""Jobs that wait, beyond which a slow machine is given time; transactions between two looks."""

WEIGHTS = {"work": 78, "limited": 15, "flaky": 5, "poison": 2}
"""Of a hundred jobs."""


class RollBack(Exception):
    """Raised by the producer, to roll its transaction back."""


class Producer:
    """The ledger has a line for each token, with its kind and its fate: committed, rolled back, or
    unsure. The last line counts.

    Written once COMMIT has returned. Unsure is what was sent a COMMIT that nobody answered.
    """

    def __init__(
        self, seed: str, per_second: float, ledger: Any, *, bursts: bool, lowers: bool
    ) -> None:
        self.random = random.Random(seed)
        self.bursts, self.lowers = bursts, lowers
        self.kinds: dict[str, str] = {}
        self.stopped = threading.Event()
        self._per_second = per_second
        self._ledger = ledger

    def run(self) -> None:
        for turn in itertools.count(1):
            if self.stopped.wait(self.random.expovariate(self._per_second)):
                break
            if turn % LOOK_EVERY == 0:
                self._let_workers_catch_up()
            if self.bursts and self.random.randrange(BURST_EVERY) == 0:
                self.produce(self._enqueue_burst)
            else:
                self.produce(self._enqueue_one)
        connection.close()

    def _let_workers_catch_up(self) -> None:
        while self._ready() > MOST_READY and not self.stopped.wait(1):
            pass

    def _ready(self) -> int:
        try:
            with connection.cursor() as cursor:
                cursor.execute("select count(*) from steady_queue_ready")
                return cursor.fetchone()[0]
        except Error:
            connection.close()
            return 0

    def produce(self, enqueue: Any) -> None:
        """One transaction, and its lines in the ledger."""
        tokens: list[str] = []
        rolls_back = self.random.random() < 0.2
        fate = "rolled back"
        try:
            with transaction.atomic():
                enqueue(tokens)
                if rolls_back:
                    raise RollBack
                fate = "unsure"
                self._note(tokens, fate)
            fate = "committed"
        except RollBack:
            pass
        except Error:
            connection.close()
        self._note(tokens, fate)

    def _note(self, tokens: list[str], fate: str) -> None:
        lines = [f"{token} {self.kinds[token]} {fate}\n" for token in tokens]
        self._ledger.write("".join(lines))
        self._ledger.flush()

    def _enqueue_burst(self, tokens: list[str]) -> None:
        """Of short jobs: workers decide about the same keys."""
        keys = self.random.sample(range(BURST_KEYS), 2)
        for number in range(BURST):
            token, key = self._token("limited", tokens), keys[number % 2]
            task = tasks.LIMITED[[1, 2, 5][key % 3]]
            task.enqueue(token, self.random.uniform(0, 0.02), f"burst {key}")

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
        """Most are short; some outlast the threshold."""
        long = self.random.random() < LONG
        return self.random.uniform(4, 8) if long else self.random.uniform(0, 0.2)

    def _work(self, seconds: float) -> Any:
        return tasks.work, [seconds]

    def _limited(self, seconds: float) -> Any:
        number = self.random.randrange(KEYS)
        limited = tasks.LOWERED if self.lowers else tasks.LIMITED
        return limited[[1, 2, 5][number % 3]], [seconds, f"key {number}"]

    def _flaky(self, seconds: float) -> Any:
        return tasks.flaky, [seconds]

    def _poison(self, seconds: float) -> Any:
        # One that kills costs three processes: they are few enough for the others to have one.
        kinds = self.random.choices([tasks.RAISERS, tasks.KILLERS, ["leaks"]], [80, 10, 10])[0]
        return tasks.poison, [self.random.choice(list(kinds))]
