# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""`runner.py COMMAND [ARGUMENT...]` runs a command, and what its connection plugin opennebula.flower.module_runner hands over: modules of Ansible.

By itself Ansible starts an interpreter for each module, which loads what all modules import: three quarters of the processor time that a task takes. Here
that happens once, and each module runs in a process that forks from this one, as alone as it would be otherwise. The exit status is that of the command.
"""

import atexit
import gc
import importlib
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import traceback
import types
from contextlib import suppress

# What most modules of a boot load. Not all releases of Ansible have all of it.
LOADED = (
    "base64",
    "runpy",
    "shutil",
    "tempfile",
    "zipfile",
    "ansible.module_utils._internal._ansiballz._loader",
    "ansible.module_utils.basic",
    "ansible.module_utils.facts.system.chroot",
    "ansible.module_utils.service",
)
ADDRESS = "FLOWER_MODULE_RUNNER"


def run(command: list[str]) -> int:
    """Run a command, and modules until it has ended; return its exit status."""
    for name in LOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    # What is there already belongs to all processes alike.
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{directory}/socket")
        listener.listen()
        with subprocess.Popen(command, env={**os.environ, ADDRESS: f"{directory}/socket"}) as process, selectors.DefaultSelector() as ready:
            ready.register(listener, selectors.EVENT_READ)
            ready.register(os.pidfd_open(process.pid), selectors.EVENT_READ)
            while process.poll() is None:
                if any(key.fileobj is listener for key, _events in ready.select()):
                    with listener.accept()[0] as caller:
                        serve(caller)
            return process.returncode


def serve(caller: socket.socket) -> None:
    """Run the module that a caller hands over as three files: the module, its output and its errors. The answer is the exit status."""
    files = socket.recv_fds(caller, 16, 3)[1]
    if not files:  # it ended meanwhile
        return
    process = os.fork()
    if process == 0:
        run_module(*files)
    for file in files:
        os.close(file)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(OSError):
        caller.send(str(status).encode())


def run_module(module: int, output: int, errors: int) -> None:
    """Run a module in this process as an interpreter would that got it at its standard input, and end the process."""
    status = 1
    try:
        # What the process that it was forked from has to do at its end is not to be done here.
        atexit._clear()
        with open(module, "rb") as file:
            file.seek(0)
            source = file.read()
        for there, here in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (errors, 2)):
            os.dup2(there, here)
        sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["-"]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        # Without dont_inherit, since what is compiled with that is kept, and the values of the task are in it; see bytecode/sitecustomize.py.
        exec(compile(source, "<stdin>", "exec"), main.__dict__)  # noqa: S102
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
