"""Each repair of BasicSR against the defect that it repairs.

The defect is shown on the original, which every repaired function keeps as ``__wrapped__``, or in a
process of its own where BasicSR runs as released. If such an assertion fails, BasicSR has been
fixed and the repair can go.
"""

from __future__ import annotations

from compacter_arch import compat

compat.apply()  # before any of the tests imports BasicSR
