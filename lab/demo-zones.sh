#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# What `make demo-zones` does after its virtual environment stands: a federation over three zones in a box that are joined by a router, which
# translates addresses, forgets connections that are silent for 30 s, and lets through what the plan opens.
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
zones=(munich lyon madrid)
step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step 'Docker engine and images'
python -m lab.engine ensure
python -m lab.images all
step 'Zones'
for zone in "${zones[@]}"; do python -m lab up --name "$zone"; done
step 'Plan'
ansible-playbook -i inventories/lab_zones opennebula.flower.plan
step 'Appliances'
ansible-playbook -i inventories/lab_zones opennebula.flower.build_appliance
step 'Federation'
# It joins the networks of the zones as soon as they are there.
python -m lab.router up "${zones[@]}" &
router=$!
status=0
ansible-playbook -i inventories/lab_zones opennebula.flower.site "$@" || status=$?
if [ "$status" = 0 ]; then wait "$router"; else kill "$router" 2>/dev/null || true; exit "$status"; fi
step 'Packets between the zones'
python -m lab.router show
printf '\nReport: %s\n' "$PWD/build/report/index.html"
python -m lab.result build/report/result.json "$SECONDS"
