"""The scripts of ``experiments`` are no package: their folder joins the path."""

from __future__ import annotations

import sys

from ..conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "experiments"))
