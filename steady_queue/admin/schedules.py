from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

import steady_queue
from steady_queue import queries
from steady_queue.admin.base import ReadOnlyAdmin
from steady_queue.models import Schedule


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    list_display = (
        "key", "schedule", "timezone", "task", "next_run_at", "last_run_at", "last_state", "paused",
        "removed_at",
    )  # fmt: skip
    ordering = ("key",)
    search_fields = ("key", "task")
    actions = ("pause", "resume", "run_now")

    def acts_on(self, row: Any) -> tuple[str, ...]:
        if row.removed_at is not None:
            return ()
        return ("resume" if row.paused else "pause", "run_now")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.pause_schedules")

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("steady_queue.run_schedules_now")

    @admin.action(permissions=["pause"], description="Pause schedules")
    def pause(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        said = "of {all} schedules do not run until resumed"
        self._do(request, queryset, queries.pause_recurring_task, "paused", said)

    @admin.action(permissions=["pause"], description="Resume schedules")
    def resume(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        said = "of {all} schedules go on"
        self._do(request, queryset, queries.resume_recurring_task, "resumed", said)

    @admin.action(permissions=["run"], description="Run schedules once, now")
    def run_now(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        said = "of {all} schedules run as soon as a scheduler sees it"
        self._do(request, queryset, queries.run_recurring_task_now, "run now", said)

    def _do(
        self,
        request: HttpRequest,
        queryset: QuerySet[Schedule],
        act: Callable[[str, str], bool],
        done: str,
        said: str,
    ) -> None:
        schedules = list(queryset)
        changed = [one for one in schedules if act(steady_queue.database, one.pk)]
        self.log(request, changed, done)
        messages.info(request, f"{len(changed)} {said.format(all=len(schedules))}.")
