"""The networks that Compacter is measured beside, in their published light configurations.

Those that BasicSR and spandrel bring along, with random weights: speed does not depend on them.
Not here: MoSR, FDAT, DITN (spandrel has its real-world variant alone), Real-CUGAN and the like,
which no light configuration for bicubic super-resolution was published for; HAT, DRCT, RGT, whose
smallest has 10 M parameters; ECBSR, which restores luma alone.

``python -m benchmarks.peers`` lists them.
"""

from __future__ import annotations

from compacter_arch.tables.complexity import count_parameters

from .arguments import run
from .networks import INSTALL, Peer
from .report import markdown

REFERENCE = "SwinIR-light"  # what all ratios of inference are to


def _spandrel(name: str) -> str:
    return f"spandrel.architectures.{name}"


SWIN = {"depths": [6] * 4, "mlp_ratio": 2, "upsampler": "pixelshuffledirect"}
SIX = {**SWIN, "embed_dim": 60, "num_heads": [6] * 4}
SWINIR = "basicsr.archs.swinir_arch"

PEERS = {
    "Compacter": Peer(
        "compacter_arch.archs", "CompacterArch", {}, 392_909, "options/train_Compacter_SRx2.yml"
    ),
    "SwinIR-light": Peer(
        SWINIR,
        "SwinIR",
        {**SIX, "window_size": 8},
        910_152,
        "JingyunLiang/SwinIR, released",
        multiple=8,
    ),
    # Ours, no published one: as SwinIR-light, heads of 10 channels too, but about 400 K parameters.
    "SwinIR-400K": Peer(
        SWINIR,
        "SwinIR",
        {**SWIN, "embed_dim": 40, "num_heads": [4] * 4, "window_size": 8},
        417_172,
        "SwinIR-light with 40 channels for 60",
        multiple=8,
    ),
    "ATD-light": Peer(
        _spandrel("ATD"),
        "ATD",
        {
            **SWIN,
            "embed_dim": 48,
            "num_heads": [4] * 4,
            "window_size": 16,
            "category_size": 128,
            "num_tokens": 64,
            "reducted_dim": 8,
            "convffn_kernel_size": 7,
            "mlp_ratio": 1,
        },
        753_204,
        "LabShuHangGU/Adaptive-Token-Dictionary, 101_ATD_light_SRx2_scratch.yml",
    ),
    "CRAFT": Peer(
        _spandrel("CRAFT"),
        "CRAFT",
        {"embed_dim": 48, "depths": [2] * 4, "num_heads": [6] * 4, "window_size": 16},
        737_756,
        "AVC2-UESTC/CRAFT-SR, train_CRAFT_SRx2_scratch.yml",
    ),
    "DAT-light": Peer(
        _spandrel("DAT"),
        "DAT",
        {
            "depth": [18],
            "embed_dim": 60,
            "num_heads": [6],
            "expansion_factor": 2,
            "resi_connection": "3conv",
            "split_size": [8, 32],
            "upsampler": "pixelshuffledirect",
        },
        553_290,
        "zhengchen1999/DAT, train_DAT_light_x2.yml",
    ),
    "DCTLSA": Peer(
        _spandrel("DCTLSA"), "DCTLSA", {"nf": 55}, 867_472, "zengkun301/DCTLSA, src/option.py"
    ),
    "EDSR-baseline": Peer(
        "basicsr.archs.edsr_arch",
        "EDSR",
        {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 16},
        1_369_859,
        "XPixelGroup/BasicSR, train_EDSR_Mx2.yml",
    ),
    "GRL-T": Peer(
        _spandrel("GRL"),
        "GRL",
        {
            "img_size": 256,
            "embed_dim": 64,
            "upsampler": "pixelshuffledirect",
            "depths": [4] * 4,
            "num_heads_window": [2] * 4,
            "num_heads_stripe": [2] * 4,
            "window_size": 32,
            "stripe_size": [64, 64],
            "stripe_shift": True,
            "mlp_ratio": 2,
            "anchor_window_down_factor": 4,
        },
        885_420,
        "ofsoundof/GRL-Image-Restoration, grl_tiny.yaml with sr/grl/grl_p256.yaml",
    ),
    # 772 K in its paper; the code and its Multi-Adds (194.5 G) are these.
    "Omni-SR": Peer(
        _spandrel("OmniSR"),
        "OmniSR",
        {"num_feat": 64, "res_num": 5, "block_num": 1, "window_size": 8},
        784_604,
        "Francis0625/Omni-SR, train_OmniSR_X2_DIV2K.yaml",
        scale="up_scale",
    ),
    "PLKSR-tiny": Peer(
        _spandrel("PLKSR"),
        "PLKSR",
        {"dim": 64, "n_blocks": 12, "kernel_size": 13, "ccm_type": "DCCM", "use_ea": False},
        2_349_772,
        "dslisleedh/PLKSR, train_PLKSR_DIV2K_X2_64_12_0.25_13.yaml",
        scale="upscaling_factor",
    ),
    # Not light; in BasicSR, and what the older papers compare with.
    "RCAN": Peer(
        "basicsr.archs.rcan_arch",
        "RCAN",
        {"num_in_ch": 3, "num_out_ch": 3, "num_group": 10, "num_block": 20},
        15_444_643,
        "XPixelGroup/BasicSR, train_RCAN_x2.yml",
    ),
    "SAFMN": Peer(
        _spandrel("SAFMN"),
        "SAFMN",
        {"dim": 36, "n_blocks": 8, "ffn_scale": 2.0},
        227_820,
        "sunny2109/SAFMN, train_DF2K_X2.yml",
        scale="upscaling_factor",
    ),
    "SeemoRe-T": Peer(
        _spandrel("SeemoRe"),
        "SeemoRe",
        {"num_experts": 3, "num_layers": 6, "embedding_dim": 36, "lr_space": "exp"},
        220_104,
        "eduardzamfir/seemoredetails, train_SeemoRe_T_X2.yml",
        scale="scale",
    ),
    "SPAN": Peer(
        _spandrel("SPAN"),
        "SPAN",
        {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 52},
        481_324,
        "arXiv 2311.12770: 481 K at x2, 498 K at x4; merged, that is 52 channels",
    ),
    "SRFormer-light": Peer(
        "spandrel_extra_arches.architectures.SRFormer",
        "SRFormer",
        {**SIX, "window_size": 16},
        853_272,
        "HVision-NKU/SRFormer, train_SRFormer_light_SRx2_scratch.yml",
    ),
    "Swin2SR-light": Peer(
        _spandrel("Swin2SR"),
        "Swin2SR",
        {**SIX, "window_size": 8},
        1_005_348,
        "mv-lab/swin2sr, main_test_swin2sr.py --task lightweight_sr",
    ),
}


def installed_peers() -> list[str]:
    """The names of the networks that can be built here."""
    return [name for name, peer in PEERS.items() if peer.installed]


def main() -> int:
    """List the networks with their parameters at x2."""
    rows = [
        (name, f"{count_parameters(peer.build(2)):,}" if peer.installed else INSTALL, peer.source)
        for name, peer in PEERS.items()
    ]
    print(markdown(("network", "parameters", "options from"), rows))
    return 0


if __name__ == "__main__":
    run(main)
