"""Files to annotate, and back: CSV, JSON Lines, and what Label Studio and Argilla import and export.

Each form is an object with a name that makes a file of rows and finds the labels in one; ``forms`` registers it. What a label
may be, and which row it belongs to, is checked once for all forms, in ``reading``. The package may import ``tables``,
``numerics`` and what lies below them.
"""

from .forms import label_studio_config, write_annotation_file
from .reading import Annotations, read_annotations

__all__ = ["Annotations", "label_studio_config", "read_annotations", "write_annotation_file"]
