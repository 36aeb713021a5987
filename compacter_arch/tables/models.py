"""The networks of a table: from checkpoints and option files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..errors import UserError
from ..inference import load_model
from ..training.checks.quiet import quiet_logger
from ..training.checks.weights import misfit, read_weights
from ..training.options import find_option_file, read_options
from .protocols import Protocol


@dataclass(frozen=True, eq=False)
class Model:
    """A network with a name.

    Attributes:
        label: the name of its row.
        network: in evaluation mode.
        file: where it comes from.
        scale: its factor.
        in_chans: 1 or 3.
    """

    label: str
    network: nn.Module
    file: str
    scale: int
    in_chans: int

    def fits(self, protocol: Protocol, named: bool) -> bool:
        """Whether it is for a task: by scale and channels and, unless ``named``, by its file.

        At scale 1 the name of a shipped file tells the task: ``Compacter_<task>.pth``.
        """
        if (self.scale, self.in_chans) != (protocol.scale, protocol.in_chans):
            return False
        return named or protocol.scale > 1 or Path(self.file).stem == protocol.experiment


def find_models(arguments: Sequence[str]) -> list[Model]:
    """The models that the command line names.

    Args:
        arguments: ``[NAME=]FILE``: a checkpoint of a Compacter, or an option file with
            ``network_g`` and ``path.pretrain_network_g``.

    Raises:
        UserError: a file cannot be used.
    """
    models = []
    for argument in arguments:
        label, equals, file = argument.rpartition("=")
        if file.endswith((".yml", ".yaml")):
            models.append(from_options(label, file))
            continue
        network = load_model(file)
        label = label if equals else Path(file).stem
        models.append(Model(label, network, file, network.upscale, network.conv_first.in_channels))
    return models


def from_options(label: str, file: str) -> Model:
    """The network of an option file with its weights."""
    from basicsr.archs import build_network

    opt = read_options(find_option_file(file))
    try:
        with quiet_logger():
            network = build_network(dict(opt["network_g"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: network_g: {error}") from error
    paths = opt.get("path") or {}
    weights = paths.get("pretrain_network_g")
    if weights is not None:
        if not Path(weights).is_file():
            raise UserError(f"{file}: path.pretrain_network_g: {weights} does not exist")
        try:
            state = read_weights(Path(weights), paths.get("param_key_g", "params"))
        except ValueError as error:
            raise UserError(f"{file}: path.pretrain_network_g: {error}") from error
        if reason := misfit(network, state):
            raise UserError(f"{file}: path.pretrain_network_g: {weights} does not fit: {reason}")
        network.load_state_dict(state)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    channels = convolutions[0].in_channels if convolutions else 3
    return Model(label or str(opt["name"]), network.eval(), file, opt.get("scale", 1), channels)
