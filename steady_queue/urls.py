"""For monitors: ``path("steady-queue/", include("steady_queue.urls"))``."""

from django.urls import path

from steady_queue import monitoring

app_name = "steady_queue"

urlpatterns = [
    path("health", monitoring.health, name="health"),
    path("metrics", monitoring.metrics, name="metrics"),
    path("stats.json", monitoring.stats, name="stats"),
]
