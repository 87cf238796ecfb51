"""Keeps what strangers send to an HTTP server from filling the log."""

from __future__ import annotations

import logging
import time
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError

from gbcs.ports import Clock

_LINES: Final = 30
_PERIOD_S: Final = 60.0


class RefusalLog:
    """Tells what was refused, line by line, until it is too much; then how much it was.

    Args:
        logger: where to.
        clock: seconds, which only go forward.
    """

    def __init__(self, logger: logging.Logger, clock: Clock = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._since = clock()
        self._told = 0
        self._untold = 0

    def warning(self, text: str, *arguments: object) -> None:
        """Write a line, as of a logger."""
        if self.has_room():
            self._logger.warning(text, *arguments)

    def has_room(self) -> bool:
        """Tell whether a line may be written now, and count it."""
        now = self._clock()
        if now - self._since >= _PERIOD_S:
            if self._untold:
                self._logger.warning("%d more lines of this kind were not written", self._untold)
            self._since, self._told, self._untold = now, 0, 0
        if self._told >= _LINES:
            self._untold += 1
            return False
        self._told += 1
        return True


class _OneLine(logging.Filter):
    def __init__(self, above: logging.Logger) -> None:
        super().__init__()
        self._log = RefusalLog(above)

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        # An error of our own keeps its traceback.
        if not isinstance(error, HttpProcessingError | ConnectionError):
            return record.levelno >= logging.WARNING
        text = f"{record.getMessage()}: {type(error).__name__}: {error}"
        record.msg = " ".join(text.split())
        record.args = None
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return self._log.has_room()


def quiet_logger(name: str) -> logging.Logger:
    """Return a logger for an HTTP server, below the given name: garbage is worth one line.

    Of such lines only so many are written, see `RefusalLog`.
    """
    logger = logging.getLogger(f"{name}.library")
    if not any(isinstance(item, _OneLine) for item in logger.filters):
        logger.addFilter(_OneLine(logging.getLogger(name)))
    # The library tells of what is not HTTP at all at this level.
    logger.setLevel(logging.DEBUG)
    return logger
