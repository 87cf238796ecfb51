"""Keeps other libraries' log lines to one line: garbage on a socket is worth no traceback."""

from __future__ import annotations

import logging


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text = f"{record.getMessage()}: {type(error).__name__}: {error}"
            record.msg = " ".join(text.split())
            record.args = None
            record.exc_info = None
            # What strangers send is not our error.
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return record.levelno >= logging.WARNING


def quiet_logger(name: str, *, level: int = logging.WARNING) -> logging.Logger:
    """Return a logger for a library: below the given name, without tracebacks.

    Args:
        name: of the logger above it.
        level: from which on the library tells of what strangers did; it becomes a warning.
    """
    logger = logging.getLogger(f"{name}.library")
    if not any(isinstance(item, _OneLine) for item in logger.filters):
        logger.addFilter(_OneLine())
    logger.setLevel(level)
    return logger
