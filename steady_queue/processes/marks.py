"""When a worker moves up the marks of the lanes that it claimed from."""

from __future__ import annotations

import time
from collections.abc import Sequence

from steady_queue import queries
from steady_queue.connections import Database
from steady_queue.queries import ClaimedJob

MOVE_AFTER = 500
"""Jobs claimed since the last move: what they left before the mark, each claim walks over."""

MOVE_AGAIN = 0.05
"""Seconds between two moves, at least."""

PAGE = 100
"""Jobs more for each page that moves have filled. Under an old transaction each leaves a version
of the lane behind, and every claim reads them all: a page of them takes about as long as what a
hundred jobs leave."""

FILLS_A_PAGE = 100
"""Moves that would fill a page, were their old versions not cleared away."""


class Marks:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._lanes: set[tuple[str, int]] = set()
        self._jobs, self._move_at = 0, 0.0
        self._pages = self._moves = 0

    def move_when_due(self, claimed: Sequence[ClaimedJob]) -> None:
        self._jobs += len(claimed)
        self._lanes.update((job.queue, job.priority) for job in claimed)
        if self._jobs >= MOVE_AFTER + PAGE * self._pages and time.monotonic() >= self._move_at:
            self._jobs, self._move_at = 0, time.monotonic() + MOVE_AGAIN
            self._learn(queries.move_marks(self._database.connection(), self._lanes))
            self._lanes.clear()

    def _learn(self, filled_a_page: bool) -> None:
        self._moves = 0 if filled_a_page else self._moves + 1
        if self._moves > FILLS_A_PAGE:
            self._pages = 0
        self._pages += filled_a_page
