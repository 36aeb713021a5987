"""Packaging. Building needs setuptools alone; tool settings live in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "compacter_arch/__init__.py").read_text())[1]

TABLE = ["matplotlib>=3.7", "tabulate>=0.9"]
SPANDREL = ["spandrel>=0.4.2", "spandrel_extra_arches>=0.2"]  # other networks, for benchmarks
DEMO = ["gradio>=6.31"]  # the page of `basicsr demo`
VIDEO = ["av>=17.1"]
EXPORT = ["onnx>=1.15", "onnxruntime>=1.17", "safetensors>=0.4"]
TEST = [
    "pytest>=7",
    "pytest-xdist>=3",
    "hypothesis>=6",
    "playwright>=1.45",
    "peft>=0.10",  # LoRA on the network
    *TABLE,
    *SPANDREL,
    *EXPORT,
    *DEMO,
    *VIDEO,
]
DEV = [*TEST, "ruff==0.17.6", "mypy==2.4.1", "types-PyYAML", "pre-commit>=3"]

setup(
    name="compacter-arch",
    version=VERSION,
    description="Compacter, a lightweight transformer for image restoration, as a BasicSR plugin",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # Option files and weights live at the top level and travel inside the package.
    packages=[
        *find_packages(include=["compacter_arch", "compacter_arch.*"]),
        "compacter_arch.options",
        "compacter_arch.pretrained_models",
    ],
    package_dir={
        "compacter_arch.options": "options",
        "compacter_arch.pretrained_models": "experiments/pretrained_models",
    },
    package_data={
        "compacter_arch.options": ["*.yml"],
        "compacter_arch.pretrained_models": ["*.pth"],
        "compacter_arch": ["py.typed", "tables/*.csv"],
        "compacter_arch.execution.kernels": ["*.cpp", "*.h"],
    },
    install_requires=[
        "basicsr>=1.4.2",
        "torch>=2.1",
        "numpy>=1.23",
        "opencv-python>=4.5",
        "lmdb>=1.3",
        "pyyaml>=6",
        "scipy>=1.9",
        "Pillow>=10.1",
        "tifffile>=2022.8",
        "tqdm>=4.60",
    ],
    extras_require={
        "export": EXPORT,
        "demo": DEMO,
        "table": TABLE,
        "spandrel": SPANDREL,
        "video": VIDEO,
        "test": TEST,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["basicsr = compacter_arch.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
