"""Internal: arrays of classes, folds and solvers, independent of labels, texts and models.

May import ``logits``, ``arrays``, ``checks`` and ``errors`` alone. A numerical method that several packages need goes here.
"""
