"""Speed and memory, measured beside other networks: ``python -m benchmarks.<name>``."""

from __future__ import annotations

import compacter_arch  # noqa: F401 (BasicSR must be repaired before a module here imports it)
