# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a unit of this collection, whose lines the journal keeps: for people, or one JSON object each for programs."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

# Set by the unit's file.
FORMAT_VARIABLE = "FL_LOG_FORMAT"
JSON = "json"


def event(kind: str, **data: object) -> dict[str, Mapping[str, object]]:
    """Return what a line tells beside its words, for programs: ``LOGGER.info("...", extra=event("node_registered", name=name))``."""
    return {"told": {"event": kind, "data": data}}


def set_up(unit: str, form: str | None = None) -> None:
    """Send what is logged, and what nobody caught, to the journal. Without a form it is that of the unit's file."""
    handler = logging.StreamHandler(sys.stdout)
    if (form or os.environ.get(FORMAT_VARIABLE)) == JSON:
        handler.setFormatter(JsonLines(unit))
        sys.excepthook = _log_uncaught
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class JsonLines(logging.Formatter):
    """Lines of a unit as docs/unit-log.schema.json has them."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z",
            "level": record.levelname,
            "unit": self._unit,
            "message": record.getMessage(),
            **getattr(record, "told", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _log_uncaught(kind: type[BaseException], problem: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("%s: %s", kind.__name__, problem, exc_info=(kind, problem, traceback))
