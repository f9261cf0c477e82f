# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := $(CURDIR)/.venv
ROLES := container_engine flower_superlink flower_supernode flower_appliance flower_monitoring nvidia_container_toolkit wireguard

export PATH := $(VENV)/bin:$(PATH)
export PYTHONPATH := $(CURDIR)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR):$(CURDIR)/build/collections

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# ---- What everything else needs ------------------------------------------------------------------

# --no-compile: byte code is made when a file is first imported, and most of these files never are.

$(VENV)/.control: requirements/control.txt requirements/lab.txt
	@echo "== virtual environment for the control node and the lab zone"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12"; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || { echo "$(PYTHON) lacks the venv module; install it (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes python3-venv >/dev/null; \
	fi
	@[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check -r requirements/control.txt -r requirements/lab.txt
	@touch $@

$(VENV)/.test: $(VENV)/.control requirements/test.txt
	@echo "== tools for lint and tests"
	@$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check -r requirements/test.txt
	@touch $@

build/collections/.done: $(VENV)/.control scripts/fetch_collections.py
	@echo "== collections that this one depends on"
	@python scripts/fetch_collections.py build/collections
	@touch $@

.PHONY: setup
setup: $(VENV)/.control build/collections/.done ## Virtual environment and collections for work in this checkout

# ---- Trying it out -------------------------------------------------------------------------------

.PHONY: demo demo-zones demo-edge clean-zones clean-edge pilot engine images lab-up lab-down lab-reset clean-lab
demo: setup ## Start a zone, bake the appliances, deploy a federation and train
	@lab/demo.sh

pilot: setup ## The criteria of docs/project/pilot.md, measured in a new lab zone (make lab-reset pilot)
	@python -m lab.pilot

demo-zones: setup ## Start three zones with a router between them, deploy one federation over them and train
	@lab/demo-zones.sh

demo-edge: setup ## Start two zones and two machines behind bad links, deploy one federation over them and train while a link is cut
	@lab/demo-edge.sh

clean-edge: setup ## Remove the zones, the machines and the router of demo-edge
	@python -m lab.router down
	@python -m lab.machine down mast tower
	@for zone in cloud harbour; do python -m lab clean --name $$zone; done

clean-zones: setup ## Remove the zones and the router of demo-zones
	@python -m lab.router down
	@for zone in munich lyon madrid; do python -m lab clean --name $$zone; done

engine: setup ## Make sure a Docker engine answers
	@python -m lab.engine ensure

images: engine ## Build the images that the lab zone boots and bakes from
	@python -m lab.images all

lab-up: engine ## Start the lab zone
	@python -m lab up --name zone0

lab-down: setup ## Stop the lab zone and keep its state
	@python -m lab down --name zone0

lab-reset: setup ## Remove the lab zone and keep the images, so that the next one starts quickly
	@python -m lab.monitoring down
	@python -m lab clean --name zone0

clean-lab: lab-reset clean-zones clean-edge ## Remove the lab zone, its images, and the Docker engine if it was started for it
	@python -m lab.images clean
	@python -m lab.engine stop

# ---- Tests ---------------------------------------------------------------------------------------

SCENARIOS := $(ROLES:%=molecule-%)

.PHONY: monitoring tools check lint unit coverage fuzz sanity contract integration app app-coverage foreign lab-test roles long-cases variants molecule $(SCENARIOS) machine-images vfio recovery links zones edge e2e tutorials test test-long long-tests docs

# Suites that run thousands of tasks of Ansible; see roles/flower_appliance/files/bytecode.
WITH_PLAYBOOKS := integration lab-test roles long-cases e2e tutorials $(SCENARIOS)
$(WITH_PLAYBOOKS): export KEPT_BYTECODE := $(CURDIR)/build/bytecode
$(WITH_PLAYBOOKS): export PYTHONPATH := $(CURDIR):$(CURDIR)/roles/flower_appliance/files/bytecode

tools: $(VENV)/.test build/collections/.done ## What lint and tests need, in this checkout

check: $(VENV)/.test build/collections/.done ## Lint and unit tests, for every commit
	@$(MAKE) --jobs=2 --output-sync=target lint unit

lint: $(VENV)/.test build/collections/.done
	@echo "== lint"
	@ruff check --quiet .
	@yamllint --strict .
	@codespell
	@ansible-lint --offline -q
	@antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
	@antsibull-changelog lint

unit: $(VENV)/.test build/collections/.done
	@scripts/timed.sh "unit tests" pytest -q tests/unit tests/fuzz

# In make test in the place of make unit; make check does without, since measuring doubles the processor time. The floor is in .coveragerc.
coverage: $(VENV)/.test build/collections/.done ## The unit tests, and how much of the plugins they run, by file, not less than the floor
	@mkdir -p build/coverage
	@scripts/timed.sh "unit tests, measured" pytest -q --cov --cov-report=term:skip-covered tests/unit tests/fuzz

# The properties of tests/fuzz, which the unit tests try with a few hundred examples.
fuzz: $(VENV)/.test build/collections/.done ## 100,000 hostile contexts through the roles' files, 100,000 of OpenNebula's templates read back
	@FUZZ_PROFILE=fuzz scripts/timed.sh "fuzz" pytest -q --numprocesses 2 --dist worksteal tests/fuzz

contract: $(VENV)/.test build/collections/.done ## Lab zone against recorded answers of OpenNebula
	@scripts/timed.sh "contract tests" pytest -q tests/contract

# Tests of a file share a zone and build on what it holds, so that a file stays in one process.
integration: $(VENV)/.test build/collections/.done ## Modules against a zone that boots nothing
	@scripts/timed.sh "integration tests" pytest -q -m "not long" --numprocesses 2 --dist loadfile tests/integration

build/foreign/.done: $(VENV)/.control requirements/foreign.txt scripts/fetch_collections.py
	@echo "== clients of others"
	@[ -x build/foreign/bin/pip ] || $(PYTHON) -m venv build/foreign
	@build/foreign/bin/pip install --quiet --no-compile --disable-pip-version-check -r requirements/foreign.txt
	@python scripts/fetch_collections.py build/foreign/collections community/general
	@touch $@

foreign: $(VENV)/.test build/foreign/.done ## Command lines, clients and modules of others against the lab zone
	@scripts/timed.sh "foreign clients" pytest -q tests/foreign

# What is killed comes back slowly, so these tests begin first and the others go on beside them.
app: $(VENV)/.test build/collections/.done ## The Flower App in a real federation on this machine
	@scripts/timed.sh "Flower App tests" pytest -q -m "not long" --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/app

# In make test in the place of make app.
app-coverage: export APP_COVERAGE := $(CURDIR)/build/coverage/app
app-coverage: $(VENV)/.test build/collections/.done ## The same, and how much of the app ran in the processes that Flower starts, not less than the floor
	@rm -rf $(APP_COVERAGE); mkdir -p $(APP_COVERAGE)
	@COVERAGE_PROCESS_START=$(CURDIR)/tests/app/coverage.ini scripts/timed.sh "Flower App tests, measured" \
	  pytest -q -m "not long" --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/app
	@coverage combine --quiet --rcfile=tests/app/coverage.ini $(APP_COVERAGE)
	@scripts/timed.sh "coverage of the Flower App" coverage report --rcfile=tests/app/coverage.ini --skip-covered

sanity: $(VENV)/.test build/collections/.done ## ansible-test sanity
	@scripts/timed.sh "ansible-test sanity" scripts/sanity.sh

lab-test: images $(VENV)/.test ## The lab zone's own driver and guest agent
	@scripts/timed.sh "lab tests" pytest -q -m "not long" tests/lab

roles: images $(VENV)/.test ## Parts of roles in a machine: gateway and certificates, checkpoint disk and storage, uplink limit, metrics of the GPU
	@scripts/timed.sh "parts of roles" pytest -q tests/roles

long-cases: images $(VENV)/.test ## The cases of integration, app, lab-test and e2e that are too long for make test
	@scripts/timed.sh "long cases" pytest -q -m long tests/integration tests/app tests/lab tests/e2e

variants: engine $(VENV)/.test ## Use cases on the SuperNodes' images of every framework, in a real federation
	@python -m lab.images variant sklearn pytorch tensorflow base
	@scripts/timed.sh "use cases on every framework" pytest -q tests/variants

molecule: $(SCENARIOS) ## Role scenarios in systemd machines, Debian 12 and 13; one of them: make molecule-ROLE

$(SCENARIOS): molecule-%: machine-images $(VENV)/.test
	@scripts/timed.sh "molecule $*" molecule test --scenario-name $*

machine-images: images
	@python -m lab.images base --suite trixie
	@python -m lab.images wheels --suite trixie

vfio: $(VENV)/.test build/collections/.done ## Role vfio_host in emulated machines with an IOMMU that really restart
	@scripts/timed.sh "vfio_host" pytest -q -rs tests/vfio

MONITORS := prometheus promtool prometheus-alertmanager prometheus-node-exporter haproxy
monitoring: $(VENV)/.test build/collections/.done ## Alerts and dashboards: rules by Prometheus' own tool, every query after a real training, pictures
	@for program in $(MONITORS); do command -v $$program >/dev/null || missing=yes; done; [ -z "$${missing:-}" ] || { \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $(filter-out promtool,$(MONITORS)) >/dev/null; }
	@scripts/timed.sh "monitoring" pytest -q tests/monitoring

edge: engine $(VENV)/.test build/collections/.done ## An existing machine that becomes a SuperNode of Flower's own SuperLink, by edge.yml
	@scripts/timed.sh "edge" pytest -q tests/edge

recovery: images $(VENV)/.test ## Trainings whose nodes, SuperLink and VMs are broken, with figures
	@scripts/timed.sh "recovery" pytest -q tests/recovery

links: $(VENV)/.test build/collections/.done ## A federation whose links are cut, flap and are thin, and whose nodes come and go, with figures; needs root
	@for program in haproxy tc; do command -v $$program >/dev/null || missing=yes; done; [ -z "$${missing:-}" ] || { \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends haproxy iproute2 >/dev/null; }
	@scripts/timed.sh "links" pytest -q -s tests/links

zones: engine $(VENV)/.test build/collections/.done ## One federation over several zones: changes and failures, tunnels, and what many zones cost the control node
	@{ command -v wg && command -v wireguard-go; } >/dev/null || { \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends wireguard-tools wireguard-go >/dev/null; }
	@scripts/timed.sh "zones" pytest -q -s tests/zones

e2e: images $(VENV)/.test ## make demo with assertions, scaling and teardown
	@scripts/timed.sh "end to end" pytest -q -s -m "not long" tests/e2e

tutorials: images $(VENV)/.test ## What docs/tutorials says, done word by word in a zone in a box and with Flower
	@scripts/timed.sh "tutorials" pytest -q tests/tutorials

# Machines and federations mostly wait for their disks and each other, so that three suites at a time keep two cores busy. The longest begin
# first, so the images that most of them need are made before and taken as they are.
#
# make test holds every kind of test once: what a machine is made into, what a zone answers, a training, a deployment. Within its limit of time it
# leaves to make test-long what repeats these on other ground: more machines (roles, appliances, zones), more steps (the cases marked "long") and
# more examples (fuzz, variants, recovery).
TESTS := e2e integration app-coverage image-check molecule-flower_superlink coverage edge lab-test foreign sanity contract lint
LONG_TESTS := $(filter-out $(TESTS),$(SCENARIOS)) roles long-cases zones recovery links monitoring tutorials site variants fuzz vfio
SUITES := $(MAKE) --keep-going --output-sync=target --assume-old=engine --assume-old=machine-images --assume-old=images

test: $(VENV)/.test build/collections/.done machine-images ## Everything that CI runs
	@rm -rf build/failed
	@$(SUITES) --jobs=3 $(TESTS) 9>&2 || { scripts/failures.sh; exit 1; }

long-tests: ## The names of the parts of make test-long
	@echo $(LONG_TESTS)

test-long: $(VENV)/.test build/collections/.done machine-images ## What make test leaves out, before a release; hours
	@rm -rf build/failed
	@$(SUITES) --jobs=2 $(LONG_TESTS) 9>&2 || { scripts/failures.sh; exit 1; }

# ---- Disk images ---------------------------------------------------------------------------------

# With the stand-in of the guest agent, for tests; docs/images.md says how to build with OpenNebula's own. Which images: make IMAGES=NAME,NAME.
IMAGES ?= flower-superlink-container,flower-supernode-sklearn-native

.PHONY: appliance-images image-check image-boot
appliance-images: images ## Disk images of the appliances with a stand-in of the guest agent, in build/appliances
	@ansible-playbook -i localhost, playbooks/build_appliance.yml -e appliance_target=qcow2 -e appliance_images=$(IMAGES) \
	  -e appliance_guest_agent="$$(python -m lab.agent_package build/agent)" \
	  -e "{\"appliance_image_archives\": {\"flower-superlink-container\": \"$$(python -c 'from lab.images import SUPERLINK_IMAGE, archive_path; print(archive_path(SUPERLINK_IMAGE))')\"}}"

image-check: appliance-images $(VENV)/.test ## The disk images looked at without a boot: partitions, files, secrets, sizes, manifests
	@scripts/timed.sh "disk images" pytest -q tests/images

# Takes half an hour on two cores, most of it emulated processors.
image-boot: appliance-images $(VENV)/.test ## The disk images and a small one booted by the lab zone, with BIOS and UEFI
	@python -c 'from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv; make_flower_venv()'
	@scripts/timed.sh "disk images, booted" pytest -q -s tests/boot

.PHONY: bench
bench: setup ## Speed against raw calls, printed as ratios
	@status=0; python bench/inventory.py || status=1; python bench/modules.py || status=1; python bench/wireguard.py || status=1; exit $$status

.PHONY: bench-boot bench-checkpoints bench-memory bench-scale bench-monitoring bench-joining bench-zones
bench-boot: images ## Processor time of the boots of a SuperLink and a SuperNode, and of their restarts unchanged
	@ansible-playbook -i inventories/lab playbooks/build_appliance.yml >/dev/null
	@python bench/boot.py

bench-checkpoints: $(VENV)/.test ## Share of a round that checkpoints and events take
	@python bench/checkpoints.py cost

bench-memory: $(VENV)/.test ## Memory of the SuperLink over 200 rounds
	@python bench/checkpoints.py memory

bench-monitoring: $(VENV)/.test ## What metrics and a scrape cost a federation
	@python bench/monitoring.py

bench-joining: $(VENV)/.test ## What it costs nodes that they authenticate themselves
	@python bench/joining.py

bench-scale: $(VENV)/.test ## Processor time that a node costs its SuperLink
	@python bench/scale.py

bench-zones: $(VENV)/.test build/collections/.done ## site.yml over six zones against two
	@python bench/zones.py

docs: setup ## Write what follows from other files: the pages of parameters, metrics, alerts and events, the limits and defaults of the app, the dashboards
	@for written in parameters dashboards metrics alerts events; do python -m scripts.$$written; done

build/locks/.done: $(VENV)/.control requirements/locks.txt
	@[ -x build/locks/bin/pip ] || $(PYTHON) -m venv build/locks
	@build/locks/bin/pip install --quiet --no-compile --disable-pip-version-check -r requirements/locks.txt
	@touch $@

.PHONY: locks
locks: build/locks/.done ## Lock files of what images are baked from, with what the package index has today
	@PATH="$(CURDIR)/build/locks/bin:$$PATH" python -m scripts.locks

build/site/.tools: $(VENV)/.test requirements/site.txt
	@echo "== what builds the site"
	@[ -x build/site/venv/bin/pip ] || $(PYTHON) -m venv build/site/venv
	@build/site/venv/bin/pip install --quiet --disable-pip-version-check -r requirements/site.txt
	@touch $@

# Material for MkDocs tells of its successor at every start.
.PHONY: site
site: build/site/.tools build/collections/.done ## The documentation as a site in build/site/html, its links and what it loads checked
	@NO_MKDOCS_2_WARNING=1 build/site/venv/bin/mkdocs build --quiet
	@scripts/timed.sh "site" pytest -q tests/site

.PHONY: pictures
pictures: ## docs/pictures/*.svg from their sources; needs Graphviz and PlantUML
	@for source in docs/pictures/*.dot; do dot -Tsvg $$source -o $${source%.dot}.svg; done
	@plantuml -nometadata -tsvg docs/pictures/*.puml

.PHONY: build clean
build: setup ## The collection's release archive, in dist/
	@ansible-galaxy collection build --force --output-path dist

clean: clean-lab ## clean-lab, and everything that was built or installed in this checkout
	@rm -rf build dist .venv .ansible .hypothesis .pytest_cache .ruff_cache
