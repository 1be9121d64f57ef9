"""A model of transformers whose matrices stay in a GGUF file.

transformers says what each tensor of a file is called in its model, and what has to be done to it: nothing, or rows in another
order, say. That is found out by giving it numbered rows and columns in the place of the weights. A matrix whose rows come back in
some order can stay in the file; one that is turned over, taken apart or joined to others cannot, and the architecture is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..model_kinds import ModelKind
from .decoders import Bytes, block_size, decode
from .header import ArchitectureError, Header, StoredTensor
from .layers import FileEmbedding, FileLinear, FileMatrix, Workspace

_LARGEST_DECODED = 1 << 22
"""Numbers of a tensor that no layer multiplies with (a norm, a bias, a small convolution): it is decoded at the opening."""


class _Place(NamedTuple):
    """Where a tensor of the file goes in a model."""

    tensor: StoredTensor
    name: str
    module: Any
    parameter: Any

    @property
    def is_matrix(self) -> bool:
        """Whether it is what a layer looks up or multiplies with, and not a norm, a bias or a convolution."""
        is_layer = type(self.module) is torch.nn.Linear or isinstance(self.module, torch.nn.Embedding)
        return is_layer and self.name.endswith(".weight")


def file_model(header: Header, dtype: torch.dtype, products: torch.dtype, kind: ModelKind, source: str) -> Any:
    """The model of a file, whose matrices stay there.

    Parameters
    ----------
    header : Header
    dtype, products : torch.dtype
        In which it computes, and in which its linear layers multiply.
    kind : ModelKind
    source : str
        How to name the file.

    Raises
    ------
    ArchitectureError
        Its matrices cannot stay in the file.
    ModelError
        It is not a model of the kind, or the file lacks weights of it.
    """
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, load_gguf_checkpoint

    described = load_gguf_checkpoint(str(header.path), return_tensors=False)["config"]
    model = _without_weights(described, dtype, kind, source)
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=described)
    data = np.memmap(header.path, mode="r")
    workspace = Workspace()
    matrices: dict[int, FileMatrix] = {}
    values: dict[int, torch.Tensor] = {}
    mismatched = []
    for place in _places(model, header, processor, source):
        rows = _stored(data, place.tensor)
        if place.is_matrix:
            order = _row_order(processor, place.tensor, header, source)
            matrix = FileMatrix(rows, place.tensor.type_name, place.tensor.shape[-1], order)
            matrices[id(place.parameter)] = matrix
            shape: tuple[int, ...] = (matrix.n_rows, matrix.n_columns)
        else:
            numbers = decode(rows, place.tensor.type_name).reshape(place.tensor.shape)
            numbers = _processed(processor, place.tensor, numbers, header, source)
            values[id(place.parameter)] = torch.from_numpy(np.ascontiguousarray(numbers)).to(dtype)
            shape = numbers.shape
        if shape != tuple(place.parameter.shape):
            mismatched.append((place.name, shape, tuple(place.parameter.shape)))
    missing = {name for name, one in model.named_parameters() if id(one) not in {*matrices, *values}}
    # Two layers that share a matrix (embedding and output) have one parameter, so both find it here.
    for name, module in list(model.named_modules()):
        _fill(model, name, module, matrices, values, (dtype, products), workspace)
    kind.check_weights(model, {"mismatched_keys": mismatched, "missing_keys": missing, "unexpected_keys": ()}, source)
    return model.eval()


def _without_weights(described: dict[str, Any], dtype: torch.dtype, kind: ModelKind, source: str) -> Any:
    """The model of a configuration, whose parameters have shapes and no values."""
    import transformers
    from accelerate import init_empty_weights
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[described["model_type"]].from_dict(dict(described))
    kind.check_config(json.loads(config.to_json_string()), source)
    with init_empty_weights(include_buffers=False):
        model = getattr(transformers, kind.auto_class).from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    return model


def _places(model: Any, header: Header, processor: Any, source: str) -> Iterator[_Place]:
    """Of each tensor that transformers reads, where it goes; what it passes over is passed over here."""
    from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

    names = get_gguf_hf_weights_map(model, processor)
    for tensor in header.tensors:
        name = names.get(tensor.name)
        if name is None:
            continue
        owner, _, parameter_name = name.rpartition(".")
        try:
            module = model.get_submodule(owner)
            place = _Place(tensor, name, module, module.get_parameter(parameter_name))
        except AttributeError:
            raise _unsuitable(header, tensor, source) from None
        if not place.is_matrix and tensor.size > _LARGEST_DECODED:
            raise _unsuitable(header, tensor, source)
        yield place


def _fill(
    model: Any,
    name: str,
    module: Any,
    matrices: dict[int, FileMatrix],
    values: dict[int, torch.Tensor],
    dtypes: tuple[torch.dtype, torch.dtype],
    workspace: Workspace,
) -> None:
    """Give a module its values, or put the layer in its place that reads them from the file."""
    own = {name: id(parameter) for name, parameter in module.named_parameters(recurse=False)}
    matrix = matrices.get(own.get("weight", 0))
    if matrix is None:
        for parameter_name, key in own.items():
            if key in values:
                module.register_parameter(parameter_name, torch.nn.Parameter(values[key], requires_grad=False))
    elif isinstance(module, torch.nn.Embedding):
        model.set_submodule(name, FileEmbedding(matrix, module, dtypes[0]))
    else:
        bias = values.get(own.get("bias", 0))
        model.set_submodule(name, FileLinear(matrix, bias, dtypes[1], workspace))


def _stored(data: Bytes, tensor: StoredTensor) -> Bytes:
    """A tensor's rows, (n, bytes of a row), as they stand in the file."""
    block, n_bytes = block_size(tensor.type_name)
    raw = data[tensor.offset : tensor.offset + tensor.n_bytes]
    return np.asarray(raw).reshape(-1, tensor.shape[-1] // block * n_bytes)


def _row_order(processor: Any, tensor: StoredTensor, header: Header, source: str) -> NDArray[np.int64] | None:
    """Which row of the file each row of the model's matrix is; None where each is its own."""
    if len(tensor.shape) != 2:
        raise _unsuitable(header, tensor, source)
    n_rows, n_columns = tensor.shape
    rows = np.broadcast_to(np.arange(n_rows, dtype=np.float32)[:, None], tensor.shape)
    moved = _processed(processor, tensor, rows, header, source)
    if moved is rows:
        return None
    columns = np.broadcast_to(np.arange(n_columns, dtype=np.float32), tensor.shape)
    kept = _processed(processor, tensor, columns, header, source)
    if moved.shape != rows.shape or kept.shape != rows.shape:
        raise _unsuitable(header, tensor, source)
    order = moved[:, 0].astype(np.int64)
    is_order = np.array_equal(np.sort(order), np.arange(n_rows))
    if not is_order or (moved != order[:, None]).any() or (kept != columns).any():
        raise _unsuitable(header, tensor, source)
    return order


def _processed(
    processor: Any, tensor: StoredTensor, numbers: NDArray[Any], header: Header, source: str
) -> NDArray[Any]:
    """A tensor as transformers changes it."""
    elsewhere: dict[str, dict[str, Any]] = {"tensors": {}}
    try:
        result = processor.process(
            weights=numbers, name=tensor.name, tensor_key_mapping={}, parsed_parameters=elsewhere
        )
    except (ValueError, KeyError, IndexError) as error:
        raise _unsuitable(header, tensor, source) from error
    if result.name != tensor.name or elsewhere["tensors"]:  # put away in pieces, or into another tensor
        raise _unsuitable(header, tensor, source)
    changed: NDArray[Any] = result.weights
    return changed


def _unsuitable(header: Header, tensor: StoredTensor, source: str) -> ArchitectureError:
    return ArchitectureError(
        f"memory='file' cannot be used with {source}: in the architecture {header.architecture!r} a tensor ({tensor.name!r}) is "
        "not used as it stands in the file; give memory='decoded', which makes all of the weights once"
    )
