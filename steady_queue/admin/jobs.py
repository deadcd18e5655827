from __future__ import annotations

from collections.abc import Sequence
from itertools import batched
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst

import steady_queue
from steady_queue import queries
from steady_queue.actions import BATCH, DISCARD, RETRY, RUN_NOW, STATES, Action
from steady_queue.admin.base import ReadOnlyAdmin
from steady_queue.admin.search import (
    SEARCHED,
    JobPaginator,
    QueueFilter,
    SinceFilter,
    StateFilter,
    matching,
)
from steady_queue.management.layout import moment
from steady_queue.models import JobError, JobState

ERRORS = 25
"""Attempts that the page of a job shows: a traceback may have 64 KB."""


ACTS_ON = {
    "retry": RETRY.states,
    "discard": DISCARD.states,
    "run_now": RUN_NOW.states,
    "enqueue_copy": STATES,
}


class JobList(ChangeList):
    """Newest first, or what failed last first: in the orders that an index has."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        if request.GET.get("state") in ("failed", "discarded"):
            return ["-finished_at", "-pk"]
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # A single page has no limit of its own, and would be planned as if it were everything.
        self.result_list = self.result_list[: self.list_per_page]


@admin.register(JobState)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("id", "task", "state", "queue", "priority", "enqueued_at", "finished_at")
    list_filter = (StateFilter, QueueFilter, SinceFilter)
    # What they mean is in get_search_results.
    search_fields = ("id", "task", "queue", "limit_key")
    search_help_text = (
        "The number of a job; or the beginning of a task's path, a queue or a limit key, of the "
        f"newest {SEARCHED:,} jobs, of those since the time chosen, or of those that have not ended"
    )
    paginator = JobPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    list_per_page = list_max_show_all = 50
    actions = tuple(ACTS_ON)
    readonly_fields = ("timeline", "errors_with_tracebacks")

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return JobList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Megabytes a page, and rows made by SQL may hold what Python cannot read.
        return super().get_queryset(request).defer("arguments")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return matching(request, queryset, search_term), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Else arguments could be guessed, piece by piece, without the permission to see them.
        return not lookup.startswith("arguments") and super().lookup_allowed(lookup, value, request)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields = [f.name for f in JobState._meta.fields] + list(self.readonly_fields)
        if not request.user.has_perm("steady_queue.view_arguments"):
            fields.remove("arguments")
        return fields

    @admin.display(description="timeline")
    def timeline(self, job: JobState) -> SafeString:
        events = queries.job_timeline(steady_queue.database, job.pk)
        items = format_html_join(
            "", "<li><time>{}</time> {}</li>", ((moment(at), event) for at, event in events)
        )
        return format_html("<ol>{}</ol>", items)

    @admin.display(description="errors")
    def errors_with_tracebacks(self, job: JobState) -> SafeString | str:
        errors = JobError.objects.using(steady_queue.database).filter(job_id=job.pk)
        latest = list(errors.order_by("-pk")[: ERRORS + 1])
        shown = format_html_join(
            "",
            "<h4>{}: {}: {}</h4><pre>{}</pre>",
            [
                (capfirst(str(e)), e.exception_class, e.message, e.traceback)
                for e in latest[:ERRORS][::-1]
            ],
        )
        earlier = f"The latest {ERRORS}, of more." if len(latest) > ERRORS else ""
        return format_html("{}{}", earlier, shown) or "-"

    def acts_on(self, row: Any) -> tuple[str, ...]:
        return tuple(name for name, states in ACTS_ON.items() if row.state in states)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.retry_jobs")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.discard_jobs")

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.run_jobs_now")

    def has_copy_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.enqueue_copy")

    @admin.action(permissions=["retry"], description="Retry failed jobs")
    def retry(self, request: HttpRequest, queryset: QuerySet[JobState]) -> None:
        self._do(request, queryset, RETRY)

    @admin.action(permissions=["discard"], description="Discard waiting jobs")
    def discard(self, request: HttpRequest, queryset: QuerySet[JobState]) -> None:
        self._do(request, queryset, DISCARD)

    @admin.action(permissions=["run"], description="Run scheduled jobs now")
    def run_now(self, request: HttpRequest, queryset: QuerySet[JobState]) -> None:
        self._do(request, queryset, RUN_NOW)

    @admin.action(permissions=["copy"], description="Enqueue copies of jobs")
    def enqueue_copy(self, request: HttpRequest, queryset: QuerySet[JobState]) -> None:
        copies: list[int] = []

        def act(database: str, jobs: Sequence[int]) -> int:
            copies.extend(made := queries.enqueue_copy(database, jobs))
            del copies[1:]
            return len(made)

        self._do(request, queryset, Action(act, STATES, "copied", "were enqueued once more"))
        for copy in copies:
            url = reverse(f"admin:{self._url_name('change')}", args=[copy])
            messages.info(request, format_html('The first copy is <a href="{}">{}</a>.', url, copy))

    def _do(self, request: HttpRequest, queryset: QuerySet[JobState], action: Action) -> None:
        seen = count = 0
        # Read once: what gets into the selection meanwhile, by failing again, is not acted upon.
        keys = queryset.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=BATCH)
        for batch in batched(keys, BATCH):
            if not seen:
                # One entry each, of so many.
                self.log(request, _in_states(batch, action.states), action.done)
            count += action.act(steady_queue.database, batch)
            seen += len(batch)
        if seen > BATCH:
            self.log_many(request, f"{count:,} of {seen:,} jobs", action.done)
        messages.info(request, f"{count:,} of {seen:,} jobs {action.said}.")


def _in_states(jobs: Sequence[int], states: Sequence[str]) -> QuerySet[JobState]:
    rows = JobState.objects.using(steady_queue.database).filter(pk__in=jobs, state__in=states)
    return rows.defer("arguments").order_by("pk")
