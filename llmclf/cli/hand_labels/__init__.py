"""Labels by hand beside a model's: `llmclf next-rows` and `llmclf estimate-share`, and what other commands read of such labels.

May import what ``cli`` may, and its ``options`` and ``console``. Another way in which labels come back is one more option in
``flags`` and one more wave in ``reading``.
"""
