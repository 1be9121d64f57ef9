"""The products of a model's linear layers, packed for this processor, in float32 or bfloat16; and attention by such products.

May import ``errors`` and ``backends.local.plain_calls`` (which says where nothing may be rounded). Another type of
product is one more module here.
"""

from .packing import pack_linear_layers, unplain_layers
from .processor import multiplies_bfloat16

__all__ = ["multiplies_bfloat16", "pack_linear_layers", "unplain_layers"]
