#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# timed.sh NAME COMMAND...: announces a suite, runs it and says how many seconds it took, and how many of them a processor's
# (without those of containers, whose processes are the engine's). What it printed is kept in build/suites, and of a suite that
# failed in build/failed, whose ends scripts/failures.sh shows.
#
# A suite ends after SUITE_LIMIT seconds, with a failure that says so; pytest prints where a test stands that has taken half of it, and which
# tests took longest.
# Begin and end are written to descriptor 9 too, if there is one: make test holds back what suites print until they have ended.
set -uo pipefail
name=$1
shift
limit=${SUITE_LIMIT:-4500}
log=build/suites/${name//[^A-Za-z0-9_-]/-}.log
mkdir -p build/suites build/failed
rm -f "build/failed/${log##*/}"
export PYTEST_ADDOPTS="-o faulthandler_timeout=$((limit / 2)) --durations=10 --durations-min=10 ${PYTEST_ADDOPTS:-}"

progress() {
  { echo "$(date +%T) $*" >&9; } 2>/dev/null
}

echo "== $name"
progress "$name begins"
TIMEFORMAT="== $name: %0R s, %0U s + %0S s of processor time"
{ time timeout --foreground --signal=INT --kill-after=120 "$limit" "$@"; } 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
[ "$status" != 124 ] || echo "== $name: ended, because it took longer than $limit s (SUITE_LIMIT)" | tee -a "$log"
echo "== $name: exit status $status"
progress "$name ends with exit status $status"
[ "$status" = 0 ] || ln -f "$log" build/failed/
exit "$status"
