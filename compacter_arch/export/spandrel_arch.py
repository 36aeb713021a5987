"""Compacter in spandrel, the loader of chaiNNer, ComfyUI and others.

    from compacter_arch.export.spandrel_arch import install
    install()
    spandrel.ModelLoader().load_from_file("Compacter_SRx2.pth")  # or .safetensors; no options

A node for ComfyUI that makes its "Load Upscale Model" take our files is a file
``custom_nodes/compacter.py`` of three lines::

    from compacter_arch.export.spandrel_arch import install
    install()
    NODE_CLASS_MAPPINGS = {}

Needs the extra ``compacter-arch[spandrel]``.
"""

from __future__ import annotations

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchRegistry,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
    StateDict,
)
from spandrel.util import KeyCondition

from ..archs.compacter_arch import deduce_options
from ..networks import CompacterArch

KEYS = ("flags", "conv_first.weight", "blocks.0.casa.qkv.weight", "reconstruct.weight")


class SpandrelCompacter(Architecture[CompacterArch]):
    """How spandrel recognises a Compacter and builds it from its weights alone."""

    def __init__(self) -> None:
        super().__init__(id="Compacter", detect=KeyCondition.has_all(*KEYS))

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[CompacterArch]:
        """The network with its weights, and what spandrel's users want to know of it."""
        options = deduce_options(state_dict)
        network = CompacterArch(**options)
        scale, channels = options["upscale"], options["in_chans"]
        return ImageModelDescriptor(
            network,
            state_dict,
            architecture=self,
            purpose="SR" if scale > 1 else "Restoration",
            tags=[f"{options['dim']}dim", f"{options['num_blocks']}nb"],
            supports_half=True,
            supports_bfloat16=True,
            scale=scale,
            input_channels=channels,
            output_channels=channels,
            # It pads by itself, so that any size will do. The channel attention sees the whole
            # image: tiles cost low light up to a dB and super-resolution nothing (`tiling.py`).
            tiling=ModelTiling.SUPPORTED if scale > 1 else ModelTiling.DISCOURAGED,
        )


def install(registry: ArchRegistry = MAIN_REGISTRY) -> list[ArchSupport]:
    """Let spandrel load our weights; once is enough, more does no harm.

    Args:
        registry: spandrel's, which all its loaders use by default.

    Returns:
        What was added.
    """
    support = ArchSupport.from_architecture(SpandrelCompacter())
    return registry.add(support, ignore_duplicates=True)
