"""Whether a folder holds a whole model of transformers: configuration, weights and tokenizer, before anything is loaded."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import MissingDependencyError, ModelError, ModelNameError
from ...files.bounded_json import parsed_json
from ...files.faults import file_fault, folder_fault

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "tekken.json",
    "vocabulary.json",
)
_VOCABULARY_PATTERNS = ("*.tiktoken", "*.model", "*vocab*", "*.vocab")
_OF_BYTES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")  # their words are bytes: they need no file
_OBJECTS = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "generation_config.json",
    "vocab.json",
)
"""Files beside config.json that hold a JSON object, where they are there."""
_TEXTS = ("*.jinja", "merges.txt", "added_tokens.json", "chat_template.json", "additional_chat_templates/*.jinja")
_PACKAGES = {
    "awq": "gptqmodel",
    "aqlm": "aqlm[gpu,cpu]",
    "auto-round": "auto-round",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "fbgemm_fp8": "fbgemm-gpu",
    "gptq": "gptqmodel optimum",
    "hqq": "hqq",
    "mxfp4": "kernels",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "torchao": "torchao",
    "vptq": "vptq",
}
"""Methods of quantisation, and what pip installs for them."""
_AGAIN = "download the whole model again"
_NEEDS_CODE = "trust_remote_code"
"""What stands in the errors of transformers for models and tokenizers that need code of their own."""


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not a whole model, and say what it lacks.

    Raises
    ------
    ModelNameError
        The folder does not hold a model.
    ModelError
        A file of the model is absent or broken; the message names the file and the cure.
    """
    config = read_config(folder)
    _check_weights(folder, config)
    for name in _OBJECTS:
        if _is_there(folder / name):
            _read_object(folder / name)
    for file in sorted(file for pattern in _TEXTS for file in folder.glob(pattern)):
        _refuse_fault(file)
    _check_vocabulary(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model's folder.

    Raises
    ------
    ModelNameError
        The folder does not hold a model; the message says what it is, where that can be told.
    ModelError
        The configuration is broken.
    """
    fault = folder_fault(folder)
    if fault is not None:
        raise ModelNameError(f"'hf:{folder}' {fault}")
    file = folder / "config.json"
    if (folder / "adapter_config.json").exists():
        raise ModelError(_about_adapter(folder))
    if not _is_there(file):
        raise ModelNameError(
            f"the folder {str(folder)!r} does not hold a config.json, so it is not a saved transformers model{_instead(folder)}"
        )
    config = _read_object(file)
    if not (config.get("model_type") or config.get("architectures") or config.get("auto_map")):
        raise ModelError(
            f"{str(file)!r} names no model_type, so it is not the configuration of a transformers model; {_AGAIN}"
        )
    return config


def explain(config: Mapping[str, Any], error: Exception, source: str, device: str) -> Exception:
    """What to tell a user whose model transformers could not load: an error of llmclf's own, with the cure.

    Parameters
    ----------
    config : mapping
        The model's configuration, empty where it could not be read.
    error : Exception
        What transformers raised.
    source : str
        How to name the model.
    """
    reason = first_line(error)
    quantised = config.get("quantization_config")
    if isinstance(quantised, Mapping):
        method = str(quantised.get("quant_method") or "an unknown method")
        package = _PACKAGES.get(method)
        if isinstance(error, ImportError):
            cure = f"run: pip install {package}" if package else "install the package that the message names"
            return MissingDependencyError(
                f"{source} is quantised ({method}), and the package that reads it is not installed ({reason}); {cure}, or give "
                "the model's unquantised weights, or serve it and use openai:NAME"
            )
        return ModelError(
            f"{source} is quantised ({method}) and could not be loaded on device={device!r} ({reason}); some methods need a GPU: "
            "give another device, the model's unquantised weights, or serve it and use openai:NAME"
        )
    if _needs_code(config) or _NEEDS_CODE in str(error):
        classes = ", ".join(_needs_code(config)) or "of its tokenizer, say"
        return ModelError(
            f"{source} needs Python code from its repository ({classes}), which llmclf never runs; serve it (vLLM with "
            "--trust-remote-code) and use openai:NAME, or give a model whose architecture and tokenizer transformers knows"
        )
    if isinstance(error, ImportError):
        return MissingDependencyError(f"{source} needs a package that is not installed ({reason}); install it with pip")
    if (
        isinstance(error, MemoryError)
        or "out of memory" in str(error).lower()
        or "can't allocate" in str(error).lower()
    ):
        return ModelError(
            f"{source} does not fit the memory of device={device!r} ({reason}); use dtype='bfloat16', another device or a "
            "smaller model"
        )
    if type(error).__name__ == "UnpicklingError":
        return ModelError(
            f"the weights of {source} are a pickle that holds more than numbers, which could run any code, so it is not read; "
            "give the weights as safetensors"
        )
    if config:
        return ModelError(
            f"the model {source} could not be loaded ({reason}): its files do not fit one another, or are damaged; {_AGAIN}, "
            "or save it once more with save_pretrained"
        )
    return ModelError(
        f"the model {source} could not be loaded ({reason}); give an existing folder, or check the name and that the model hub "
        "can be reached"
    )


def check_known(config: Mapping[str, Any], source: str) -> None:
    """Refuse an architecture that the installed transformers does not know, and code that it would fetch.

    Raises
    ------
    ModelError
    """
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for name, value in _implementations(config):
        if "/" in value:
            raise ModelError(
                f"{source} asks for code from the model hub ({name}={value!r} in its config.json), which llmclf never runs; take "
                "that line out, or serve the model and use openai:NAME"
            )
    kind = config.get("model_type")
    if isinstance(kind, str) and kind not in CONFIG_MAPPING and not _needs_code(config):
        raise ModelError(
            f"{source} is of the type {kind!r}, which transformers {__version__} does not know; run: pip install -U "
            "transformers, or serve the model and use openai:NAME"
        )


def check_architecture(config: Mapping[str, Any], source: str) -> None:
    """Refuse an architecture that the installed transformers does not know, or knows as no causal language model.

    Raises
    ------
    ModelError
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    check_known(config, source)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return
    if CONFIG_MAPPING[kind] not in MODEL_FOR_CAUSAL_LM_MAPPING and not _needs_code(config):
        raise ModelError(
            f"{source} is of the type {kind!r}, which is not a causal language model; llmclf reads how probable words are as the "
            "continuation of a prompt: give a model that writes text"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, with the kind of error where that says more than the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, OSError | ValueError | RuntimeError | ImportError) and lines:
        return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return ": ".join((type(error).__name__, *lines[:1]))


def _needs_code(config: Mapping[str, Any]) -> list[str]:
    """The classes of its own repository that a model needs; none where transformers has the architecture itself."""
    own = config.get("auto_map")
    if not isinstance(own, Mapping) or not own:
        return []
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if config.get("model_type") in CONFIG_MAPPING:
        return []
    return sorted({str(value) for value in own.values()})


def _implementations(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Which implementations a configuration, or that of a part, asks for; one of the model hub has a slash in its name."""
    for name, value in config.items():
        if name.endswith(("_implementation", "_implementation_internal")):
            values = value.values() if isinstance(value, Mapping) else [value]
            yield from ((name, one) for one in values if isinstance(one, str))
        elif isinstance(value, Mapping):
            yield from _implementations(value)


def _check_weights(folder: Path, config: Mapping[str, Any]) -> None:
    named = config.get("transformers_weights")
    names = [str(named)] if named else [name for stem in _WEIGHTS for name in (stem, stem + _INDEX)]
    there = [name for name in names if _is_there(folder / name)]
    if not there:
        raise ModelError(
            f"the folder {str(folder)!r} has no weights (no {', no '.join(names[:2])}){_instead(folder)}; {_AGAIN}"
        )
    file = folder / there[0]
    if not file.name.endswith(_INDEX):
        _check_weight_file(file)
        return
    shards = _read_object(file).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise ModelError(f"{str(file)!r} does not say in which file each weight is (no weight_map); {_AGAIN}")
    absent = sorted({shard for shard in shards.values() if not (folder / shard).exists()})
    if absent:
        raise ModelError(
            f"{str(folder)!r} lacks {len(absent)} of the {len(set(shards.values()))} files of its weights: "
            f"{', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}; {_AGAIN}"
        )
    for shard in sorted(set(shards.values())):
        _check_weight_file(folder / shard)


def _check_weight_file(file: Path) -> None:
    is_safetensors = file.suffix == ".safetensors"
    _refuse_fault(file, may_be_packed=not is_safetensors)
    if is_safetensors:
        _check_safetensors(file)
        return
    with file.open("rb") as stream:
        is_zip = stream.read(4) == b"PK\x03\x04"
    if is_zip and not zipfile.is_zipfile(file):
        raise ModelError(f"{str(file)!r} has no end, as a zip file has one: the download has not ended; {_AGAIN}")


def _check_safetensors(file: Path) -> None:
    """Refuse a file that is shorter than its own header says: the beginning of a download looks like the whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        n_header = int.from_bytes(stream.read(8), "little")
        header = stream.read(n_header) if n_header <= size else b""
    try:
        tensors = parsed_json(header)
        ends = [int(tensor["data_offsets"][1]) for name, tensor in tensors.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        whole = "has no readable header" if n_header <= size else "ends within its header"
        raise ModelError(f"{str(file)!r} is not a safetensors file, or not all of it: it {whole}; {_AGAIN}") from error
    expected = 8 + n_header + max(ends, default=0)
    if size != expected:
        why = "the download has not ended" if size < expected else "something was added to it"
        raise ModelError(f"{str(file)!r} is {size} bytes long, and its header tells of {expected}: {why}; {_AGAIN}")


def _check_vocabulary(folder: Path) -> None:
    candidates = {folder / name for name in _VOCABULARIES}
    candidates |= {file for pattern in _VOCABULARY_PATTERNS for file in folder.glob(pattern)}
    files = sorted(filter(_is_there, candidates))
    for file in files:
        _refuse_fault(file)
    config = folder / "tokenizer_config.json"
    kind = str(_read_object(config).get("tokenizer_class")) if config.exists() else ""
    if not files and not kind.startswith(_OF_BYTES):
        raise ModelError(
            f"the folder {str(folder)!r} has no tokenizer (no {', no '.join(_VOCABULARIES[:3])}); copy the tokenizer's files "
            "from the model that it was trained from, or save them with tokenizer.save_pretrained(folder)"
        )


def _is_there(file: Path) -> bool:
    """Whether something of this name is there, were it a link that leads nowhere."""
    return file.exists() or file.is_symlink()


def _refuse_fault(file: Path, *, may_be_packed: bool = False) -> None:
    fault = file_fault(file, may_be_packed=may_be_packed)
    if fault is not None:
        raise ModelError(f"{str(file)!r} {fault}")


def _read_object(file: Path) -> dict[str, Any]:
    _refuse_fault(file)
    try:
        values = parsed_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(file)!r} is not valid JSON ({first_line(error)}); {_AGAIN}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{str(file)!r} holds a {type(values).__name__} where a JSON object is expected; {_AGAIN}")
    return values


def _about_adapter(folder: Path) -> str:
    base = _read_object(folder / "adapter_config.json").get("base_model_name_or_path")
    return (
        f"the folder {str(folder)!r} holds an adapter (adapter_config.json) for the model {base!r}, which llmclf does not apply; "
        "merge the two (peft: model.merge_and_unload().save_pretrained(folder)) and give that folder, without adapter_config.json"
    )


def _instead(folder: Path) -> str:
    """What a folder that is not a model's holds, where that is of help."""
    return next((f"; {hint}" for hint in _hints(folder)), "")


def _hints(folder: Path) -> Iterator[str]:
    names = sorted(file.name for file in folder.iterdir())
    gguf = [name for name in names if name.endswith(".gguf")]
    if gguf:
        yield f"it holds {gguf[0]}: give 'gguf:{folder / gguf[0]}'"
    if "classifier.json" in names:
        yield "it is a saved classifier: read it with llmclf.load(folder)"
    unfinished = [name for name in names if name.endswith((".incomplete", ".part", ".crdownload", ".aria2"))]
    if unfinished:
        yield f"the download of {unfinished[0]} has not ended"
    shards = [name for name in names if re.search(r"-\d{5}-of-\d{5}\.(safetensors|bin)$", name)]
    if shards:
        yield f"it holds {shards[0]}, and not the index ({shards[0].split('-')[0]}{Path(shards[0]).suffix}{_INDEX})"
    other = [
        name for name in names if name.endswith((".safetensors", ".bin", ".pth", ".pt", ".h5", ".msgpack", ".onnx"))
    ]
    if other:
        yield f"it holds {other[0]}, which is not a name under which transformers saves PyTorch weights"
    snapshots = sorted(config.parent for config in folder.glob("snapshots/*/config.json"))
    snapshots += sorted(config.parent for config in folder.glob("*/config.json"))
    if snapshots:
        yield f"there is one in {str(snapshots[0])!r}: give 'hf:{snapshots[0]}'"
    if "model_index.json" in names:
        yield "it is a diffusers pipeline"
