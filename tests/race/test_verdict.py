"""The verdict: what it says of losses that are what they are, and how often it says what is not so."""

from __future__ import annotations

import numpy as np
import pytest
from race.worlds import labelled

from llmclf.race import verdict as verdict_module
from llmclf.race.contest import Contest, Judged
from llmclf.race.verdict import Verdict, plain, verdict

NAMES = ("class frequencies", "text alone", "states alone", "label words, raw", "label words, calibrated", "pool")


def contest(
    n: int = 100, *, spread: float = 0.1, seed: int = 0, before: float = 0.0, groups=None, **losses: float
) -> Contest:
    """A contest whose contestants have these mean losses (else 0.7), which vary by row; `before`: how much more they were."""
    rng = np.random.default_rng(seed)
    rows = labelled(n, groups=groups)
    common = 0.3 * rng.random(n)
    held = Contest(rows, [50, 80], [1, 1])
    means = {"class frequencies": 0.7, **dict.fromkeys(NAMES[1:], 0.7)}
    means |= {
        "text alone": losses.get("text", 0.7),
        "states alone": losses.get("states", 0.7),
        "pool": losses.get("pool", 0.7),
    }

    def judged(mean: float) -> Judged:
        own = spread * rng.normal(size=n)
        return Judged(
            np.abs(mean + common - common.mean() + own - own.mean()), (rng.random(n) < np.exp(-mean)).astype(float)
        )

    held.judged = [
        {name: judged(means[name] + before) for name in NAMES},
        {name: judged(means[name]) for name in NAMES},
    ]
    return held


def said(held: Contest, without=("text alone",), **options) -> Verdict:
    found = verdict(held, without, **{"margin": 0.02, "confidence": 0.95, **options})
    assert plain(found)["text"] == found.text
    return found


def codes(*arguments, **options) -> tuple[str, str, str]:
    found = said(*arguments, **options)
    return found.use, found.language_model.code, found.more_labels.code


class TestStatements:
    @pytest.fixture(autouse=True)
    def fewer_resamples(self, monkeypatch):
        """None of these is a close decision."""
        monkeypatch.setattr(verdict_module, "_RESAMPLES", 1000)

    def test_the_pool_is_worth_a_model(self):
        """Beyond noise, and the sentence gives the difference."""
        found = said(contest(pool=0.3, text=0.5, spread=0.05))
        assert (found.use, found.language_model.code) == ("pool", "needed")
        assert found.text.startswith("Use the pool (log loss 0.300")

    def test_text_alone_is_as_good(self):
        """Only where a difference of the margin is ruled out."""
        found = said(contest(pool=0.3, text=0.3, spread=0.005))
        assert (found.use, found.language_model.code) == ("text alone", "not needed")
        assert found.text.startswith("Text alone is as good here: you need no language model.")

    def test_rows_that_cannot_tell(self):
        """The same means with more noise: neither is said."""
        found = said(contest(pool=0.3, text=0.3, spread=0.3))
        assert (found.use, found.language_model.code) == ("pool", "open")
        assert "these 100 rows cannot tell" in found.text

    def test_the_margin_is_the_callers(self):
        """Who would give a tenth is told sooner."""
        held = contest(pool=0.3, text=0.305, spread=0.02)
        assert codes(held)[1] == "open"
        assert codes(held, margin=0.2)[1] == "not needed"

    def test_a_single_contestant_beats_the_pool(self):
        """Then it is the one to use."""
        assert codes(contest(pool=0.5, states=0.3, text=0.6))[:2] == ("states alone", "needed")
        assert codes(contest(pool=0.5, text=0.3))[:2] == ("text alone", "not needed")

    def test_nothing_is_learned(self):
        """Not better than the frequencies."""
        assert codes(contest(spread=0.05))[:2] == ("class frequencies", "nothing learned")

    def test_nothing_that_needs_no_model(self):
        """Without text alone nobody knows whether a model is needed."""
        assert codes(contest(pool=0.3, text=0.3), without=())[:2] == ("pool", "open")

    @pytest.mark.parametrize(
        ("before", "spread", "code"),
        [(0.2, 0.1, "falls"), (0.0, 0.002, "flat"), (0.003, 0.002, "flat"), (0.0, 0.3, "open")],
    )
    def test_more_labels(self, before, spread, code):
        """The curve falls, is flat within the margin, or nobody can tell."""
        assert codes(contest(pool=0.4, text=0.6, before=before, spread=spread))[2] == code

    @pytest.mark.parametrize(("n", "more"), [(24, 20), (60, 20), (150, 50), (250, 100), (2000, 1000)])
    def test_how_many_more(self, n, more):
        """About half as many again, a round number."""
        held = contest(n, pool=0.4, text=0.6, before=0.3, spread=0.02)
        assert f"Label {more:,} more" in said(held).text

    def test_no_curve(self):
        """With one size there is none."""
        held = contest(pool=0.3)
        held.sizes, held.draws, held.judged = held.sizes[-1:], held.draws[-1:], held.judged[-1:]
        assert "no learning curve yet" in said(held).text

    def test_rows_of_few_groups_say_nothing(self):
        """Eight authors do not tell, however many rows they wrote."""
        held = contest(120, pool=0.3, text=0.5, groups=np.arange(120) % 8)
        assert codes(held)[1] in ("nothing learned", "open")


@pytest.mark.slow
class TestLevel:
    """In 40 draws each, at most five false statements: more happen by chance in less than 1 in 50 where 1 in 20 is allowed."""

    def test_equal_contestants_are_not_told_apart(self):
        """All are as good as the frequencies: nothing is said to be better."""
        found = [codes(contest(60, spread=0.4, seed=seed))[1] for seed in range(40)]
        assert sum(code != "nothing learned" for code in found) <= 5

    def test_what_is_worse_by_the_margin_is_not_as_good(self):
        """At the margin itself, "as good" is false."""
        held = (contest(60, pool=0.3, text=0.306, spread=0.02, seed=seed) for seed in range(40))
        n_false = 0
        for seed, one in enumerate(held):
            noise = 0.03 * np.random.default_rng(seed).normal(size=60)
            one.judged[-1]["text alone"] = Judged(
                one.judged[-1]["pool"].losses + 0.006 + noise, one.judged[-1]["pool"].right
            )
            n_false += codes(one)[1] == "not needed"
        assert n_false <= 5
