# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for OpenNebula's templates."""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = st.text("ABCLMXYZ_019", min_size=1, max_size=8).filter(lambda name: not name.startswith(("XML", "0", "1", "9")))
# What no XML document can carry, half of a pair of surrogates among it.
UNSTORABLE = st.sampled_from("\x00\x07\x0b\x1f\ud800\udfff\ufffe\uffff")
# What XML can carry: the server keeps every template as XML.
STRINGS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\n\t\r", exclude_characters="\ufffe\uffff"))
STORABLE = STRINGS.filter(lambda text: "]]>" not in text)
AWKWARD = st.text(st.sampled_from('"\\[],= #\nx]é<&>'), max_size=12).filter(lambda text: "]]>" not in text)
SINGLE = st.one_of(STORABLE, AWKWARD)
VECTOR = st.dictionaries(NAMES, SINGLE, max_size=4)
VALUE = st.one_of(SINGLE, VECTOR, st.lists(st.one_of(SINGLE, VECTOR), min_size=2, max_size=3))
TEMPLATES = st.dictionaries(NAMES, VALUE, max_size=5)
# Texts that are a template by chance.
SCRIPTS = st.text(st.sampled_from('AB1=[],# \n\t"\\x]>é;'), max_size=30)
