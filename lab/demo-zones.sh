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
python - build/report/result.json "$SECONDS" <<'PYTHON'
import json
import sys

report, seconds = json.load(open(sys.argv[1])), sys.argv[2]
for name, zone in report["zones"].items():
    print(f"ZONE {name} nodes={zone['nodes']} rounds={zone['rounds']} failures={zone['failures']} examples={zone['examples']} seconds={zone['seconds']:.1f}")
print(f"RESULT accuracy={float(report['metrics']['accuracy']):.4f} rounds={report['rounds']} nodes={report['nodes']} silent={report['zones_silent']} seconds={seconds}")
PYTHON
