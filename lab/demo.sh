#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# What `make demo` does after its virtual environment stands: engine, images, zone, appliances, federation, training.
# Called again it finds all that and trains once more.
#
# ML_FRAMEWORK and USE_CASE: what the SuperNodes train with, and what; without them the digits with scikit-learn.
# MONITORING=1: Prometheus beside the zone, which sees a training that finds anomalies; at the end its targets, dashboards and alerts.
# LAB_DRIVER: docker, whose VMs are containers, or qemu, which boots the disk images of the appliances.
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
framework=${ML_FRAMEWORK:-sklearn}
# Of what its nodes report, every panel of a dashboard has something.
use_case=${USE_CASE:-${MONITORING:+anomaly-detection}}
settings=(-e "flower_ml_framework=$framework" ${use_case:+-e "flower_use_case=$use_case"})
driver=${LAB_DRIVER:-docker}
[[ $driver = docker || $driver = qemu ]] || { echo "LAB_DRIVER is $driver, expected docker or qemu" >&2; exit 1; }
step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step 'Docker engine'
python -m lab.engine ensure
if [ "$driver" = qemu ]; then
    step 'QEMU'
    python -m lab.qemu ensure
    agent=$(python -m lab.agent_package build/agent)
    settings+=(-e @lab/demo-qemu.yml -e "appliance_guest_agent=$PWD/$agent")
else
    step 'Images'
    python -m lab.images all
    [ "$framework" = sklearn ] || python -m lab.images variant "$framework" --archive
fi
step 'Zone'
python -m lab up --name zone0 --driver "$driver"
if [ "$driver" = qemu ]; then
    # The images of this checkout are registered where they are built; a datastore reads below /var/tmp alone unless told otherwise.
    ansible zone0 -i inventories/lab -c local -o -e 'ansible_python_interpreter={{ ansible_playbook_python }}' -m opennebula.flower.one_datastore -a "{
        \"name\": \"default\", \"template\": {\"SAFE_DIRS\": \"/var/tmp $PWD/build/appliances\"},
        \"api_url\": \"{{ one_api_url }}\", \"api_username\": \"{{ one_api_username }}\", \"api_password\": \"{{ one_api_password }}\"
    }" >/dev/null
fi
step 'Appliances'
ansible-playbook -i inventories/lab opennebula.flower.build_appliance "${settings[@]}"
if [ -n "${MONITORING:-}" ]; then
    step 'Monitoring'
    settings+=(-e '{"flower_metrics_enabled": true, "flower_metrics_from": ["{{ lab_network }}.0/24"], "flower_checkpoint_enabled": true}')
    ansible-playbook -i inventories/lab opennebula.flower.monitoring \
        -e "{\"flower_monitoring_export\": \"$PWD/build/monitoring\", \"flower_monitoring_targets\": [\"$PWD/build/monitoring/targets/*.json\"]}"
    python -m lab.monitoring up
fi
report=build/report/result.json
trained_before=$(stat --format %Y "$report" 2>/dev/null || echo 0)
step 'Federation'
ansible-playbook -i inventories/lab opennebula.flower.site "${settings[@]}" "$@"
if [ "$(stat --format %Y "$report")" = "$trained_before" ]; then
    step 'The federation runs and has been trained: training again'
    ansible-playbook -i inventories/lab opennebula.flower.train "${settings[@]}" "$@"
fi
if [ -n "${MONITORING:-}" ]; then
    step 'What Prometheus has seen'
    python -m lab.monitoring show
fi
printf '\nReport: %s\n' "$PWD/build/report/index.html"
python - "$report" "$SECONDS" <<'PYTHON'
import json
import sys

report, seconds = json.load(open(sys.argv[1])), sys.argv[2]
print(f"RESULT accuracy={float(report['metrics']['accuracy']):.4f} rounds={report['rounds']} nodes={report['nodes']} seconds={seconds}")
PYTHON
