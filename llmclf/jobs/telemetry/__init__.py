"""A job seen from outside while it runs: events for a log, a heartbeat file, metrics, and a summary however it ends.

May import ``progress``, ``jobs.summary`` and what lies below them. Another way to be seen is one more module with an `Outlet`,
which ``jobs.telemetry.telemetry`` opens.
"""
