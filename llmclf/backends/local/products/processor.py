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
    return has_packed_float32() and bool({"AVX512-BF16", "AMX"} & set(instructions()))


def instructions() -> list[str]:
    """The instruction sets of an x86 processor that matter for products, as far as PyTorch tells."""
    # Their names in torch.cpu; earlier versions of PyTorch have some of them.
    named = {
        "AVX2": "_is_avx2_supported",
        "AVX512": "_is_avx512_supported",
        "AVX512-BF16": "_is_avx512_bf16_supported",
        "AMX": "_is_amx_tile_supported",
    }
    return [name for name, asked in named.items() if getattr(torch.cpu, asked, bool)()]


def multiplies_bfloat16(device: str, dtype: str | None) -> bool:
    """Whether a model is to multiply in bfloat16 and to keep float32 for all else: on an x86 processor.

    Elsewhere a bfloat16 model is bfloat16 throughout.

    Raises
    ------
    InputError
        The processor does not multiply bfloat16; the error names what it lacks and what it has.
    """
    if dtype != "bfloat16" or device.partition(":")[0] != "cpu" or platform.machine() not in _X86:
        return False
    if not has_bfloat16():
        there = ", ".join(instructions()) or "neither"
        missing = "" if has_packed_float32() else ", and PyTorch packs no products here"
        raise InputError(
            f"dtype='bfloat16' needs a processor with AVX512-BF16 or AMX, and this one has {there}{missing}; use "
            "dtype='float32', which is faster and more exact here"
        )
    return True
