"""Internal, in the lowest layer: arrays of classes, folds and solvers, independent of labels, texts and models.

It imports only `llmclf.arrays` and `llmclf.logits`. A numerical method that several packages need goes here.
"""
