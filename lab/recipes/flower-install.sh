#!/bin/sh
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# Runs inside a container of the base image: puts the named packages into /python/venv from the wheels in /wheels and
# makes what Flower's own images have: user app with id 49999 and home /app.
set -eu

if [ ! -d /python/venv ]; then
    groupadd --gid 49999 app
    useradd --uid 49999 --gid 49999 --home-dir /app --create-home --shell /bin/sh app
    python3 -m venv /python/venv
fi
/python/venv/bin/pip install --quiet --no-cache-dir --no-compile --no-index --find-links /wheels "$@"

# numpy's own tests are imported by numpy.testing, so they stay.
cd /python/venv/lib/python3.*/site-packages
for package in scipy sklearn; do
    [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
# The image writes no byte code at run time, and without it every start of Flower takes twice as long.
/python/venv/bin/python -m compileall -q -j 0 . >/dev/null || true
chown -R app:app /app /python
