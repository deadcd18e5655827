from typing import Any

import steady_queue


class SteadyQueueRouter:
    """Keeps the queue's tables in the database named by ``steady_queue.database``.

    Needed only when that is not ``"default"``. Tables of other apps are left to other routers.
    """

    app_label = "steady_queue"

    def _route(self, model: Any) -> str | None:
        return steady_queue.database if model._meta.app_label == self.app_label else None

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self._route(model)

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return self._route(model)

    def allow_relation(self, first: Any, second: Any, **hints: Any) -> bool | None:
        ours = {first._meta.app_label == self.app_label, second._meta.app_label == self.app_label}
        return True if ours == {True} else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == steady_queue.database if app_label == self.app_label else None
