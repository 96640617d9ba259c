"""Slows a sender down to a rate, so that one scanner's archive job does not keep the others from being heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Throttle:
    """A second's worth may come at once; what comes faster waits. Nothing is refused.

    Args:
        per_second: of each sender; 0 for no limit.
        clock: monotonic [s].
        sleep: waits [s].
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._per_second, self._clock, self._sleep = per_second, clock, sleep
        self._free: dict[str, float] = {}  # when a sender's debt is paid
        self._lock = threading.Lock()

    def wait(self, sender: str) -> None:
        """Wait until a sender may have one more."""
        if not self._per_second:
            return
        now = self._clock()
        with self._lock:
            if len(self._free) > 1024:  # with `allow_any`, titles are as many as somebody likes
                self._free = {name: free for name, free in self._free.items() if free > now}
            free = max(self._free.get(sender, 0.0), now) + 1 / self._per_second
            self._free[sender] = free
        if free - now > 1.0:
            self._sleep(free - now - 1.0)
