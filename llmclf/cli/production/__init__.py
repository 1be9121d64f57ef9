"""Commands about a classifier in production: what it was certified for, and whether that still holds.

May import what ``cli`` may. Another command is a function in a module here, registered in ``cli``.
"""
