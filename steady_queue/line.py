"""The line of the processes that wait for one topic: all hear of a job, and one of them comes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

DOUBT_AFTER = 0.5
"""Seconds after which the second in line looks whether the first has come. The wait grows with the
square of those ahead, so that all doubts together cost a look or two a second."""

IN_ORDER = 4
"""How many may be ahead for that. With more, waits are random, eight times as long as there are
ahead in the mean: where all of a lost host stood in front, somebody behind looks within seconds."""

MOST_FRUITLESS = 2
"""How often a wait in order is doubled by looks that found nothing: the first does come."""

DISTRUST_FOR = 60.0
"""Seconds for which those who did not come, twice, count as not there."""


class Line:
    """One process's place. Tickets say who came before: the lower, the earlier.

    ``unsure`` says that somebody ahead may have gone without a word: ask the database.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.ticket: int | None = None
        self.unsure = False
        self.doubt_at = float("inf")
        self._ahead: set[int] = set()
        self._distrusted: set[int] = set()
        self._distrust_until = 0.0
        self._fruitless = self._missed = 0
        self._announced_at, self._patience = 0.0, 1.0

    def join(self, ticket: int, ahead: Iterable[int]) -> None:
        self.ticket = ticket
        self.know(ahead)

    def leave(self) -> int | None:
        """The ticket that it had."""
        ticket, self.ticket = self.ticket, None
        self.doubt_at = float("inf")
        return ticket

    def know(self, ahead: Iterable[int]) -> None:
        """Who is ahead, by the database."""
        self.unsure = False
        self._ahead = set(ahead)
        if self._missed > 1:
            # Those of now only: who joins later has missed nothing yet.
            self._missed = 0
            self._distrusted |= self._ahead
            self._distrust_until = time.monotonic() + DISTRUST_FOR
        self._ahead -= self._distrusted

    def comes(self) -> bool:
        """A job was announced: whether this process is to look for it at once, or later if ever."""
        now = time.monotonic()
        if self._distrusted and now > self._distrust_until:
            self._distrusted.clear()
            self._missed, self.unsure = 0, True
        if self.ticket is None:
            return False
        if self._ahead:
            if not self.is_announced:
                self._announced_at, self._patience = now, random.expovariate(1.0)
            self._doubt_soon()
        return not self._ahead

    def hear_of_leaving(self, ticket: int) -> bool:
        """Whether it is this process's turn now, and a job was announced meanwhile."""
        if ticket not in self._ahead:
            return False
        self._ahead.remove(ticket)
        if self.is_announced:
            self._doubt_soon()
        return not self._ahead and self.is_announced

    @property
    def is_announced(self) -> bool:
        """Whether a job was announced, for those ahead, since this process last looked."""
        return self.doubt_at < float("inf")

    def looked(self, found: bool) -> None:
        """The process has looked, for whatever reason, and has seen all that was announced."""
        now = time.monotonic()
        if found and self.is_announced and now >= self._announced_at + DOUBT_AFTER:
            self.unsure = True
            self._missed, self._fruitless = self._missed + 1, 0
        elif self.doubt_at <= now:
            self._missed, self._fruitless = 0, min(self._fruitless + 1, MOST_FRUITLESS)
        self.doubt_at = float("inf")

    def _doubt_soon(self) -> None:
        """The fewer are ahead, the sooner; a doubt that is due earlier stays."""
        ahead = len(self._ahead)
        if ahead <= IN_ORDER:
            times = ahead**2 * 2.0**self._fruitless
        else:
            times = min(ahead**2, 2 * IN_ORDER * ahead * self._patience)
        self.doubt_at = min(self.doubt_at, time.monotonic() + DOUBT_AFTER * times)
