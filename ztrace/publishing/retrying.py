"""Schedule of the attempts to make a connection."""

#: Pauses between attempts where threads or descriptors are short, or the last connection was cut: the first,
#: the longest; and time without either from which the pause is the first again.
RETRY_S, RETRY_MAX_S = 1.0, 30.0
FORGIVE_S = 300.0


class Retries:
    """Time of the next attempt."""

    def __init__(self, now_s: float) -> None:
        self._due_s = self._failed_s = now_s
        self._pause_s = RETRY_S

    def are_due(self, now_s: float) -> bool:
        """Return whether it is time for an attempt."""
        return now_s >= self._due_s

    def note_failure(self, now_s: float) -> None:
        """Schedule the next attempt after a pause, which doubles."""
        if now_s - self._failed_s > FORGIVE_S:
            self._pause_s = RETRY_S
        self._failed_s, self._due_s = now_s, now_s + self._pause_s
        self._pause_s = min(RETRY_MAX_S, 2 * self._pause_s)
