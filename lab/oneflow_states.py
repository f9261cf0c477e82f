# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OneFlow's states, and what the states of a virtual machine mean to a role."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import section


class State(IntEnum):
    """States of a service; those up to COOLDOWN are a role's too."""

    PENDING = 0
    DEPLOYING = 1
    RUNNING = 2
    UNDEPLOYING = 3
    WARNING = 4
    DONE = 5
    FAILED_UNDEPLOYING = 6
    FAILED_DEPLOYING = 7
    SCALING = 8
    FAILED_SCALING = 9
    COOLDOWN = 10
    DEPLOYING_NETS = 11
    UNDEPLOYING_NETS = 12
    FAILED_DEPLOYING_NETS = 13
    FAILED_UNDEPLOYING_NETS = 14
    HOLD = 15


#: a role's own HOLD, which shares its number with a service's DEPLOYING_NETS
ROLE_HOLD = 11

FAILED = {state for state in State if state.name.startswith("FAILED_")}
BUSY = {State.DEPLOYING, State.UNDEPLOYING, State.SCALING, State.COOLDOWN, State.DEPLOYING_NETS, State.UNDEPLOYING_NETS}
CANNOT_UNDEPLOY = (BUSY | FAILED | {State.DONE}) - {State.UNDEPLOYING}

SCALE_UP, SCALE_DOWN = 0, 1

VM_ACTIVE, VM_RUNNING = 3, 3
VM_POWEROFF, VM_UNKNOWN = 8, 16
#: STOPPED, SUSPENDED, POWEROFF and UNDEPLOYED: whoever waits for a VM to run takes these for an answer too
VM_RESTING_STATES = {4, 5, VM_POWEROFF, 9}
VM_FAILURES = {36, 37, 38, 39, 40, 41, 42, 44, 46, 47, 48, 49, 50}


@dataclass(frozen=True)
class Vm:
    """A virtual machine as far as OneFlow looks at it."""

    state: int
    lcm_state: int
    ready: bool
    #: all that the zone says about it
    document: dict

    @classmethod
    def of(cls, vm: dict) -> Vm:
        """From the content of a VM element."""
        text = "\n".join(f"{name}={value}" for name, value in section(vm, "USER_TEMPLATE").items())
        # OneFlow searches the text, so NOTREADY=YES opens the gate as well.
        return cls(int(vm["STATE"]), int(vm["LCM_STATE"]), "READY=YES" in text, vm)

    @property
    def running(self) -> bool:
        """Whether it is up."""
        return self.state == VM_ACTIVE and self.lcm_state == VM_RUNNING

    @property
    def failed(self) -> bool:
        """Whether a step of its life failed."""
        return self.state == VM_ACTIVE and self.lcm_state in VM_FAILURES

    @property
    def troubled(self) -> bool:
        """Whether a running service has to warn about it. One that is suspended, stopped or undeployed troubles nobody."""
        return self.failed or self.state == VM_POWEROFF or (self.state == VM_ACTIVE and self.lcm_state == VM_UNKNOWN)

    def settled(self, gated: bool) -> bool:
        """Whether nobody has to wait for it any more. gated: for its READY, not for it to run."""
        return self.state in VM_RESTING_STATES or (self.ready if gated else self.running)
