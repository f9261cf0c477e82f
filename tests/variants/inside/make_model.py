# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes a small language model with a tokenizer of its own from the texts given. Runs inside the PyTorch image."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

VOCABULARY = 512
LENGTH = 64
STEPS = 120
END = "<|endoftext|>"


def main(target: Path, texts: list[Path]) -> None:
    """Train the tokenizer and, briefly, the model, so that it has something that fine-tuning can start from."""
    torch.manual_seed(1)
    byte_pairs = ByteLevelBPETokenizer()
    byte_pairs.train([str(text) for text in texts], vocab_size=VOCABULARY, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_pairs._tokenizer, eos_token=END)
    tokens = torch.tensor([token for text in texts for token in tokenizer(text.read_text(encoding="utf-8"))["input_ids"]])
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=64, n_layer=2, n_head=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        starts = torch.randint(len(tokens) - LENGTH, (16,))
        batch = torch.stack([tokens[start : start + LENGTH] for start in starts])
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    for path in target.iterdir():
        path.chmod(0o644)  # weights are written for their owner alone


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
