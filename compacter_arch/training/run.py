"""A training under way: what it does after which iteration, and how it takes up a saved state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.train import init_tb_loggers
from basicsr.utils import AvgTimer, get_root_logger
from basicsr.utils.dist_util import master_only

from .checkpoints import Checkpoints
from .comparison import compare_with_input
from .history import History, metric_column
from .interrupts import StopRequest
from .nonfinite import FiniteSteps, check_metrics
from .options import Options
from .progress import Progress
from .sampling import Batches


class Run:
    """A model, its data, and what it leaves behind.

    Killed at any moment and resumed, it ends as if it had been left alone. To that end a state is
    saved before a validation of the same iteration, and once more after it; what the logs hold
    beyond a state is forgotten when it is taken up, as it will come again.

    Args:
        model: BasicSR's.
        opt: completed options.
        loader: BasicSR's, of the training set.
        val_loaders: of the validation sets.
        stop: asked after every iteration whether to stop.

    Attributes:
        iteration: how many are done.
        validated: after which of them the last complete validation was made.
    """

    def __init__(
        self, model: Any, opt: Options, loader: Any, val_loaders: list[Any], stop: StopRequest
    ) -> None:
        self.model, self.opt, self.stop = model, opt, stop
        self.loader, self.val_loaders = loader, val_loaders
        self.iteration, self.validated = 0, -1
        self.checkpoints = Checkpoints(model, opt)
        self.tb_logger = init_tb_loggers(opt)
        self.history: History | None = None
        if opt["rank"] == 0:
            self.history = History(Path(opt["path"]["log"], f"train_{opt['name']}.csv"))

    def resume(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.iteration = state["iter"]
        self.validated = self.checkpoints.resume(state)
        if self.history is not None:
            self.history.cut(self.iteration, self.validated == self.iteration)
            if self.tb_logger:
                rewind(self.tb_logger, self.iteration, self.tagged(self.iteration))
        get_root_logger().info(f"Resuming after iteration {self.iteration:,}.")
        if self.validated < self.iteration and self.is_due("val", "val_freq"):
            self.validate()  # it was cut off

    def train(self, total_iters: int) -> None:
        """Train until all is done, or the run is asked to stop.

        Raises:
            FloatingPointError: a loss or gradient is not finite; its step was not taken.
        """
        data_timer, iter_timer = AvgTimer(), AvgTimer()
        steps = FiniteSteps(self.model, self.opt)
        with (
            Progress(self.opt, self.iteration, self.tb_logger, self.history) as progress,
            Batches(self.loader, self.opt) as batches,
        ):
            while self.iteration < total_iters and not self.stop.agreed(self.iteration):
                epoch = self.epoch
                data_timer.start()
                iter_timer.start()
                for batch in batches.epoch(self.iteration):
                    data_timer.record()
                    taken = steps.take(self.iteration + 1, batch)
                    self.iteration += 1
                    iter_timer.record()
                    times = data_timer.get_avg_time(), iter_timer.get_avg_time()
                    if taken:
                        progress.update(epoch, self.iteration, self.model, *times)
                    else:
                        progress.skip()
                    if self.is_due("logger", "save_checkpoint_freq"):
                        self.save()
                    if self.is_due("val", "val_freq"):
                        self.validate()
                    if self.iteration >= total_iters or self.stop.agreed(self.iteration):
                        break
                    data_timer.start()
                    iter_timer.start()

    def finish(self) -> None:
        """Leave what a complete run leaves."""
        if self.checkpoints.saved != self.iteration:
            self.save()
        self.checkpoints.save_latest()
        validation = self.opt.get("val")
        if validation and self.validated < self.iteration:
            self.validate()
        if validation and validation.get("comparison"):
            compare = master_only(compare_with_input)
            self.stop.unless_stopped(lambda: compare(self.model, self.val_loaders, self.opt))

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration."""
        return self.iteration // len(self.loader)

    def is_due(self, section: str, key: str) -> bool:
        """Whether ``section.key`` has something done after the iteration at hand."""
        return bool(self.opt.get(section)) and self.iteration % int(self.opt[section][key]) == 0

    def save(self) -> None:
        """Save weights and state."""
        if self.tb_logger:
            self.tb_logger.flush()
        self.checkpoints.save(self.epoch, self.iteration, self.validated)

    def validate(self) -> None:
        """Validate on all sets, unless the run is asked to stop meanwhile."""

        def work() -> None:
            for loader in self.val_loaders:
                name, save_img = loader.dataset.opt["name"], self.opt["val"]["save_img"]
                self.model.validation(loader, self.iteration, self.tb_logger, save_img)
                metrics = self.metrics_of_last_validation(name)
                if self.history is not None and metrics:
                    self.history.add(self.iteration, metrics)

        if self.stop.unless_stopped(work):
            self.validated = self.iteration
            if self.checkpoints.saved == self.iteration:
                self.save()

    def metrics_of_last_validation(self, dataset: str) -> dict[str, float]:
        """Column and value of each metric.

        Raises:
            ValueError: one is not a number.
        """
        results: dict[str, float] = {}
        if self.opt["val"].get("metrics"):
            results = getattr(self.model, "metric_results", {})
        check_metrics(results, dataset)
        return {metric_column(dataset, metric): value for metric, value in results.items()}

    def tagged(self, iteration: int) -> dict[str, float]:
        """What TensorBoard was told of an iteration, by its tags."""
        row = self.history.row(iteration) if self.history is not None else {}
        tags = {column: f"losses/{column}" for column in row if column.startswith("l_")}
        for loader in self.val_loaders:
            name = loader.dataset.opt["name"]
            for metric in self.opt["val"].get("metrics") or {}:
                tags[metric_column(name, metric)] = f"metrics/{name}/{metric}"
        return {tags[column]: value for column, value in row.items() if column in tags}


def rewind(tb_logger: Any, iteration: int, scalars: Mapping[str, float]) -> None:
    """Let TensorBoard forget everything from ``iteration`` on, but for ``scalars`` of it."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    restart = Event(step=iteration, session_log=SessionLog(status=SessionLog.START))
    tb_logger.file_writer.add_event(restart)
    for tag, value in scalars.items():
        tb_logger.add_scalar(tag, value, iteration)
