"""Internal: what a fit learns from training rows, and how a fitted pipeline is judged honestly afterwards.

May import ``pipeline``, ``report`` (``evaluation`` alone does, so that a fit does not load it) and what lies below.
``classifier`` alone imports it. Another thing that a fit learns is one more module here.
"""
