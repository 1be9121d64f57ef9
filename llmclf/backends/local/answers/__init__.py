"""A local model that is asked by what it writes, as models without log-probabilities are.

May import whatever `llmclf.backends.local` may, that package, and ``backends.answers``. Another thing that a local model is asked
for in words goes into a module of its own.
"""
