# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The core of a zone: what OpenNebula's oned is in a real one."""
