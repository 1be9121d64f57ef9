"""Serving: saved classifiers and a model behind HTTP, for the clients that speak System One or OpenAI Decisions already.

Internal but for the command `llmclf serve`. Two processes share the work: this one listens, checks and gathers; that of ``model``
holds the models and answers. May import ``monitoring``, ``loading`` and what lies below; starlette, uvicorn and prometheus_client
are imported where they are used. Another protocol is a module in ``protocols``, and another route a line in ``application``.
"""
