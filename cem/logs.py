"""Keeps what strangers send to an HTTP server from filling the log with tracebacks."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        # An error of our own keeps its traceback.
        if isinstance(error, HttpProcessingError | ConnectionError):
            text = f"{record.getMessage()}: {type(error).__name__}: {error}"
            record.msg = " ".join(text.split())
            record.args = None
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return record.levelno >= logging.WARNING


def quiet_logger(name: str) -> logging.Logger:
    """Return a logger for an HTTP server, below the given name: garbage is worth one line."""
    logger = logging.getLogger(f"{name}.library")
    if not any(isinstance(item, _OneLine) for item in logger.filters):
        logger.addFilter(_OneLine())
    # The library tells of what is not HTTP at all at this level.
    logger.setLevel(logging.DEBUG)
    return logger
