"""The weights and states that a run leaves, so that it can be killed at any moment and go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger

from .options import Options


class Checkpoints:
    """Saves a run and takes it up again.

    Weights are written before the state that needs them, each file whole or not at all. Beside
    BasicSR's entries and the best metrics a state holds ``manual_seed``, ``scaler`` (of ``amp:
    fp16``) and ``validated``, the last iteration that was validated. States without them, such as
    BasicSR's own, are taken up as well.

    Args:
        model: BasicSR's.
        opt: completed options; ``logger.keep_checkpoints`` limits how many are kept.
    """

    def __init__(self, model: Any, opt: Options) -> None:
        self.model, self.opt = model, opt
        self.keep = int(opt["logger"].get("keep_checkpoints") or 0)
        self.saved: int | None = None  # the iteration of the newest state
        if opt["rank"] == 0:  # of runs that were killed while they saved
            for folder in (opt["path"]["models"], opt["path"]["training_states"]):
                for part in Path(folder).glob("*.tmp"):
                    part.unlink()

    def resume(self, state: dict[str, Any]) -> int:
        """Take up a state.

        Returns:
            After which iteration the last complete validation was made, as far as the state knows.
        """
        self.model.resume_training(state)
        if state.get("scaler") and hasattr(self.model, "scaler"):
            self.model.scaler.load_state_dict(state["scaler"])
        self.saved = state["iter"]
        return state.get("validated", self.saved)

    def save(self, epoch: int, iteration: int, validated: int) -> None:
        """Write weights and state after an iteration, then remove what is more than enough."""
        self.model.more_state = {
            "manual_seed": self.opt["manual_seed"],
            "validated": validated,
            "scaler": self.model.scaler.state_dict() if hasattr(self.model, "scaler") else {},
        }
        self.model.save(epoch, iteration)
        self.saved = iteration
        if self.opt["rank"] == 0:
            self.remove_old()

    def save_latest(self) -> None:
        """Write ``net_g_latest.pth``."""
        self.model.save(epoch=-1, current_iter=-1)

    def remove_old(self) -> None:
        """Leave the newest ``keep_checkpoints`` of those that have numbers for names.

        States go first: weights without a state stop nothing, a state without weights does.
        """
        if not self.keep:
            return
        paths = self.opt["path"]
        states = numbered(Path(paths["training_states"]), "*.state", r"(\d+)\.state")
        weights = numbered(Path(paths["models"]), "net_*.pth", r"net_.+_(\d+)\.pth")
        kept = sorted({number for number, _ in states})[-self.keep :]
        for number, file in [*states, *weights]:
            if number < kept[0]:
                file.unlink()
                get_root_logger().debug(f"Removed {file}")


def numbered(folder: Path, pattern: str, name: str) -> list[tuple[int, Path]]:
    """The files of a folder that have an iteration in their names."""
    matches = ((re.fullmatch(name, file.name), file) for file in folder.glob(pattern))
    return [(int(match[1]), file) for match, file in matches if match]
