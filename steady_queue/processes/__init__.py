"""The processes: a supervisor, and its workers, dispatchers and scheduler."""


class OutcomeRefusedError(Exception):
    """PostgreSQL would not record how the job ended; the message says why."""


class ProcessExitError(Exception):
    """A process ended while it ran a job, by an exit or a signal."""


class ProcessPrunedError(Exception):
    """A process was silent for longer than ``process_alive_threshold`` while it ran a job."""


class ProcessMissingError(Exception):
    """The process that a job belonged to is not registered."""
