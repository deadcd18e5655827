"""Everything on one page, read from small tables and summaries only, and live."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

import steady_queue
from steady_queue import queries
from steady_queue.admin import charts
from steady_queue.admin.base import MOST, ReadOnlyAdmin
from steady_queue.management.layout import moment, span
from steady_queue.models import Dashboard

EVERY = timedelta(seconds=2)
"""How often the page is refreshed while it can be seen."""

SECTIONS = ("queues", "charts", "processes", "schedules", "limits", "failures")

type Row = dict[str, Any]


@admin.register(Dashboard)
class DashboardAdmin(ReadOnlyAdmin):
    def get_urls(self) -> list[URLPattern]:
        return [
            path("", self.admin_site.admin_view(self.changelist_view),
                 name=self._url_name("changelist")),
            path("live/", self.admin_site.admin_view(self.live), name=self._url_name("live")),
        ]  # fmt: skip

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The whole page: nothing on it needs JavaScript."""
        context = {
            **self.admin_site.each_context(request),
            **self._context(request),
            "title": "Steady Queue",
            "every": EVERY // timedelta(milliseconds=1),
            "opts": self.opts,
            "sections": [f"admin/steady_queue/dashboard/{name}.html" for name in SECTIONS],
        }
        return TemplateResponse(request, "admin/steady_queue/dashboard/page.html", context)

    def live(self, request: HttpRequest) -> JsonResponse:
        """The sections of the page as they are now."""
        context = self._context(request)
        sections = {
            name: render_to_string(f"admin/steady_queue/dashboard/{name}.html", context, request)
            for name in SECTIONS
        }
        return JsonResponse({"sections": sections, "now": context["now"]})

    def _context(self, request: HttpRequest) -> dict[str, Any]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        parts = queries.dashboard(steady_queue.database)
        now = parts["now"][0]["now"]
        chosen = charts.SPANS.get(request.GET.get("span", ""), charts.SPANS["hour"])
        queue = request.GET.get("queue") or None
        done = queries.throughput_of(steady_queue.database, chosen.long, chosen.step, queue)
        return {
            "now": moment(now),
            "spans": charts.SPANS,
            "span": chosen,
            "queue": queue,
            "queues": list(_queues(parts["queues"])),
            "charts": charts.draw(done, chosen, now),
            "processes": _processes(parts["processes"], parts["running"]),
            "schedules": [_shown(row) | _link(request, row) for row in parts["schedules"]],
            "limits": [_shown(row) for row in parts["limits"]],
            "failures": [_shown(row) for row in parts["failures"]],
            **self._links(request),
        }

    def _links(self, request: HttpRequest) -> dict[str, Any]:
        """Where this user may go, and what they may do."""
        queues_too = request.user.has_perm("steady_queue.view_queue")
        return {
            "jobs_url": reverse("admin:steady_queue_jobstate_changelist")
            if request.user.has_perm("steady_queue.view_jobstate")
            else None,
            "may_pause": queues_too and request.user.has_perm("steady_queue.pause_queues"),
        }


def _link(request: HttpRequest, schedule: Row) -> Row:
    if not request.user.has_perm("steady_queue.view_schedule"):
        return {}
    return {"url": reverse("admin:steady_queue_schedule_change", args=[quote(schedule["key"])])}


def _queues(rows: list[Row]) -> Iterable[Row]:
    totals = {state: sum(row[state] for row in rows) for state in ("scheduled", "blocked")}
    for row in rows:
        # Of these the view counts so many in all; of ready, for each queue.
        cut = {state: total >= MOST for state, total in totals.items()}
        cut["ready"] = row["ready"] >= MOST
        shown = {state: f"{row[state]:,}{'+' if cut[state] else ''}" for state in cut}
        yield (
            _shown(row) | shown | {"running": f"{row['running']:,}", "failed": f"{row['failed']:,}"}
        )


def _processes(rows: list[Row], running: list[Row]) -> list[Row]:
    threshold = steady_queue.process_alive_threshold
    jobs = defaultdict(list)
    for job in running:
        jobs[job["process"]].append(_shown(job))
    return [
        _shown(row) | {"jobs": jobs[row["id"]], "silent": row["silent_for"] > threshold}
        for row in rows
    ]


SHOW: dict[str, Callable[[Any], str]] = {
    "oldest_wait": span, "silent_for": span, "up_for": span, "running_for": span,
    "next_run_at": moment, "last_run_at": moment, "failed_at": moment, "next_blocked_at": moment,
}  # fmt: skip


def _shown(row: Row) -> Row:
    """As the command line shows it."""
    return {
        name: SHOW[name](value) if name in SHOW and value is not None else value
        for name, value in row.items()
    }
