# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is asking: user and password as options, or from a file such as OpenNebula's own tools use."""

from __future__ import annotations

from pathlib import Path

from .errors import INVALID, OneException

DEFAULT_AUTH_FILE = "~/.one/one_auth"


def credentials(username: str | None, password: str | None, auth_file: str) -> tuple[str, str]:
    """Return user and password; without both of them, those of the file. Raises OneException of kind invalid."""
    if username and password:
        return username, password
    if username or password:
        given, lacking = ("api_username", "api_password") if username else ("api_password", "api_username")
        raise OneException(INVALID, f"{given} is given without {lacking}.")
    return read_auth_file(auth_file)


def read_auth_file(path: str) -> tuple[str, str]:
    """Return user and password from a file that says USER:PASSWORD. Raises OneException of kind invalid."""
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise OneException(
            INVALID,
            f"There are no credentials: api_username and api_password are not given, and {file} (ONE_AUTH) "
            f"cannot be read: {reason}.",
        ) from None
    username, colon, password = text.partition(":")
    if not (username and colon and password):
        raise OneException(INVALID, f"{file} (ONE_AUTH) does not have the form USER:PASSWORD.")
    return username, password
