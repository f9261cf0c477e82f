#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# What `make demo-edge` does after its virtual environment stands: a federation of a zone with the SuperLink, a site with a zone of its own and two
# machines without an OpenNebula. Each site is behind a link of 2 Mbit/s that loses two of 100 packets and forgets silent connections; one of them is
# cut for a minute while the federation trains.
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
sites=(harbour mast tower)
step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step 'Docker engine and images'
python -m lab.engine ensure
python -m lab.images all
step 'Zones and machines'
for zone in cloud harbour; do python -m lab up --name "$zone"; done
python -m lab.machine up mast tower
step 'Plan'
ansible-playbook -i inventories/lab_edge opennebula.flower.plan
step 'Appliances'
ansible-playbook -i inventories/lab_edge opennebula.flower.build_appliance
step 'Federation'
# It joins the networks of the zones as soon as they are there.
python -m lab.router up cloud "${sites[@]}" --rate 2mbit --loss 2 &
router=$!
# What is said is kept, so that the link is cut once the first round is over.
said=build/demo-edge.log
: >"$said"
{
    until grep -q 'round 1/' "$said"; do sleep 1; done
    echo "the link of mast is cut for 60 s"
    python -m lab.router cut cloud "${sites[@]}" --site mast --seconds 60
    echo "the link of mast is back"
} &
cutter=$!
status=0
ansible-playbook -i inventories/lab_edge opennebula.flower.edge "$@" | tee "$said" || status=$?
kill "$cutter" 2>/dev/null || true
if [ "$status" = 0 ]; then wait "$router"; else kill "$router" 2>/dev/null || true; exit "$status"; fi
step 'Packets between the sites'
python -m lab.router show
printf '\nReport: %s\n' "$PWD/build/report/index.html"
python -m lab.result build/report/result.json "$SECONDS"
