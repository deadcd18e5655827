"""Django's admin of the queue: everybody sees what they may see, and does what they may do."""

from steady_queue.admin.dashboard import DashboardAdmin
from steady_queue.admin.jobs import JobAdmin
from steady_queue.admin.processes import ProcessAdmin
from steady_queue.admin.queues import QueueAdmin
from steady_queue.admin.schedules import ScheduleAdmin

__all__ = ["DashboardAdmin", "JobAdmin", "ProcessAdmin", "QueueAdmin", "ScheduleAdmin"]
