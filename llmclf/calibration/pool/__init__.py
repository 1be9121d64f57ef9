"""Pools: members that learn from labelled rows, judged on rows that they have not seen, and weighted.

``members`` are maps of label scores and heads on features, ``cross_fits`` judges them, ``pooled`` is what pools share. Another
member is a subclass of ``members.Member``. The package may import calibrators that are no pools, ``metrics``, ``numerics`` and
what lies below them.
"""
