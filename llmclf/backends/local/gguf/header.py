"""What a GGUF file says that it holds, read from its header alone: where each tensor stands, in which type.

gguf's own reader makes an array of every word of the vocabulary, which takes seconds; here they are stepped over. The format is
that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....errors import InputError, MissingDependencyError, ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_DEEPEST = 4  # arrays in arrays
_MOST_DIMENSIONS = 8
_AGAIN = "the download may not have ended: compare the file's size with the original's, and download it again"


class ArchitectureError(InputError):
    """The matrices of a model's architecture cannot stay in their file."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file.

    Attributes
    ----------
    name : str
    type_name : str
        How it is stored, as llama.cpp names it: ``"F32"``, ``"Q4_K"``, for example.
    shape : tuple of int
        As torch has it: the numbers of a row stand together, and the row is the last dimension.
    offset, n_bytes : int
        Where it stands in the file.
    """

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int

    @property
    def size(self) -> int:
        """How many numbers it has."""
        size = 1
        for n in self.shape:
            size *= n
        return size


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes
    ----------
    path : Path
    values : dict
        Its metadata, without arrays.
    tensors : tuple of StoredTensor
    """

    path: Path
    values: dict[str, Any]
    tensors: tuple[StoredTensor, ...]

    @property
    def architecture(self) -> str:
        """The architecture, as llama.cpp names it."""
        return str(self.values.get("general.architecture", ""))

    @property
    def n_weights(self) -> int:
        """How many numbers all tensors have together."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def n_bytes(self) -> int:
        """The size of the file."""
        return self.path.stat().st_size


def read_header(path: Path) -> Header:
    """The header of a GGUF file that holds whatever its header tells of.

    Raises
    ------
    ModelError
        The file is damaged or ends too early, or a tensor has a type that nobody here can decode; the message names it.
    MissingDependencyError
        The package gguf, which knows the types, is not installed.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            values, described, end = _parse(data)
            alignment = values.get("general.alignment", 32)
            if not isinstance(alignment, int) or alignment < 1:
                raise ValueError(f"general.alignment is {alignment!r}")
            tensors = _placed(path, described, -(-end // alignment) * alignment)
            size = len(data)
    except (struct.error, ValueError, OverflowError, OSError) as error:
        reason = "it ends within its header" if isinstance(error, struct.error) else str(error)
        raise unreadable(path, reason) from error
    for tensor in tensors:
        if tensor.offset + tensor.n_bytes > size:
            raise unreadable(
                path, f"it is {size:,} bytes long, and {tensor.name!r} ends at {tensor.offset + tensor.n_bytes:,}"
            )
    return Header(path, values, tensors)


def unreadable(path: Path, reason: str, cure: str = _AGAIN) -> ModelError:
    """The error of a file that cannot be read."""
    return ModelError(f"the GGUF file {str(path)!r} could not be read ({reason}); {cure}")


_Described = list[tuple[str, tuple[int, ...], int, int]]
"""Of each tensor: name, shape, number of the type, and the offset among the tensors."""


def _parse(data: mmap.mmap) -> tuple[dict[str, Any], _Described, int]:
    """Metadata, descriptions of the tensors, and where they end."""
    version, n_tensors, n_values = struct.unpack_from("<IQQ", data, 4)
    if version not in _VERSIONS:
        # Bytes in the other order give a version whose lower half is zero.
        raise ValueError("it is for big-endian machines" if version and version % 65536 == 0 else f"version {version}")
    at = 24
    values: dict[str, Any] = {}
    for _ in range(n_values):
        name, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        value, at = _value(data, at + 4, kind)
        if value is not None:
            values[name] = value
    described: _Described = []
    for _ in range(n_tensors):
        name, at = _string(data, at)
        (n_dimensions,) = struct.unpack_from("<I", data, at)
        if n_dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"{name!r} has {n_dimensions} dimensions")
        shape = struct.unpack_from(f"<{n_dimensions}Q", data, at + 4)
        at += 4 + 8 * n_dimensions
        kind, offset = struct.unpack_from("<IQ", data, at)
        at += 12
        described.append((name, tuple(reversed(shape)), kind, offset))
    return values, described, at


def _string(data: mmap.mmap, at: int) -> tuple[str, int]:
    (n,) = struct.unpack_from("<Q", data, at)
    (raw,) = struct.unpack_from(f"{n}s", data, at + 8)
    return raw.decode("utf-8", "replace"), at + 8 + n


def _value(data: mmap.mmap, at: int, kind: int, depth: int = 0) -> tuple[Any, int]:
    """A value and where it ends; None for an array."""
    if kind in _SCALARS:
        form = f"<{_SCALARS[kind]}"
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if kind == _STRING:
        return _string(data, at)
    if kind != _ARRAY or depth > _DEEPEST:
        raise ValueError(f"a value of the unknown type {kind}")
    inner, n = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _SCALARS:
        return None, at + n * struct.calcsize(f"<{_SCALARS[inner]}")
    for _ in range(n):
        if inner == _STRING:  # not made into a text: there are hundreds of thousands
            at += 8 + struct.unpack_from("<Q", data, at)[0]
        else:
            _, at = _value(data, at, inner, depth + 1)
    return None, at


def _placed(path: Path, described: _Described, start: int) -> tuple[StoredTensor, ...]:
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as error:
        raise MissingDependencyError("reading a GGUF file needs gguf; run: pip install 'llmclf[local]'") from error
    from .decoders import can_decode

    known = {int(kind): kind.name for kind in GGMLQuantizationType}
    tensors = []
    for name, shape, number, offset in described:
        type_name = known.get(number, f"number {number}")
        if not can_decode(type_name):
            raise ModelError(
                f"the tensor {name!r} of {str(path)!r} has the type {type_name}, which the installed gguf does not decode; run: "
                "pip install -U gguf, or give the model in another type (Q4_K_M, Q8_0), or serve it with llama.cpp and use "
                "openai:NAME"
            )
        block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
        tensor = StoredTensor(name, type_name, shape or (1,), start + offset, 0)
        if tensor.shape[-1] % block:
            raise ValueError(
                f"a row of {name!r} has {tensor.shape[-1]} numbers, and {type_name} stores {block} at a time"
            )
        tensors.append(StoredTensor(name, type_name, tensor.shape, tensor.offset, tensor.size // block * n_bytes))
    return tuple(tensors)
