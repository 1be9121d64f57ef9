"""What clients say and hear: each protocol reads a body into questions, and writes answers and refusals in its own form.

May import ``served``, ``questions``, ``refusals`` and ``limits`` of ``serve``, nothing that listens. Another protocol goes into
a module here, with the methods of ``base.WireProtocol``.
"""
