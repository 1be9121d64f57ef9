"""Find, convert and load the weights of a local model."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...downloads import SMOLLM2, cache_dir, file_sha256
from ...errors import (
    DownloadError,
    InputError,
    LlmclfError,
    MemoryWarning,
    MissingDependencyError,
    ModelError,
    ModelNameError,
    warn,
)
from ...files.faults import file_fault
from ..model_hints import model_hint
from ..providers import PROVIDERS
from .checkpoint import check_kind, check_loaded, check_vocabulary
from .gguf.header import ArchitectureError, Header, read_header, unreadable
from .gguf.quick_gguf import quick_gguf
from .gguf.sizes import check_fits, gigabytes, should_stay_in_file
from .model_folder import check_folder, explain, first_line, read_config
from .model_kinds import CAUSAL, ModelKind

_CONVERSION = 3  # raised when weights have to be converted again
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")
_DTYPES_FROM_FILE = {None: 4, "float32": 4, "bfloat16": 2, "float16": 2}
"""In what weights can be computed with that stay in a GGUF file, and the bytes of each."""


_PROVIDERS = ", ".join(f"{scheme}:NAME" for scheme in PROVIDERS)


def check_name(name: str) -> None:
    """Refuse a model string that names nothing, without torch and without a network.

    Raises
    ------
    ModelNameError
        The string does not name a model, a folder or a file.
    InputError
        A file is not a GGUF file.
    """
    scheme, _, source = name.partition(":")
    if scheme == "gguf" and source:
        _gguf_file(source)
    elif scheme == "hf" and source:
        folder = Path(source).expanduser()
        if folder.exists():
            read_config(folder)
        elif source.count("/") > 1 or source.startswith((".", "/", "~", "@")):
            raise ModelNameError(
                f"'hf:{source}' names neither a folder that exists nor a model of the form 'hf:org/name[@revision]'{_hint(name)}"
            )
    elif name != "smollm2":
        raise ModelNameError(
            f"model={name!r} does not name a model that can be opened; expected 'smollm2', 'hf:org/name[@revision]', "
            f"'hf:folder', 'gguf:path', 'systemone:NAME', 'decisions:NAME' or a provider's ({_PROVIDERS}){_hint(name)}"
        )


def _hint(name: str) -> str:
    hint = model_hint(name)
    return f"; {hint}" if hint else ""


def check_memory(name: str, device: str | None, dtype: str | None, memory: str | None) -> None:
    """Refuse a choice of where the weights are kept that a model, a device or a type does not have.

    Raises
    ------
    InputError
    """
    if memory is None:
        return
    if name.startswith("hf:"):
        raise InputError(f"memory={memory!r} is for gguf: models, and the model is {name!r}; leave memory= out")
    if memory == "file" and device is not None and device.partition(":")[0] != "cpu":
        raise InputError(
            f"memory='file' is for a CPU, and the device is {device!r}; give device='cpu', or leave memory= out"
        )
    if memory == "file" and dtype not in _DTYPES_FROM_FILE:
        known = ", ".join(repr(one) for one in _DTYPES_FROM_FILE if one)
        raise InputError(
            f"memory='file' computes in {known}, and dtype={dtype!r}; give one of these, or memory='decoded'"
        )


def load(
    name: str,
    device: str,
    dtype: str | None,
    *,
    kind: ModelKind = CAUSAL,
    memory: str | None = "decoded",
    of_products: bool = False,
) -> tuple[Any, Any, str]:
    """Model, tokenizer and a hash of the weights for a model string that `check_name` accepts.

    Parameters
    ----------
    name, device, dtype : str
    kind : ModelKind
        What is made of the weights: a language model that writes, or a body whose states are read.
    memory : {"decoded", "file"} or None
        Whether the weights of a GGUF file are decoded once, or stay in it. None: what the memory allows.
    of_products : bool
        Whether `dtype` is that of the products in linear layers alone: decoded weights then come in the type in which they are
        stored, since what no product meets, such as a norm, is to be rounded no further.

    Raises
    ------
    InputError
        The device is not available, or the weights cannot be kept as `memory` says.
    ModelError, DownloadError
        The model exists and cannot be loaded, or cannot be fetched.

    Warns
    -----
    MemoryWarning
        The weights stay in the file, and nobody has said that they should.
    """
    _check_device(device)
    scheme, _, source = name.partition(":")
    stored = "auto" if of_products else dtype
    if scheme == "hf":
        folder = Path(source).expanduser()
        if folder.is_dir():
            check_folder(folder)
            model, tokenizer = _load_folder(str(folder), None, device, stored, kind)
            return model, tokenizer, _hash_folder(folder)
        repository, _, revision = source.partition("@")
        commit = _commit(repository, revision or None)
        return *_load_folder(repository, commit, device, stored, kind), f"{repository}@{commit}"
    path = _gguf_file(source) if scheme == "gguf" else SMOLLM2.locate()
    header = read_header(path)
    check_memory(name, device, dtype, memory)
    n_bytes = _DTYPES_FROM_FILE.get(dtype, 4)
    n_decoded = header.n_weights * n_bytes
    is_automatic = memory is None and device == "cpu" and dtype in _DTYPES_FROM_FILE
    if memory == "file" or (is_automatic and should_stay_in_file(n_decoded)):
        try:
            model, tokenizer = _load_from_file(header, dtype, kind, of_products)
        except ArchitectureError:
            if memory == "file":
                raise
        else:
            if memory is None:
                warn(
                    f"the decoded weights of {name!r} would be {gigabytes(n_decoded)}, more than half of the free memory, so "
                    f"they stay in the file ({gigabytes(header.n_bytes)}) and are decoded at each use: the same scores, more "
                    "slowly. Say memory='file' if that is right, or memory='decoded'",
                    MemoryWarning,
                )
            return model, tokenizer, _sha256(path)
    folder, weights_hash = converted(path, n_bytes)
    return *_load_folder(str(folder), None, device, stored, kind), weights_hash


def _load_from_file(header: Header, dtype: str | None, kind: ModelKind, of_products: bool) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file whose matrices stay in it."""
    _check_packages()
    import torch
    from transformers import AutoTokenizer

    from .gguf.file_model import file_model

    path, name = header.path, repr(str(header.path))
    check_fits(f"the GGUF file {name} has", header.n_bytes, "it would be read again and again; give a smaller model")
    _check_blocks(header)
    with _quiet_transformers(), redirect_stderr(io.StringIO()), quick_gguf():
        try:
            products = getattr(torch, dtype or "float32")
            model = file_model(header, torch.float32 if of_products else products, products, kind, name)
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        except LlmclfError:
            raise
        except Exception as error:  # a damaged file breaks the reader in any of its parts
            raise _explained(path, error) from error
    check_vocabulary(model, tokenizer, name)
    kind.check_model(model, tokenizer, name)
    return model, tokenizer


