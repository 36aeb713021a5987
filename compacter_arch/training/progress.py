"""What a run tells while it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from basicsr.utils import MessageLogger, get_root_logger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .history import History
from .options import Options


class Progress:
    """Iterations per second, losses, share of time spent waiting for data, rate, time left.

    The same numbers go to TensorBoard and to the CSV file of the run.

    On a terminal a bar shows them; the lines of BasicSR's ``MessageLogger`` then go to the log file
    alone. Without a terminal (a file, CI, a cluster) these lines are all there is.
    """

    def __init__(
        self, opt: Options, start_iter: int, tb_logger: Any, history: History | None
    ) -> None:
        self.print_freq = int(opt["logger"]["print_freq"])
        self.dist = opt["dist"]
        self.messages = MessageLogger(opt, start_iter, tb_logger)
        self.history = history
        self.logger = get_root_logger()
        # A terminal without a width shows no bar at all.
        wide = sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
        self.on_terminal = wide and opt["rank"] == 0
        self.bar = tqdm(
            total=int(opt["train"]["total_iter"]),
            initial=start_iter,
            desc=opt["name"],
            unit="it",
            dynamic_ncols=True,
            disable=not self.on_terminal,
        )
        self.redirect = logging_redirect_tqdm([self.logger])
        self.streams: list[logging.Handler] = []

    def __enter__(self) -> Progress:
        if self.on_terminal:
            self.redirect.__enter__()
            self.streams = [
                handler
                for handler in self.logger.handlers
                if isinstance(handler, logging.StreamHandler)
                and not isinstance(handler, logging.FileHandler)
            ]
        return self

    def __exit__(self, *exception: Any) -> None:
        self.bar.close()
        if self.on_terminal:
            self.redirect.__exit__(*exception)

    def skip(self) -> None:
        """Tell of one iteration whose step was not taken."""
        self.bar.update()

    def update(
        self, epoch: int, iteration: int, model: Any, data_time: float, iter_time: float
    ) -> None:
        """Tell of one finished iteration.

        Args:
            data_time, iter_time: mean seconds of waiting for a batch, and of a whole iteration.
        """
        drawn = self.bar.update()  # a few times a second, if there is a bar
        due = iteration % self.print_freq == 0
        # To read the losses is to wait for the GPU, and for the other processes if there are any.
        if not due and (self.dist or not drawn):
            return
        rates, losses = model.get_current_learning_rate(), model.get_current_log()
        if self.on_terminal:
            shown = {name.removeprefix("l_"): f"{value:.4f}" for name, value in losses.items()}
            data = f"{100 * data_time / max(iter_time, 1e-9):.0f}%"
            self.bar.set_postfix(shown | {"lr": f"{rates[0]:.1e}", "data": data}, refresh=False)
        if due:
            if self.history is not None:
                self.history.add(iteration, {"lr": rates[0]} | losses)
            times = {"time": iter_time, "data_time": data_time}
            levels = [stream.level for stream in self.streams]
            for stream in self.streams:  # the bar says the same on the terminal
                stream.setLevel(logging.WARNING)
            self.messages({"epoch": epoch, "iter": iteration, "lrs": rates} | times | losses)
            for stream, level in zip(self.streams, levels, strict=True):
                stream.setLevel(level)
