# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module that talks to a server ends: with its result, or with one sentence and the kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .one.errors import INVALID, MISREADINGS, OneException, TemplateSyntaxError, one_line

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .one.client import Client
    from .one.onegate import OneGate


def finish(module: AnsibleModule, work: Callable[[], dict], server: Callable[[], Client | OneGate | None]) -> None:
    """Exit with what work returns, or fail.

    server: returns who was asked, None before that. What reading its answers raises is its fault; anything else that is
    raised, and the same before it was asked, is a fault of the code, and is raised again.
    """
    try:
        result = work()
    except OneException as error:
        module.fail_json(msg=error.message, error={"kind": error.kind})
    except TemplateSyntaxError as error:
        module.fail_json(msg=one_line(f"{error}."), error={"kind": INVALID})
    except MISREADINGS as error:
        asked = server()
        if asked is None or not asked.asked:
            raise
        from .one.answers import misread

        found = misread(error, asked.place, asked.asked)
        module.fail_json(msg=found.message, error={"kind": found.kind})
    else:
        module.exit_json(**result)
