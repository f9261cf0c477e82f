# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The recorded sessions, played once for all tests."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from flow_session import Played, Session
from flow_session_610 import Session610
from flow_world import started_world

SESSIONS = {"7.4": Session, "6.10": Session610}


@cache
def played(release: str) -> Played:
    """The whole session of a release."""
    with tempfile.TemporaryDirectory() as state_dir, started_world(Path(state_dir), release=release) as world:
        session = SESSIONS[release](world)
        session.play()
        return session.answers
