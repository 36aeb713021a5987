"""BasicSR's ``SRModel`` with what today's recipes need beyond it, each by a key of its own."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import torch
import torch.distributed as dist
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer, lr_scheduler

from ..archs import CompacterArch
from ..execution import UnavailableError
from ..execution.kernels import train_by_kernels
from .validation import validate

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
OPTIMIZERS: dict[str, Any] = {
    name: cls
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}
SCHEDULERS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        lr_scheduler.CosineAnnealingLR,
        lr_scheduler.CosineAnnealingWarmRestarts,
        lr_scheduler.ExponentialLR,
        lr_scheduler.LinearLR,
        lr_scheduler.OneCycleLR,
        lr_scheduler.PolynomialLR,
        lr_scheduler.StepLR,
    )
}
GradScaler: Any = getattr(torch.amp, "GradScaler", torch.cuda.amp.GradScaler)  # before torch 2.3


class RestorationModel(SRModel):
    """``SRModel``, and to the bit nothing else until one of these keys of ``train`` is set:

    - optim_g.type: any optimizer of ``torch.optim``, such as ``AdamW``.
    - scheduler.type: a scheduler of ``torch.optim.lr_scheduler``, stepped once an iteration.
      ``CosineAnnealingLR`` (without restarts) spans the run unless it is given a ``T_max``.
    - grad_clip: the norm of the gradient is cut to this.
    - amp: ``bf16`` or ``fp16``; the forward pass in mixed precision, losses and weights in float32.
      ``fp16`` needs a GPU.
    - accum_iter: a batch passes through the network in this many parts: the same gradient in
      less memory. It must divide ``batch_size_per_gpu``.
    - compile: true: Compacter on a CPU is trained by compiled kernels
      (:func:`~compacter_arch.execution.kernels.train_by_kernels`), any other network, and Compacter
      on a GPU, by ``torch.compile``. ``cpu``: the kernels alone. The optimizer is PyTorch's fused
      implementation where there is one.
    - channels_last: keep its weights and images in that memory format.

    Validation and testing use the plain network in float32; see :mod:`.validation`. Of several
    processes each takes a part of the images.

    No step of its own waits for the GPU: images are copied to it in passing, and the losses of a
    step are read when a log is due. (Training looks once a step whether the gradient is finite.)

    Raises:
        ValueError: a key has a value that it cannot have.
    """

    net_g: Any  # a network, maybe in the wrapper of several processes or GPUs
    backend: str  # what computes its gradients, in words

    def __init__(self, opt: dict[str, Any]) -> None:
        self.keys = opt["train"] if opt["is_train"] else {}
        check_values(opt, self.keys)
        self.amp: str | None = self.keys.get("amp")
        self.dtype = AMP[self.amp] if self.amp else None
        self.grad_clip, self.parts = self.keys.get("grad_clip"), self.keys.get("accum_iter", 1)
        super().__init__(opt)
        self.scaler = GradScaler(enabled=self.amp == "fp16")

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """BasicSR's, after the memory format and the compiler."""
        if self.keys.get("channels_last"):
            layers: Any = net  # torch's stubs of some versions lack this form of `to`
            layers.to(memory_format=torch.channels_last)
        self.backend = "the plain network"
        if wanted := self.keys.get("compile"):  # in place: the names of the weights stay
            if self.opt["num_gpu"] == 0 and isinstance(net, CompacterArch):
                self.backend = use_kernels(net)
            elif wanted is True:
                net.compile(dynamic=False)
                self.backend = "torch.compile"
        if self.keys:
            get_root_logger().info(f"network_g is trained by {self.backend}.")
        return super().model_to_device(net)

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> Optimizer:
        """An optimizer of PyTorch by its name; Adam is BasicSR's.

        With ``compile`` it is PyTorch's fused implementation where there is one: a step of the
        others takes a few operations for each of some 250 tensors.
        """
        if self.keys.get("compile") and not {"foreach", "fused"} & kwargs.keys():
            with suppress(RuntimeError, TypeError):  # not for these parameters, or not at all
                return self.get_optimizer(optim_type, params, lr, **kwargs, fused=True)
        if optim_type == "Adam" or optim_type not in OPTIMIZERS:
            return super().get_optimizer(optim_type, params, lr, **kwargs)
        return OPTIMIZERS[optim_type](params, lr=lr, **kwargs)

    def setup_schedulers(self) -> None:
        """One of BasicSR's schedulers, or of PyTorch's by its name."""
        arguments = dict(self.keys["scheduler"])
        name = arguments.pop("type")
        if name not in SCHEDULERS:
            super().setup_schedulers()
            return
        if name == "CosineAnnealingLR":
            arguments.setdefault("T_max", int(self.keys["total_iter"]))
        self.schedulers += [SCHEDULERS[name](opt, **arguments) for opt in self.optimizers]

    def feed_data(self, data: dict[str, Any]) -> None:
        """BasicSR's without waiting for the copies, and in the memory format of the weights."""
        if self.keys.get("channels_last"):
            data = data | {"lq": data["lq"].contiguous(memory_format=torch.channels_last)}
        data = {name: data[name] for name in ("lq", "gt") if name in data}
        if self.device.type == "cuda":
            for name, images in data.items():
                data[name] = images.to(self.device, non_blocking=True)
                # BasicSR's prefetcher copies in a stream of its own. It must not copy the batch
                # after next into the memory of one that a step behind still works on.
                data[name].record_stream(torch.cuda.current_stream())
        super().feed_data(data)

    def optimize_parameters(self, current_iter: int) -> None:
        """One step of the optimizer."""
        if self.amp is None and self.grad_clip is None and self.parts == 1:
            super().optimize_parameters(current_iter)
            return
        self.optimizer_g.zero_grad()
        log: dict[str, Tensor] = {}
        outputs = []
        pairs = zip(self.lq.chunk(self.parts), self.gt.chunk(self.parts), strict=True)
        for number, (lq, gt) in enumerate(pairs, 1):
            # Several processes exchange their gradients after the last part.
            alone = number < self.parts and isinstance(self.net_g, DistributedDataParallel)
            with self.net_g.no_sync() if alone else nullcontext():
                with torch.autocast(self.device.type, self.dtype, self.amp is not None):
                    output = self.net_g(lq)
                losses = self.losses(output.float(), gt)
                outputs.append(output.detach().float())
                for name, loss in losses.items():
                    losses[name] = loss / self.parts
                    log[name] = log.get(name, 0) + losses[name].detach()
                self.scaler.scale(sum(losses.values())).backward()
        self.output = torch.cat(outputs)
        if self.scaler.is_enabled():
            check_losses(log)  # a gradient may well be infinite until the scale is found
        self.scaler.unscale_(self.optimizer_g)
        if self.grad_clip is not None:
            clip_grad_norm_(self.net_g.parameters(), self.grad_clip)
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        self.log_dict = self.reduce_loss_dict(log)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """BasicSR's, to the bit, in two operations for all weights instead of two for each."""
        weights = list(self.get_bare_model(self.net_g).parameters())
        averages = list(self.net_g_ema.parameters())
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, weights, alpha=1 - decay)

    def reduce_loss_dict(self, loss_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses as they are; their numbers would have to be waited for."""
        return {name: loss.detach() for name, loss in loss_dict.items()}

    def get_current_log(self) -> dict[str, float]:
        """The losses of the last step; of several processes, all must ask together.

        Returns:
            What BasicSR's ``reduce_loss_dict`` makes of them: means over the processes.
        """
        return super().reduce_loss_dict(self.log_dict)

    def test(self) -> None:
        """BasicSR's, past the wrapper of several processes, whose forward passes wait."""
        wrapped, self.net_g = self.net_g, self.get_bare_model(self.net_g)
        try:
            super().test()
        finally:
            self.net_g = wrapped

    def nondist_validation(
        self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool
    ) -> None:
        """By this process alone."""
        validate(self, dataloader, current_iter, tb_logger, save_img)

    def dist_validation(
        self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool
    ) -> None:
        """By all processes."""
        validate(self, dataloader, current_iter, tb_logger, save_img, *get_dist_info())

    def losses(self, output: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """The losses of the option file, by the names that ``SRModel`` logs."""
        losses = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, gt)
        if self.cri_perceptual:
            losses["l_percep"], losses["l_style"] = self.cri_perceptual(output, gt)
        return {name: loss for name, loss in losses.items() if loss is not None}


def use_kernels(network: CompacterArch) -> str:
    """Train by the compiled kernels where that is possible; what trains it, in words."""
    try:
        train_by_kernels(network)
    except UnavailableError as error:
        get_root_logger().warning(f"train: compile: the plain network is trained: {error}")
        return "the plain network"
    return "compiled kernels"


def check_losses(losses: dict[str, Tensor]) -> None:
    """Refuse losses that are not finite; of several processes, all refuse those of one.

    Raises:
        FloatingPointError: one is not finite.
    """
    finite = torch.stack([loss.float() for loss in losses.values()]).isfinite().all().float()
    if dist.is_initialized():
        dist.all_reduce(finite, dist.ReduceOp.MIN)
    if not finite:
        raise FloatingPointError("loss or gradient is not finite")


def check_values(opt: dict[str, Any], keys: dict[str, Any]) -> None:
    """Refuse values of the keys of :class:`RestorationModel` that mean nothing."""
    amp, clip, parts = keys.get("amp"), keys.get("grad_clip"), keys.get("accum_iter", 1)
    if amp not in (None, *AMP):
        raise ValueError(f"amp: {amp!r} must be bf16 or fp16")
    if amp == "fp16" and opt["num_gpu"] == 0:
        raise ValueError("amp: fp16 needs a GPU; use bf16 on a CPU")
    if clip is not None and not (isinstance(clip, (int, float)) and clip > 0):
        raise ValueError(f"grad_clip: {clip!r} must be a number above 0")
    batch = opt["datasets"]["train"]["batch_size_per_gpu"] if keys else 1
    if not isinstance(parts, int) or parts < 1 or batch % parts:
        raise ValueError(f"accum_iter: {parts!r} must divide batch_size_per_gpu: {batch}")
    if not isinstance(keys.get("channels_last", False), bool):
        raise ValueError(f"channels_last: {keys['channels_last']!r} must be true or false")
    if not isinstance(compiled := keys.get("compile", False), bool) and compiled != "cpu":
        raise ValueError(f"compile: {compiled!r} must be true, false or cpu")
