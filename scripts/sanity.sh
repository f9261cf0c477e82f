#!/usr/bin/env bash
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# ansible-test sanity on a copy of the checkout, laid out as ansible-test wants it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/build/sanity/ansible_collections
target=$root/opennebula/flower
rm -rf "$root"
mkdir -p "$target"
git ls-files -z --cached --others --exclude-standard -- plugins meta roles playbooks galaxy.yml README.md CHANGELOG.md tests/unit tests/sanity tests/config.yml \
    | tar --create --null --files-from - --ignore-failed-read | tar --extract --directory "$target"
git -C "$target" init --quiet
git -C "$target" add --all
ln -s "$PWD/build/collections/ansible_collections/community" "$root/community"
ln -s "$PWD/build/collections/ansible_collections/ansible" "$root/ansible"

# ansible-test would fetch pip's installer from the Internet; the interpreter brings its own.
cache=$HOME/.ansible/test/cache
mkdir -p "$cache"
installer=$cache/get_pip_24_2.py
[ -e "$installer" ] || cat >"$installer" <<'PYTHON'
import ensurepip
import os
import subprocess
import sys

ensurepip.bootstrap()
os.environ.pop("PIP_CONFIG_FILE", None)  # ensurepip sets it, which would hide the machine's own pip settings
args = [a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel")]
raise SystemExit(subprocess.call([sys.executable, "-m", "pip", "install", *args]))
PYTHON

cd "$target"
unset ANSIBLE_COLLECTIONS_PATH ANSIBLE_CONFIG PYTHONPATH
ansible-test sanity --local --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" --skip-test pslint --skip-test shellcheck "$@"
