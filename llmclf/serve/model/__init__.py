"""The process that holds the models: what it is sent, how it answers, and who keeps it alive.

May import ``loading``, ``scoring`` and what lies below them, and of ``serve`` only ``questions``. Another way to answer goes into
``answering``.
"""
