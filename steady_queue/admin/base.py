from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme

MOST = 10_000
"""How far the view steady_queue_queues_at_a_glance counts."""


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows are made, changed and deleted by the queue; people act on them through actions.

    Actions stand in the list, and as buttons wherever one row is shown.
    """

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        act = self.admin_site.admin_view(self.act)
        return [path("act/", act, name=self._url_name("act")), *super().get_urls()]

    def act(self, request: HttpRequest) -> HttpResponse:
        """Do what a button says: its name is the action's, its value the key of the row."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name = next((name for name in self._allowed(request) if name in request.POST), None)
        if name is None:
            raise PermissionDenied
        row = self.get_object(request, request.POST[name])
        if row is None:
            raise Http404(f"no such {self.opts.verbose_name}")
        getattr(self, name)(request, self.get_queryset(request).filter(pk=row.pk))
        return HttpResponseRedirect(self._where_to(request, row))

    def acts_on(self, row: Any) -> tuple[str, ...]:
        """The actions that would change this row."""
        return ()

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *arguments: Any, **options: Any
    ) -> HttpResponse:
        allowed = self._allowed(request)
        acts = [name for name in self.acts_on(context["original"]) if name in allowed]
        context["acts"] = [(name, label(name)) for name in acts]
        return super().render_change_form(request, context, *arguments, **options)

    def _allowed(self, request: HttpRequest) -> tuple[str, ...]:
        if not self.has_view_permission(request):
            return ()
        return tuple(self.get_actions(request))

    def _where_to(self, request: HttpRequest, row: Any) -> str:
        url = request.POST.get("next", "")
        if url_has_allowed_host_and_scheme(url, {request.get_host()}, request.is_secure()):
            return url
        return reverse(f"admin:{self._url_name('change')}", args=[quote(row.pk)])

    def _url_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def log(self, request: HttpRequest, rows: Iterable[Any], message: str) -> None:
        """An entry of the admin's log for each row."""
        if rows := list(rows):
            LogEntry.objects.log_actions(self._user(request), rows, CHANGE, message)

    def log_many(self, request: HttpRequest, what: str, message: str) -> None:
        """One entry for many rows."""
        LogEntry.objects.create(
            user_id=self._user(request),
            content_type=ContentType.objects.get_for_model(self.model, for_concrete_model=False),
            object_repr=what,
            action_flag=CHANGE,
            change_message=message,
        )

    def _user(self, request: HttpRequest) -> int:
        return request.user.pk  # type: ignore[return-value]


def label(action: str) -> str:
    """What stands on the action's button."""
    return action.replace("_", " ").capitalize()
