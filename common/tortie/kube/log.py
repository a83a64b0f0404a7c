"""Logs as one JSON object a line on stderr, for every process of ours."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType

LEVELS = ("debug", "info", "warning", "error", "critical")

OWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""Attributes that logging itself gives a record; all others came with `extra=`."""


def setup(component: str, level: str, **fields: str) -> None:
    """From here on everything that is logged, warned or not caught is a JSON line.

    Its keys: `ts` (RFC 3339, UTC), `level`, `component`, `logger`, `msg`, `exception` if there is one, then `fields`
    and what `extra=` gave; what JSON does not know is written as str() says.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(component, fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _uncaught


class JsonFormatter(logging.Formatter):
    def __init__(self, component: str, fields: dict[str, str]) -> None:
        super().__init__()
        self._component = component
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        extra = {key: value for key, value in vars(record).items() if key not in OWN}
        return json.dumps(line | {k: v for k, v in {**extra, **self._fields}.items() if k not in line}, default=str)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))
