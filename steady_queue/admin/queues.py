from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from steady_queue.actions import pause_queue, resume_queue
from steady_queue.admin.base import MOST, ReadOnlyAdmin
from steady_queue.models import Queue


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = (
        "queue", "ready", "scheduled", "blocked", "running", "failed", "finished_per_minute",
        "oldest_wait", "paused",
    )  # fmt: skip
    ordering = ("queue",)
    actions = ("pause", "resume")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        said = {"subtitle": f"Waiting jobs are counted up to {MOST:,} of each state"}
        return super().changelist_view(request, said | (extra_context or {}))

    def acts_on(self, row: Any) -> tuple[str, ...]:
        return ("resume",) if row.paused else ("pause",)

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.pause_queues")

    @admin.action(permissions=["pause"], description="Pause queues")
    def pause(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        for queue in (queues := list(queryset)):
            pause_queue(Queue, queue.pk)
        self.log(request, queues, "paused")
        messages.info(request, f"Nothing is claimed from {_names(queues)} until resumed.")

    @admin.action(permissions=["pause"], description="Resume queues")
    def resume(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        for queue in (queues := list(queryset)):
            resume_queue(Queue, queue.pk)
        self.log(request, queues, "resumed")
        messages.info(request, f"Jobs are claimed from {_names(queues)} again.")


def _names(queues: list[Queue]) -> str:
    return f"queue {queues[0]}" if len(queues) == 1 else f"{len(queues)} queues"
