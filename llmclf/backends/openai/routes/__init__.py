"""Internal: the ways to a label's log-probability on a server, one module and one class each.

May import ``backends.wires``, ``backends.answers``, ``backends.http``, ``backends.tokens``, ``backends.base``,
``backends.identity``, and beside them the probe. To add a route, write a `base.TokenRoute` or `base.TextRoute` in a module of its
own and add it to the list in `registry`: probe, estimates, limits, jobs and messages then know it.
"""

from .registry import RouteReport, Routes, check_name, register, route_names, unregister

__all__ = ["RouteReport", "Routes", "check_name", "register", "route_names", "unregister"]
