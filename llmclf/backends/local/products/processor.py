"""What this processor multiplies fast, asked of the processor."""

from __future__ import annotations

import platform

import torch

from ....errors import InputError

_X86 = ("x86_64", "AMD64", "i386", "i686")


def has_packed_float32() -> bool:
    """Whether this build of PyTorch and this processor have the packed float32 product."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def has_bfloat16() -> bool:
    """Whether it multiplies bfloat16 by instructions of its own: AVX512-BF16 or AMX."""
    return has_packed_float32() and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_int8() -> bool:
    """Whether it adds up products of 8-bit integers without saturating: AVX512-VNNI or AMX, and a product shows it."""
    if not (has_packed_float32() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return False
    return (torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported()) and _sums_are_exact()


def _sums_are_exact() -> bool:
    """The largest products there are, whose sums of pairs do not fit into 16 bits."""
    from .int8 import Int8Linear

    layer = Int8Linear(torch.full((32, 64), 127.0))
    sums = layer(torch.full((16, 64), 127.0))
    return bool((sums == 64 * 127 * 127).all())


def instructions() -> list[str]:
    """The instruction sets of an x86 processor that matter for products, as far as PyTorch tells."""
    named = {
        "AVX2": torch.cpu._is_avx2_supported(),
        "AVX512": torch.cpu._is_avx512_supported(),
        "AVX512-VNNI": torch.cpu._is_vnni_supported(),
        "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    return [name for name, is_there in named.items() if is_there]


def product_dtype(device: str, dtype: str | None) -> str | None:
    """The type in which linear layers multiply, where it is another than that of the model: bfloat16 or int8, on x86 processors.

    Elsewhere a bfloat16 model is bfloat16 throughout.
    """
    if device.partition(":")[0] != "cpu":
        return None
    if dtype == "int8" or (dtype == "bfloat16" and platform.machine() in _X86):
        return dtype
    return None


def check_processor(device: str, dtype: str | None) -> None:
    """Refuse a type that the device does not multiply fast and right.

    Raises
    ------
    InputError
        It names what is missing and what is there.
    """
    if dtype == "int8" and device.partition(":")[0] != "cpu":
        raise InputError(f"dtype='int8' is for a CPU, and device={device!r}; use dtype='bfloat16' there")
    wanted = product_dtype(device, dtype)
    needs = {"bfloat16": ("AVX512-BF16 or AMX", has_bfloat16), "int8": ("AVX512-VNNI or AMX", has_int8)}
    if wanted in needs and not needs[wanted][1]():
        there = ", ".join(instructions()) if platform.machine() in _X86 else ""
        raise InputError(
            f"dtype={dtype!r} needs a processor with {needs[wanted][0]}, and this one ({platform.machine()}) has "
            f"{there or 'neither'}; use dtype='float32', which is faster and more exact here"
        )
