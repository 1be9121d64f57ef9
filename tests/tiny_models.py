"""Tiny random models on disk."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


def save_with_large_weights(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a random model whose errors show: weights as they come give almost uniform answers."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
