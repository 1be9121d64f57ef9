"""The products of a model's linear layers, by what this processor is quickest at: float32, bfloat16 or int8.

May import ``errors`` and ``backends.local.plain_calls`` (which says where nothing may be rounded). Another kind of product is one
more module here, and a line in `pack_linear_layers`.
"""

from .packing import pack_linear_layers, unplain_layers
from .processor import check_processor, product_dtype

__all__ = ["check_processor", "pack_linear_layers", "product_dtype", "unplain_layers"]
