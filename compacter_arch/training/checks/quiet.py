"""What libraries would print kept silent while an option file is tried out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_logger() -> Iterator[None]:
    """Build BasicSR's parts without log lines and warnings, which a run itself shows.

    Its logger opens the log file when it is first asked for, and only then: it is left as if it had
    never been asked for, so that the run itself sets it up.
    """
    from basicsr.utils.logger import initialized_logger

    logger = logging.getLogger("basicsr")
    fresh, level = "basicsr" not in initialized_logger, logger.level
    initialized_logger["basicsr"] = True
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if fresh:
            initialized_logger.pop("basicsr", None)
