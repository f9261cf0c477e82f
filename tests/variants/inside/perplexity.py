# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Prints the perplexity of a text under a model without and with exported adapters (zip archive, standard input).

Arguments: directory of the model, file with the text.
"""

from __future__ import annotations

import io
import json
import math
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

LENGTH = 64


def perplexity(model: torch.nn.Module, tokens: torch.Tensor) -> float:
    """Return the exponential of the mean cross-entropy of the next token."""
    model.eval()
    with torch.no_grad():
        return math.exp(model(input_ids=tokens, labels=tokens).loss)


def main(directory: str, text: Path) -> None:
    """Print both as JSON."""
    tokens = AutoTokenizer.from_pretrained(directory)(text.read_text(encoding="utf-8"))["input_ids"]
    pieces = torch.tensor(tokens[: len(tokens) // LENGTH * LENGTH]).reshape(-1, LENGTH)
    model = AutoModelForCausalLM.from_pretrained(directory)
    without = perplexity(model, pieces)
    with tempfile.TemporaryDirectory() as adapters:
        zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())).extractall(adapters)
        print(json.dumps({"without": without, "with": perplexity(PeftModel.from_pretrained(model, adapters), pieces)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
