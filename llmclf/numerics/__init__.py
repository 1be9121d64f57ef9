"""Internal, on the ground floor: arrays of classes, folds and solvers that know nothing of labels, texts or models.

Imports `llmclf.errors` and `llmclf.logits` alone. A numerical method that two rooms need goes here.
"""