def _commit(repository: str, revision: str | None) -> str:
    """The commit of a hub model that a revision stands for now: all of its files are read from that one."""
    folder = _snapshot(repository, revision)
    if folder is None:
        raise ModelError(
            f"the model {repository!r} has no config.json at the model hub, so it is not a transformers model"
        )
    return folder.name


def _snapshot(repository: str, revision: str | None) -> Path | None:
    """The folder in which the hub's client keeps the files of a model; fetched where it is not there."""
    from transformers.utils import cached_file

    with _quiet_transformers():
        try:
            config = cached_file(repository, "config.json", revision=revision)
        except Exception as error:  # the hub's client raises errors of many kinds
            raise explain({}, error, repr(repository), "cpu") from error
    return None if config is None else Path(config).parent


def _load_folder(source: str, revision: str | None, device: str, dtype: str | None, kind: ModelKind) -> tuple[Any, Any]:
    import torch
    import transformers

    name = repr(source)
    folder = Path(source) if revision is None else _snapshot(source, revision)
    config = {} if folder is None else read_config(folder)
    kind.check_config(config, name)
    named = dtype or ("float32" if device == "cpu" else "auto")
    wanted: Any = named if named == "auto" else getattr(torch, named)
    # Without the second, transformers asks on standard input whether to run the code of a repository.
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    with _quiet_transformers():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **common)
            # Other shapes are read, too, so that all of them can be named.
            model, info = getattr(transformers, kind.auto_class).from_pretrained(
                source, dtype=wanted, output_loading_info=True, ignore_mismatched_sizes=True, **common
            )
            kind.check_weights(model, info, name)
            model = model.to(device).eval()
        except LlmclfError:
            raise
        except (
            Exception
        ) as error:  # transformers and its parts raise errors of every kind for files that they cannot read
            if folder is not None and revision is not None:
                check_folder(folder)
            raise explain(config, error, name, device) from error
    check_vocabulary(model, tokenizer, name)
    kind.check_model(model, tokenizer, name)
    return model, tokenizer


def _gguf_file(path: str) -> Path:
    file = Path(path).expanduser()
    fault = file_fault(file)
    if fault is not None:
        kind = InputError if file.is_file() else ModelNameError
        raise kind(f"'gguf:{path}' {fault}")
    pieces = re.search(r"-\d{5}-of-(\d{5})\.gguf$", file.name)
    if pieces and int(pieces[1]) > 1:
        raise ModelError(
            f"{path!r} is one of {int(pieces[1])} pieces of a model; join them (llama-gguf-split --merge FIRST_PIECE "
            "MODEL.gguf) and give that file"
        )
    with file.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise InputError(
            f"{path!r} is not a GGUF file: it begins with {magic!r}, expected b'GGUF'; was the download complete?"
        )
    return file


