"""Internal: what a fit learns from training rows, and how a fitted classifier is judged honestly afterwards.

May import ``report``, ``scoring``, ``calibration`` and what lies below; ``classifier`` alone imports it. Another thing that a fit
learns is one more module here.
"""
