"""Log lines: to stderr, each beginning with an ISO time, whatever part of the program speaks."""

import logging
from datetime import UTC, datetime


class _IsoFormatter(logging.Formatter):
    """2026-11-21T19:30:00.123Z INFO name message"""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def start(level: int) -> None:
    """Send log lines of `level` and above to stderr, unless the process logs already."""
    handler = logging.StreamHandler()
    handler.setFormatter(_IsoFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # The web server's starts and stops are in our own lines, and its warnings are of what any phone
    # can send at will.
    logging.getLogger("uvicorn").setLevel(max(level, logging.ERROR))
