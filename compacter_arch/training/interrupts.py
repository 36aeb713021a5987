"""Stopping a run from outside: Ctrl-C, SIGTERM, a time limit."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import torch
import torch.distributed as dist

TIME_LIMIT = "time limit"
MARGIN = 10.0  # seconds kept back for saving, at most a tenth of the limit
AGREE_EVERY = 10  # iterations between two votes of the processes of a distributed run


class Interrupted(Exception):
    """Raised inside :meth:`StopRequest.unless_stopped` when the run is asked to stop."""


class StopRequest:
    """Remembers why the run should stop.

    While entered, SIGINT (Ctrl-C) and SIGTERM ask for a stop after the iteration at hand; a SIGINT
    after that stops at once. The time limit does the same as SIGTERM, through a timer.

    Args:
        time_limit: seconds after ``started`` in which the process must have ended, or None.
        started: ``time.monotonic()`` when the time began to count.

    Attributes:
        reason: ``SIGINT``, ``SIGTERM``, ``time limit``, or empty while the run may go on.
    """

    def __init__(self, time_limit: float | None = None, started: float | None = None) -> None:
        self.reason = ""
        self._interruptible = False
        self._timer: threading.Timer | None = None
        if time_limit is not None:
            spent = 0.0 if started is None else time.monotonic() - started
            seconds = max(time_limit - min(MARGIN, time_limit / 10) - spent, 0)
            self._timer = threading.Timer(seconds, self._on_time_limit)
            self._timer.daemon = True

    def __enter__(self) -> StopRequest:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        if self._timer is not None:
            self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_time_limit(self) -> None:
        self.reason = self.reason or TIME_LIMIT
        signal.raise_signal(signal.SIGTERM)  # handled in the main thread, which may be validating

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = self.reason or signal.Signals(number).name
        if self._interruptible:
            self._interruptible = False
            raise Interrupted

    def unless_stopped(self, work: Callable[[], None]) -> bool:
        """Do work that may be cut off anywhere, such as validation.

        The processes of a distributed run share such work and wait for each other in it. They must
        all call; all of them begin or none, and it is not cut off.

        Returns:
            Whether it was done whole; False if the run had been, or was then, asked to stop.
        """
        if self.agreed():
            return False
        try:
            self._interruptible = not dist.is_initialized()
            work()
        except Interrupted:
            return False
        finally:
            self._interruptible = False
        return True

    def agreed(self, iteration: int = 0) -> bool:
        """Whether to stop after this iteration; all processes of a distributed run decide alike.

        They vote in every ``AGREE_EVERY``-th iteration, and at once without one.
        """
        if not dist.is_initialized():
            return bool(self.reason)
        if iteration % AGREE_EVERY:
            return False
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        votes = torch.tensor([float(bool(self.reason))], device=device)
        dist.all_reduce(votes)
        if votes.item() and not self.reason:
            self.reason = "a stop of another process"
        return bool(votes.item())
