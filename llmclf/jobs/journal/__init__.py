"""Internal: what a job knows on disk: the journal of answers, and the plan of what is left to ask.

May import ``backends``, ``scoring`` and ``jobs.questions``, but no other part of ``jobs``. Whatever a run must know after a
crash goes into ``journal``, and what can be made anew from the table into ``plan``. A change of format raises the version in
``stored``. What is done with a finished or damaged journal has a module each: ``inspection``, ``exporting``, ``salvaging``,
``merging``.
"""
