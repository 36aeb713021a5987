"""Data sets, registered in BasicSR's ``DATASET_REGISTRY``."""

from .degradation_dataset import GaussianNoiseDataset, JPEGCompressionDataset
from .raw_dataset import RawPairedImageDataset
from .subsets_dataset import SubsetsDataset

__all__ = [
    "GaussianNoiseDataset",
    "JPEGCompressionDataset",
    "RawPairedImageDataset",
    "SubsetsDataset",
]
