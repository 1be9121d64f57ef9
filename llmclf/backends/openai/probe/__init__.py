"""Internal: a few tiny requests that find out what a server really does; its documentation and its silence do not tell.

Servers ignore parameters that they do not know. One that ignores ``echo`` answers with a single generated token, so that every
label would get an empty sum of 0; another's echo is off by one. So a known text is asked for in several ways, and the answers
must agree. May import ``backends.http``, ``backends.wires``, ``backends.answers`` and ``backends.providers``.
"""

from .facts import Probe
from .probing import probe

__all__ = ["Probe", "probe"]
