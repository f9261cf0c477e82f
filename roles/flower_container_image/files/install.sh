#!/bin/sh
# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
#
# Runs inside a container of the base image, or of one made from it: puts the named packages into /python/venv from the
# wheels in /wheels, those in DATA_PACKAGES without what they depend on, and makes what Flower's own images have: user app
# with id 49999 and home /app.
set -eu

if [ ! -d /python/venv ]; then
    groupadd --gid 49999 app
    useradd --uid 49999 --gid 49999 --home-dir /app --create-home --shell /bin/sh app
    python3 -m venv /python/venv
fi
pip="/python/venv/bin/pip install --quiet --no-cache-dir --no-compile --no-index --find-links /wheels"
[ $# = 0 ] || $pip "$@"
# Only the data files of these are used.
[ -z "${DATA_PACKAGES:-}" ] || $pip --no-deps $DATA_PACKAGES

# Tests, and headers and static libraries for building extensions. numpy's own tests are imported by numpy.testing, and
# torch.testing by torch.
cd /python/venv/lib/python3.*/site-packages
for package in scipy sklearn keras tensorflow transformers; do
    [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
rm -rf torch/include torch/test tensorflow/include
[ ! -d torch ] || find torch -name '*.a' -delete
# The image writes no byte code at run time, and without it every start of Flower takes twice as long. Of the hundreds of
# models in transformers one is loaded: compiling them all would cost more than it saves.
/python/venv/bin/python -m compileall -q -j 0 -x '/transformers/models/' . >/dev/null || true
chown -R app:app /app /python
