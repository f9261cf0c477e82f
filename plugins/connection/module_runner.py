# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: module_runner
short_description: Run modules on this machine in processes that have loaded what modules import
version_added: 0.2.0
description:
  - This is C(ansible.builtin.local), but for modules that run in the interpreter of ansible-playbook itself, without a user to become and without an
    environment of the task. They are given to the program C(runner.py) of the role P(opennebula.flower.flower_appliance#role), which started
    ansible-playbook. It forks a process for each, so that none of them starts an interpreter, or loads what all of them import.
  - The boot of an appliance uses it. Where there is no such program, everything runs as with C(ansible.builtin.local).
author:
  - opennebula.flower contributors (@opennebula)
options:
  address:
    description: The socket at which the program listens.
    type: path
    env:
      - name: FLOWER_MODULE_RUNNER
  pipelining:
    description: Modules are not written to files first.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
"""

import os
import socket
import sys
from contextlib import ExitStack

from ansible.plugins.connection.local import Connection as LocalConnection

# How Ansible hands a module to its own interpreter; become and an environment change it.
PLAIN = f"/bin/sh -c '{sys.executable} && sleep 0'"


class Connection(LocalConnection):
    """The local connection, with a short cut for modules."""

    transport = "opennebula.flower.module_runner"

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Run a command, or the module in ``in_data``; return exit status, output and errors."""
        address = self.get_option("address")
        if not address or not in_data or cmd != PLAIN:
            return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        with ExitStack() as opened:
            files = [opened.enter_context(open(os.memfd_create(name), "w+b")) for name in ("module", "output", "errors")]
            runner = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            try:
                runner.connect(address)
            except OSError:
                return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
            files[0].write(in_data)
            files[0].flush()
            socket.send_fds(runner, [b"run"], [file.fileno() for file in files])
            # Nothing, if the runner ended meanwhile.
            code = int(runner.recv(16) or 1)
            texts = []
            for file in files[1:]:
                file.seek(0)
                texts.append(file.read())
            return code, *texts
