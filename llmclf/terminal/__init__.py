"""Texts on their way to a terminal or a log: what cannot be seen there, and could steer it, is written out.

May import nothing of llmclf. Another place where text leaves asks `visible.visible`, or prints on a console of ``consoles``;
another character that must not pass goes into ``visible``.
"""
