"""Internal: what a job knows on disk: the journal of answers, and the plan of what is left to ask.

Imports no other part of ``jobs`` but its questions. A change of format raises the version in the module that writes it.
"""
