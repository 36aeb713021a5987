"""Tables of results as papers print them: measured here, beside what is published."""

from ..tasks import TASKS
from .ablation import ablation_table
from .build import build_table
from .models import Model, find_models
from .protocols import Protocol, protocols
from .render import render
from .rows import Row, Table

__all__ = [
    "TASKS",
    "Model",
    "Protocol",
    "Row",
    "Table",
    "ablation_table",
    "build_table",
    "find_models",
    "protocols",
    "render",
]
