"""Internal: one HTTP server, with limits, retries, counts and checks of every reply; it does not handle labels.

May import ``errors``, ``checks`` and the modules directly in ``backends``, and none of its packages. What every kind of
server needs goes here; what one protocol needs goes into that protocol's package.
"""
