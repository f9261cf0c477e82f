#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# timed.sh NAME COMMAND...: announces a suite, runs it and says how many seconds it took.
set -uo pipefail
SECONDS=0
name=$1
shift
echo "== $name"
"$@"
status=$?
echo "== $name: $SECONDS s, exit status $status"
exit $status
