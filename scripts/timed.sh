#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# timed.sh NAME COMMAND...: announces a suite, runs it and says how many seconds it took, and how many of them a processor's
# (without those of containers, whose processes are the engine's). What it printed is kept in build/suites, and of a suite that
# failed in build/failed, whose ends scripts/failures.sh shows.
set -uo pipefail
name=$1
shift
log=build/suites/${name//[^A-Za-z0-9_-]/-}.log
mkdir -p build/suites build/failed
rm -f "build/failed/${log##*/}"
echo "== $name"
TIMEFORMAT="== $name: %0R s, %0U s + %0S s of processor time"
{ time "$@"; } 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
echo "== $name: exit status $status"
[ "$status" = 0 ] || ln -f "$log" build/failed/
exit $status
