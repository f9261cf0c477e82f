# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the byte code of sources in the directory KEPT_BYTECODE, for interpreters that find this file on PYTHONPATH.

Ansible compiles what a module imports in every task, and what a filter imports in every task that uses one, because it sends sources in an
archive and loads collections by itself: half of a task's processor time. The boot of an appliance runs a hundred tasks, a test suite thousands.

What is kept is code that runs with the rights of whoever finds it: nobody else may write into the directory.
"""

import builtins
import os
import sys

_COMPILE = builtins.compile
_DIRECTORY = os.environ.get("KEPT_BYTECODE", "")


def _compile(source, filename, mode, flags=0, dont_inherit=False, optimize=-1, **more):
    """Return what the built-in function of this name does; that of a whole file comes from the directory if it was compiled before."""
    if mode != "exec" or flags or not dont_inherit or optimize != -1 or more or not isinstance(source, (bytes, str)):
        return _COMPILE(source, filename, mode, flags, dont_inherit, optimize, **more)

    # Not before: most interpreters compile nothing.
    import _imp
    import marshal
    from contextlib import suppress
    from hashlib import sha256

    name = sha256(source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")).hexdigest()
    path = f"{_DIRECTORY}/{name}.{sys.implementation.cache_tag}"
    try:
        with open(path, "rb") as kept:
            code = marshal.load(kept)
    except OSError:
        code = _COMPILE(source, filename, mode, dont_inherit=True)
        part = f"{path}.{os.getpid()}"
        with suppress(OSError):  # another user's
            os.makedirs(_DIRECTORY, exist_ok=True)
            with open(part, "wb") as kept:
                marshal.dump(code, kept)
            os.replace(part, path)
    else:
        _imp._fix_co_filename(code, os.fsdecode(filename))
    return code


if _DIRECTORY:
    builtins.compile = _compile
