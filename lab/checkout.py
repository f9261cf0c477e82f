# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which checkout this is. Whatever the lab makes on the Docker engine carries its identity, so that two checkouts leave each other alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# inventories/lab and extensions/molecule derive the same from the checkout's path.
CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]
CHECKOUT_LABEL = f"opennebula.checkout={CHECKOUT}"
IMAGE_PREFIX = f"onelab-{CHECKOUT}"
