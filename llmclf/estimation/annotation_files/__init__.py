"""Files to annotate, and back: CSV, JSON Lines, and what Label Studio and Argilla import and export.

The form of another platform is a function in ``platforms`` that makes its file of rows and one that finds the labels in what it
exports; both are registered, in ``forms`` and ``reading``. What a label may be, and which row it belongs to, is checked once for
all forms. The package may import ``tables``, ``numerics`` and what lies below them.
"""

from .forms import label_studio_config, write_annotation_file
from .reading import Annotations, read_annotations

__all__ = ["Annotations", "label_studio_config", "read_annotations", "write_annotation_file"]
