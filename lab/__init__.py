# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone in a box: OpenNebula's APIs in front of a driver that runs the virtual machines."""
