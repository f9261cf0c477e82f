# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Opens an exported model (standard input) with its framework and prints how it does on the held-out bundled data.

Arguments: use case, framework, run configuration as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from federation import usecases
from federation.usecases import Options, Share


def opened(use_case: str, framework: str, content: bytes):
    """Return a function from the use case's inputs to the model's outputs."""
    if framework == "sklearn":
        import joblib  # noqa: PLC0415 - in the image of sklearn only

        return joblib.load(io.BytesIO(content)).predict
    if framework == "tensorflow":
        import keras  # noqa: PLC0415 - in the image of tensorflow only

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "model.keras")
            path.write_bytes(content)
            model = keras.saving.load_model(path)
        return lambda images: model.predict(images.transpose(0, 2, 3, 1), verbose=0)
    import torch  # noqa: PLC0415 - in the image of pytorch only

    state = {name: tensor.numpy() for name, tensor in torch.load(io.BytesIO(content), weights_only=True).items()}
    network = usecases.load(use_case).network(state).eval()
    return lambda inputs: network(torch.from_numpy(inputs)).detach().numpy()


def main(use_case: str, framework: str, settings: dict[str, object]) -> None:
    """Print whether all outputs are numbers, and the accuracy of a classifier or the mean error of an autoencoder."""
    content = sys.stdin.buffer.read()
    options = Options(framework, Path("/nowhere"), seed=0, settings=settings)
    parts = [usecases.load(use_case).load_data(Share(number, 2, settings["seed"]), options)[1] for number in range(2)]
    inputs, labels = (np.concatenate([part[index] for part in parts]) for index in range(2))
    model = opened(use_case, framework, content)
    if use_case == "image-classification":
        outputs = model(inputs)
        measured = float((outputs.argmax(axis=1) == labels).mean())
    else:
        scaled = scaled_as_exported(framework, content, inputs.astype(np.float32))
        outputs = model(inputs if framework == "sklearn" else scaled)
        measured = float(((outputs - scaled) ** 2).mean(axis=1)[labels == 0].mean())
    print(json.dumps({"finite": bool(np.isfinite(outputs).all()), "measured": measured}))


def scaled_as_exported(framework: str, content: bytes, readings: np.ndarray) -> np.ndarray:
    """Return readings on the scale that the exported file holds."""
    if framework == "sklearn":
        import joblib  # noqa: PLC0415 - in the image of sklearn only

        return joblib.load(io.BytesIO(content))[:-1].transform(readings)
    import torch  # noqa: PLC0415 - in the image of pytorch only

    state = torch.load(io.BytesIO(content), weights_only=True)
    return np.arcsinh((readings - state["scale.middle"].numpy()) / state["scale.spread"].numpy()).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
