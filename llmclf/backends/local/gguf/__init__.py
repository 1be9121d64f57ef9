"""GGUF files whose matrices stay in the file: mapped into memory, and decoded when a pass needs them.

May import ``checkpoint``, ``model_folder`` and ``model_kinds`` of ``local``, and of the rest what ``local`` itself may; nothing
here imports ``weights`` or ``loaded_model``. ``header`` says what a file holds, ``decoders`` turn blocks into numbers, ``layers``
multiply with them, ``file_model`` puts them into a model of transformers, and ``sizes`` compares a file with the memory. Another
type of quantisation is one more function in ``decoders``; those without one are left to the package gguf.
"""
