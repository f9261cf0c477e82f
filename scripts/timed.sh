#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# timed.sh NAME COMMAND...: announces a suite, runs it and says how many seconds it took, and how many of them a processor's
# (without those of containers, whose processes are the engine's).
set -uo pipefail
name=$1
shift
echo "== $name"
TIMEFORMAT="== $name: %0R s, %0U s + %0S s of processor time"
time "$@"
status=$?
echo "== $name: exit status $status"
exit $status