def converted(gguf: Path, n_bytes: int = 4) -> tuple[Path, str]:
    """A folder with the float32 weights of a GGUF file, converted once: reading GGUF takes half a minute, this seconds.

    `n_bytes` is what a weight takes once it is loaded; while it is converted it takes four.
    """
    header = read_header(gguf)
    weights_hash = _sha256(gguf)
    folder = cache_dir() / "models" / f"{weights_hash[:16]}-v{_CONVERSION}"
    is_converted = (folder / "config.json").is_file()
    check_fits(
        f"the decoded weights of {str(gguf)!r} would take",
        header.n_weights * (n_bytes if is_converted else 4),
        "give memory='file', with which they stay in the file, or a smaller model",
    )
    if not is_converted:
        _check_packages()
        _check_blocks(header)
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            _convert(gguf, work)
            _publish(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder, weights_hash


def _check_packages() -> None:
    absent = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingDependencyError(
            f"reading a GGUF file needs {' and '.join(absent)}; run: pip install 'llmclf[local]'"
        )


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Reading GGUF draws a progress bar that the switch of transformers does not turn off.
    with _quiet_transformers(), redirect_stderr(io.StringIO()), quick_gguf():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, trust_remote_code=False)
            read, info = AutoModelForCausalLM.from_pretrained(
                str(gguf.parent),
                gguf_file=gguf.name,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
            )
            check_loaded(read, info, repr(str(gguf)))
            check_kind(read.config.architectures, read.config.is_encoder_decoder, repr(str(gguf)))
        except LlmclfError:
            raise
        except Exception as error:  # a damaged file breaks the reader in any of its parts
            raise _explained(gguf, error) from error
        config = read.config
        # transformers takes a model that was read from GGUF for quantised and would not save it.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model.load_state_dict(read.state_dict(), strict=False)
        model.tie_weights()
        # Several files: while the weights are read, each is in memory only as long as it is needed.
        model.save_pretrained(folder, max_shard_size="64MB")
        tokenizer.save_pretrained(folder)


def _explained(gguf: Path, error: Exception) -> ModelError:
    """What to tell a user whose GGUF file transformers could not read."""
    if "is not supported yet" in str(error):
        return unreadable(gguf, first_line(error), "serve it with llama.cpp and use openai:NAME")
    if "Unrecognized configuration class" in str(error):
        return unreadable(gguf, first_line(error), "it is not a causal language model: give one")
    return unreadable(gguf, first_line(error))


def _check_blocks(header: Header) -> None:
    """Refuse a file with more layers than it says: transformers would leave them out without a word."""
    counts = {
        name: int(value)
        for key, value in header.values.items()
        for name in ("block_count", "nextn_predict_layers")
        if key.endswith(f".{name}")
    }
    blocks = {int(found[1]) for tensor in header.tensors if (found := re.match(r"blk\.(\d+)\.", tensor.name))}
    said = counts.get("block_count", len(blocks)) + counts.get("nextn_predict_layers", 0)
    if blocks and max(blocks) >= said:
        raise ModelError(
            f"{str(header.path)!r} says that it has {said} layers and holds {max(blocks) + 1}; without the others the model is "
            "another one: download the file again, or convert the model once more"
        )


def _publish(work: Path, folder: Path) -> None:
    """Move a finished folder to its final name; if another process was first, its folder is just as good."""
    for file in work.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    try:
        work.rename(folder)
    except OSError as error:
        if not (folder / "config.json").is_file():
            raise DownloadError(f"the converted weights could not be stored in {str(folder)!r}: {error}") from error


def _hash_folder(folder: Path) -> str:
    files = sorted({file for pattern in _WEIGHT_FILES for file in folder.glob(pattern)})
    return sha256("".join(f"{file.name} {_sha256(file)}\n" for file in files).encode()).hexdigest()


def _sha256(file: Path) -> str:
    digest = file_sha256(file)
    if digest is None:
        raise ModelError(f"{str(file)!r} cannot be read; check the file's permissions")
    return digest


def usable_device(device: str | None) -> str:
    """The device that is meant: by default the first of cuda, mps and cpu that is there.

    Raises
    ------
    MissingDependencyError
        A local model needs packages that are not installed.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"a local model needs torch and transformers ({error}); run: pip install 'llmclf[local]'"
        ) from error
    return device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def _check_device(device: str) -> None:
    import torch

    kind = device.partition(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        available = [name for name, is_there in there.items() if is_there]
        raise InputError(f"device={device!r} is not available here; available: {', '.join(available)}")


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice on standard error while weights are read."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
