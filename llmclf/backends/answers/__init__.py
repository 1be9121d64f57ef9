"""Scores from what a model writes, for models that show no log-probabilities.

A route here asks for written answers and makes scores with bounds of them. It knows no server: whatever implements
``generates.GeneratesText`` can be asked. It may import the modules directly in ``backends``, ``prompts``, ``checks`` and
``errors``. Another way to ask is a module with a class of its own, registered in ``registry``.
"""
