# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of a causal language model by low-rank adapters (LoRA), with transformers and PEFT.

The model lies on every node; only the adapters travel. Nothing is downloaded.
"""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from federation.data import DataError, batches, own_entries
from federation.partition import split

if TYPE_CHECKING:
    from peft import PeftModel

    from federation.usecases import Arrays, Data, Options, Share

FRAMEWORKS = ("pytorch",)
MODEL = "model"
LAYOUT = f"a directory {MODEL} as save_pretrained of transformers writes it with its tokenizer, and .txt or .jsonl files"
LOCAL_EPOCHS = 1
BATCH_SIZE = 4
LEARNING_RATE = 5e-4
_AT_A_TIME = 8  # pieces of text, where nothing is learned


def proposed_arrays(_data: Data, options: Options) -> Arrays:
    """Return the adapters of an untrained model, which change nothing yet."""
    return _adapters(_model(options))


def load_data(share: Share, options: Options) -> tuple[Data, Data]:
    """Return the token numbers of the node's texts in pieces of llm-sequence-length."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - on nodes only, see UseCase

    directory, length = options.data_directory, options.settings["llm-sequence-length"]
    texts, model = _texts(directory), _model_directory(directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{model} has no tokenizer that can be used, expected {LAYOUT}: {_first_line(error)}") from error
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    tokens = [token for text in texts for token in (*tokenizer(text)["input_ids"], *end)]
    pieces = len(tokens) // length
    if pieces < 5:
        raise DataError(f"{directory} has {len(tokens)} tokens of text, expected at least {5 * length} (5 times llm-sequence-length)")
    chunks = np.array(tokens[: pieces * length], np.int64).reshape(pieces, length)
    partition = split(pieces, 0, 1, share.seed)
    return (chunks[partition.train],), (chunks[partition.test],)


def train(arrays: Arrays, data: Data, options: Options) -> Arrays:
    """Train the adapters with AdamW; the proximal term is part of the loss."""
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    torch.manual_seed(options.seed)  # for dropout
    model = _model(options, arrays)
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate or LEARNING_RATE)
    (chunks,) = data
    for batch in batches(len(chunks), options.batch_size or BATCH_SIZE, options.local_epochs or LOCAL_EPOCHS, options.seed):
        optimizer.zero_grad()
        tokens = torch.from_numpy(chunks[batch]).to(model.device)
        loss = model(input_ids=tokens, labels=tokens).loss
        if options.proximal_mu > 0:
            moved = sum(((now - then) ** 2).sum() for now, then in zip(parameters, start, strict=True))
            loss = loss + options.proximal_mu / 2 * moved
        loss.backward()
        optimizer.step()
    return _adapters(model)


def evaluate(arrays: Arrays, data: Data, options: Options) -> dict[str, float]:
    """Return the mean cross-entropy of the next token, its exponential, and the share of next tokens guessed."""
    import torch  # noqa: PLC0415 - on nodes only, see UseCase

    model = _model(options, arrays)
    model.eval()
    (chunks,) = data
    loss = right = 0.0
    with torch.no_grad():
        for start in range(0, len(chunks), _AT_A_TIME):
            tokens = torch.from_numpy(chunks[start : start + _AT_A_TIME]).to(model.device)
            scores, following = model(input_ids=tokens).logits[:, :-1], tokens[:, 1:]
            loss += float(torch.nn.functional.cross_entropy(scores.flatten(0, 1).float(), following.flatten(), reduction="sum"))
            right += float((scores.argmax(-1) == following).sum())
    predicted = chunks.shape[0] * (chunks.shape[1] - 1)
    return {"loss": loss / predicted, "accuracy": right / predicted, "perplexity": math.exp(min(loss / predicted, 700))}


def export(arrays: Arrays, options: Options) -> tuple[str, bytes]:
    """Return a zip archive with the adapters as PeftModel.from_pretrained reads them, tensors as safetensors."""
    model = _model(options, arrays)
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as directory, zipfile.ZipFile(archive, "w") as entries:
        model.save_pretrained(directory)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            entries.write(Path(directory, name), name)
    return "-adapter.zip", archive.getvalue()


def _model(options: Options, arrays: Arrays | None = None) -> PeftModel:
    """Return the node's model with adapters, those given or new ones."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch  # noqa: PLC0415 - on nodes only, see UseCase
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict  # noqa: PLC0415
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL_TARGETS  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    directory = _model_directory(options.data_directory)
    try:
        base = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{directory} is not a model that can be used, expected {LAYOUT}: {_first_line(error)}") from error
    kind = base.config.model_type
    torch.manual_seed(options.seed)
    model = get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=options.settings["llm-lora-rank"],
            lora_alpha=options.settings["llm-lora-alpha"],
            lora_dropout=0.05,
            target_modules=None if kind in USUAL_TARGETS else "all-linear",
        ),
    )
    if arrays is not None:
        set_peft_model_state_dict(model, {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _adapters(model: PeftModel) -> Arrays:
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - on nodes only, see UseCase

    return {name: tensor.detach().float().cpu().numpy() for name, tensor in get_peft_model_state_dict(model).items()}


def _model_directory(directory: Path) -> Path:
    if not (directory / MODEL / "config.json").is_file():
        raise DataError(f"there is no {directory / MODEL / 'config.json'}, expected in {directory}: {LAYOUT}")
    for path in (directory / MODEL).iterdir():
        if not os.access(path, os.R_OK):  # transformers would say that there is no such file
            raise DataError(f"{path} cannot be read by the node's user {os.getuid()}, whoever owns it")
    return directory / MODEL


def _texts(directory: Path) -> list[str]:
    entries = own_entries(directory)
    if not entries:
        raise DataError(f"{directory} is empty or not there, expected in it: {LAYOUT}")
    texts = []
    for entry in entries:
        if entry.name == MODEL:
            continue
        if entry.suffix not in (".txt", ".jsonl"):
            raise DataError(f"{directory} holds {entry.name}, expected {LAYOUT}")
        try:
            text = entry.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{entry} cannot be read as text: {error}") from error
        texts += [text] if entry.suffix == ".txt" else _from_lines(entry, text)
    if not texts:
        raise DataError(f"{directory} holds no text, expected {LAYOUT}")
    return texts


def _from_lines(path: Path, text: str) -> list[str]:
    """Each line is an object with text, or with instruction and output."""
    texts = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            entry = json.loads(line) if line.strip() else None
        except ValueError:
            entry = line
        if entry is None:
            continue
        parts = [entry.get("text")] if isinstance(entry, dict) and "text" in entry else []
        if isinstance(entry, dict) and not parts:
            parts = [entry.get("instruction"), entry.get("output")]
        if not parts or not all(isinstance(part, str) for part in parts):
            raise DataError(f"{path} line {number} is {line[:80]!r}, expected an object with text, or with instruction and output, as strings")
        texts.append("\n".join(parts))
    return texts


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
