from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

import steady_queue
from steady_queue import queries, signals
from steady_queue.models import JobError, JobState, Process, Queue


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows are made, changed and deleted by the queue; people act on them through actions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _log(self, request: HttpRequest, queryset: QuerySet[Any], message: str) -> None:
        for row in queryset:
            self.log_change(request, row, message)


@admin.register(JobState)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("id", "task", "state", "queue", "priority", "enqueued_at", "finished_at")
    list_filter = ("state",)
    search_fields = ("=id", "task__startswith", "=queue", "=limit_key")
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50
    actions = ("retry", "discard")
    readonly_fields = ("errors_with_tracebacks",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Megabytes a page, and rows made by SQL may hold what Python cannot read.
        return super().get_queryset(request).defer("arguments")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Else arguments could be guessed, piece by piece, without the permission to see them.
        return not lookup.startswith("arguments") and super().lookup_allowed(lookup, value, request)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields = [f.name for f in JobState._meta.fields] + ["errors_with_tracebacks"]
        if not request.user.has_perm("steady_queue.view_arguments"):
            fields.remove("arguments")
        return fields

    @admin.display(description="errors")
    def errors_with_tracebacks(self, job: JobState) -> SafeString | str:
        errors = JobError.objects.using(steady_queue.database).filter(job_id=job.pk).order_by("pk")
        return (
            format_html_join(
                "",
                "<h4>{}: {}: {}</h4><pre>{}</pre>",
                ((_label(e), e.exception_class, e.message, e.traceback) for e in errors),
            )
            or "-"
        )

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.retry_jobs")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.discard_jobs")

    @admin.action(permissions=["retry"], description="Retry failed jobs")
    def retry(self, request: HttpRequest, queryset: QuerySet[JobState]) -> None:
        jobs = list(queryset.values_list("pk", flat=True))
        self._log(request, queryset.filter(state__in=["failed", "discarded"]), "retried")
        count = queries.retry_jobs(steady_queue.database, jobs)
        messages.info(request, f"{count} of {len(jobs)} jobs are ready again.")

    @admin.action(permissions=["discard"], description="Discard waiting jobs")
    def discard(self, request: HttpRequest, queryset: QuerySet[JobState]) -> None:
        jobs = list(queryset.values_list("pk", flat=True))
        waiting = queryset.filter(state__in=["ready", "scheduled", "blocked"])
        self._log(request, waiting, "discarded")
        count = queries.discard_jobs(steady_queue.database, jobs)
        messages.info(request, f"{count} of {len(jobs)} jobs were discarded.")


def _label(error: JobError) -> str:
    return f"Attempt {error.attempt}" if error.attempt else "Lost start"


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("queue", "ready", "scheduled", "blocked", "running", "oldest_wait", "paused")
    ordering = ("queue",)
    actions = ("pause", "resume")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.pause_queues")

    @admin.action(permissions=["pause"], description="Pause queues")
    def pause(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        for queue in queryset:
            changed = queries.pause_queue(steady_queue.database, queue.pk)
            signals.queue_paused.send_robust(Queue, queue_name=queue.pk, changed=changed)
        self._log(request, queryset, "paused")
        messages.info(request, "Nothing is claimed from these queues until they are resumed.")

    @admin.action(permissions=["pause"], description="Resume queues")
    def resume(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        for queue in queryset:
            changed = queries.resume_queue(steady_queue.database, queue.pk)
            signals.queue_resumed.send_robust(Queue, queue_name=queue.pk, changed=changed)
        self._log(request, queryset, "resumed")
        messages.info(request, "Jobs of these queues are claimed again.")


@admin.register(Process)
class ProcessAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "host", "pid", "threads", "started_at", "heartbeat_at")
    ordering = ("supervisor", "id")
