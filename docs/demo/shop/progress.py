import time


class Progress:
    """One line that is written anew on a terminal; elsewhere a line at each fifth of the way."""

    EVERY = 0.2
    """Seconds between two looks."""

    def __init__(self, output, count_states, total):
        self.output = output
        self.count_states = count_states
        self.total = total
        self.live = output.isatty()
        self.look_at = 0.0
        self.say_at = total // 5

    def look(self, *, at_once=False):
        """Show how far the jobs are, if the last look was a while ago; how many have ended."""
        if not at_once and time.monotonic() < self.look_at:
            return 0
        self.look_at = time.monotonic() + self.EVERY
        states = self.count_states()
        ended = states.get("successful", 0) + states.get("failed", 0)
        if self.live:
            self.output.write(f"\r\x1b[K{self._line(ended, states)}", ending="")
            self.output.flush()
        elif ended >= self.say_at:
            self.output.write(self._line(ended, states))
            self.say_at = (ended * 5 // self.total + 1) * self.total // 5
        return ended

    def close(self):
        if self.live:
            self.output.write("")

    def _line(self, ended, states):
        waiting = ", ".join(
            f"{states[state]} {state}"
            for state in ("ready", "running", "scheduled")
            if states.get(state)
        )
        return f"{ended} of {self.total} tasks have ended{': ' if waiting else ''}{waiting}"
