"""Finding jobs among millions: nothing here counts or sorts the history, or reads all of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property, reduce
from operator import and_
from typing import Any, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

import steady_queue
from steady_queue import queries
from steady_queue.actions import STATES
from steady_queue.models import Job, Lane

SEARCHED = 1_000_000
"""Of so many numbers of jobs, the newest, the history is searched unless a time is chosen."""

LISTED = 1000
"""Jobs that can be leafed through; the rest is found by search and filters."""

BIGGEST = 2**63 - 1

SPANS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}


class JobPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of the first jobs of a list, which is not counted any further."""

    @cached_property
    def _found(self) -> int:
        jobs = cast("QuerySet[Any]", self.object_list)
        return len(jobs.values_list("pk")[: LISTED + 1])

    @cached_property
    def count(self) -> int:
        return min(self._found, LISTED)

    @property
    def more(self) -> bool:
        """Whether there are jobs beyond those that are counted."""
        return self._found > LISTED


class StateFilter(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        yield from ((state, state) for state in STATES)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class QueueFilter(admin.SimpleListFilter):
    title = parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        # Of the lanes, which are few, not of the jobs.
        lanes = Lane.objects.using(steady_queue.database).values_list("queue", flat=True)
        yield from ((queue, queue) for queue in lanes.distinct().order_by("queue")[:200])
        if (chosen := self.value()) is not None:
            yield chosen, chosen

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return bounded(request, queryset.filter(queue=self.value()))


class SinceFilter(admin.SimpleListFilter):
    title = "enqueued"
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        yield from ((name, f"Past {name}") for name in SPANS)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if (span := SPANS.get(self.value() or "")) is None:
            return queryset
        since = timezone.now() - span
        first = queries.first_job_since(steady_queue.database, since)
        return queryset.none() if first is None else queryset.filter(pk__gte=first)


def matching(request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """The jobs that a search is for: one number, one name, or words that all have to fit."""
    words = term.split()
    if len(words) == 1 and words[0].isascii() and words[0].isdigit():
        number = min(int(words[0][:20]), BIGGEST)
        if (numbered := queryset.filter(pk=number)).exists():
            return numbered
    if not words:
        return queryset
    # Names of queues and limits may hold blanks.
    wanted = _fits(term.strip()) | reduce(and_, map(_fits, words))
    return bounded(request, queryset.filter(wanted))


def _fits(text: str) -> Q:
    return Q(task__startswith=text) | Q(queue=text) | Q(limit_key=text)


def bounded(request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Without what is older than the newest jobs, where the whole history would be read."""
    state = request.GET.get("state")
    if request.GET.get("since") in SPANS or (state in STATES and state != "successful"):
        return queryset
    newest = Job.objects.using(steady_queue.database).aggregate(newest=Max("pk"))["newest"] or 0
    return queryset.filter(pk__gt=newest - SEARCHED)
