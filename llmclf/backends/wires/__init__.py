"""The protocols in which servers are asked to write, and how what they wrote is read, one module each.

A wire makes the body of a request and reads the reply: texts, why each ended, and log-probabilities where the protocol has any.
It may import ``answers.generates``, ``http``, ``providers``, ``prompts`` and ``errors``, and knows no route. Another protocol is
a `base.Wire` in a module of its own, with a line in ``registry`` and an entry that names it in ``providers.table``.
"""
