from django.contrib import admin

from steady_queue.admin.base import ReadOnlyAdmin
from steady_queue.models import Process


@admin.register(Process)
class ProcessAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "host", "pid", "threads", "started_at", "heartbeat_at")
    ordering = ("supervisor", "id")
