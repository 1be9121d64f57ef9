"""Commands for a classifier in use: serving it, certifying it, and watching whether that still holds.

May import what the commands may. Another command that is about a classifier in use, and not about a table or a job, goes into a
module here and is registered beside the others in ``llmclf.cli``.
"""
