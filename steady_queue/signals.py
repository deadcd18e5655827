"""Signals of processes and queues. Those of tasks are Django's own, in ``django.tasks.signals``."""

from django.dispatch import Signal

process_started = Signal()
"""Sent in a process when it begins to work: ``kind``, ``name``, ``process_id``, ``pid``."""

process_stopped = Signal()
"""Sent in a process when it ends gracefully: ``kind``, ``name``, ``process_id``, ``pid``."""

process_restarted = Signal()
"""Sent in the supervisor when a child died and is replaced: as above, and ``reason``."""

queue_paused = Signal()
"""Sent after ``pause``: ``queue_name``, ``changed`` (False when it was paused already)."""

queue_resumed = Signal()
"""Sent after ``resume``: ``queue_name``, ``changed`` (False when it was not paused)."""
