#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# Says of every suite that failed what failed in it: the lines that pytest, Ansible and Molecule say it with.
set -uo pipefail
shopt -s nullglob
for log in build/failed/*.log; do
  echo "== what failed in ${log##*/}, whole in build/suites"
  sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '(FAILED|ERROR) |^ *(- )?'"['\"]?"'E   |^fatal:|^failed:|^changed: .*item=|Traceback|\*\*\* \[' | cut -c1-400 | tail -n 25
done
