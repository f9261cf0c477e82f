# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The Flower App of the OpenNebula appliances."""

__version__ = "0.1.0"
