"""What are scores from written answers worth, beside log-probabilities, and do adaptive draws save requests?

1. Simulated models with a known distribution for each row, asked by the routes themselves: log loss and calibration error on rows
   that were not fitted, after 50, 100 and 300 labels, with the requests for a row. A model's stated shares have an error of their
   own, and are rounded to 5 %; "biased" ones favour one label, "over-confident" ones are sharpened.
2. The same for fixed numbers of draws: how many does a fixed number need for the log loss of the adaptive rule, and how many to
   find the model's own best label as often?
3. SmolLM2 on real sets, continued in plain text: answers drawn beside exact scores. Left out without LLMCLF_DATA.

Writes without_logprobs.md beside itself.

    python experiments/without_logprobs.py [--repeats 4] [--rows 700] [--real-rows 100]
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from llmclf import LLMClassifier, Prompt, open_backend
from llmclf.backends.answers.base import one_by_one
from llmclf.backends.answers.generates import GeneratedText, GenerationRequest
from llmclf.backends.answers.label_codes import codes
from llmclf.backends.answers.options import AnswerSettings
from llmclf.backends.answers.question import Question
from llmclf.backends.answers.registry import answer_route
from llmclf.backends.requests import Request
from llmclf.calibration import make_calibrator
from llmclf.cards import load_card
from llmclf.logits import log_softmax, softmax
from llmclf.metrics import expected_calibration_error

HERE = Path(__file__).resolve().parent
LABELLED = (50, 100, 300)
FIXED = (3, 4, 5, 6, 8, 10, 12, 15, 20, 30)
SHOWN = (3, 5, 10, 20)
LOSS, AGREEMENT = 4, 6  # where log loss after 300 labels, and the share of rows with the model's own best label, stand
STATED_ERROR = 0.7  # nats of the noise in a model's stated shares, beside what it would answer
NO_DOUBT = 12.0  # nats by which the true label's logit is larger in rows without doubt
BIAS = 1.5  # nats by which biased shares favour the first label
SHARPENED = 2.5  # power of over-confident shares
DATA_SETS = ("sst2", "agnews", "trec")
DRAWS = (3, 10, 30)
N_SHOTS_FROM = 40  # rows that the shots are drawn from
LONGEST_ANSWER = 8  # tokens
_ABOUT = f"""Simulated models, {{repeats}} worlds of {{rows}} test rows each; log loss in nats on rows that were not fitted, with
the calibrator `bias_temperature`. Exact scores are the simulated model's own log-probabilities, and draws are drawn from them.
Stated shares differ from them by noise of {STATED_ERROR} nats, and are rounded to 5 %; biased ones favour one label by {BIAS}
nats, over-confident ones are raised to the power {SHARPENED}. Adaptive rules draw {{first}} answers first. Written by
`without_logprobs.py`."""


@dataclass(frozen=True)
class World:
    """Rows whose true class is drawn, and a model whose distribution leans to it."""

    name: str
    n_labels: int
    lean: float  # nats by which the true label's logit is larger
    spread: float  # standard deviation of the logits
    scale: float  # by which the model is over-confident
    clear: float = 0.0  # share of the rows that leave the model no doubt


WORLDS = (
    World("2 labels, clear", 2, 5.0, 2.0, 1.5),
    World("2 labels, hard", 2, 1.5, 1.5, 1.5),
    World("4 labels", 4, 3.0, 1.5, 1.5),
    World("8 labels", 8, 3.5, 1.5, 1.5),
    World("2 labels, no doubt or much", 2, 0.2, 0.5, 1.0, clear=0.8),
)


class SimulatedModel:
    """Answers by a known distribution; see `llmclf.backends.answers.generates.GeneratesText`.

    Parameters
    ----------
    logp, stated : arrays (n, K)
        Logs of the probabilities that it draws from, and of those that it states.
    """

    takes_schema = takes_grammar = takes_n = False
    takes_seed = True

    def __init__(self, logp: np.ndarray, stated: np.ndarray, step: float) -> None:
        self._p, self._stated, self._step = np.exp(logp), np.exp(stated), step
        self.n_requests = 0

    async def generate(self, request: GenerationRequest) -> list[GeneratedText]:
        self.n_requests += 1
        row = int(request.turns[0].text.partition("\n")[0].removeprefix("row "))
        if request.temperature == 0.0:
            text = request.turns[-1].text
            named = dict(line.split(": label ") for line in text.splitlines() if ": label " in line)
            order = [int(named[code]) for code in codes(len(named))]
            percent = _rounded(100.0 * self._stated[row, order], self._step)
            return [GeneratedText("\n".join(f"{code}: {x:g}" for code, x in zip(named, percent, strict=True)))]
        place = int(np.random.default_rng([request.seed or 0, row]).choice(self._p.shape[1], p=self._p[row]))
        return [GeneratedText(f"label {place}")]


def _rounded(percent: np.ndarray, step: float) -> np.ndarray:
    """To whole steps, the largest remainders up, so that the sum stays 100."""
    units = np.floor(percent / step)
    missing = round(100.0 / step - units.sum())
    units[np.argsort(units - percent / step)[:missing]] += 1
    return units * step


def drawn_world(world: World, seed: int, n: int):
    """True classes, the model's log-probabilities, and what it states of them by three laws."""
    rng = np.random.default_rng([seed, world.n_labels, int(10 * world.lean)])
    y = rng.integers(world.n_labels, size=n)
    logits = rng.normal(size=(n, world.n_labels)) * world.spread
    logits[np.arange(n), y] += np.where(rng.random(n) < world.clear, NO_DOUBT, world.lean)
    if not world.clear:
        logits += rng.normal(size=world.n_labels)  # the model's own preferences
    logp = log_softmax(world.scale * logits)
    stated = log_softmax(logp + STATED_ERROR * rng.normal(size=logp.shape))
    biased = stated + BIAS * (np.arange(world.n_labels) == 0)
    return (
        y,
        logp,
        {"rounded": stated, "biased": log_softmax(biased), "over-confident": log_softmax(SHARPENED * stated)},
    )


def route_scores(route: str, settings: AnswerSettings, logp, stated) -> tuple[np.ndarray, float]:
    """Scores (n, K) of all rows by a route, and its requests for a row."""
    n, k = logp.shape
    model, way = SimulatedModel(logp, stated, 5.0), answer_route(route, settings)
    words = [f"label {i}" for i in range(k)]
    renderer = Prompt("{{ text }}", instruction=None, chat=True).renderer(words)
    scores = np.empty((n, k))
    for row in range(n):
        request = Request(renderer.render({"text": f"row {row}"}), tuple(words))
        work = way.score(Question.of(request, settings.seed), model, one_by_one)
        try:
            work.send(None)
        except StopIteration as end:
            scores[row] = end.value.sums
    return scores, model.n_requests / n


def loss(logp, y):
    return float(-logp[np.arange(len(y)), y].mean())


def judged(scores, logp, y, n_test):
    """Log loss raw and after each number of labels, the calibration error after the largest, and how often the best is found."""
    test, truth, k = scores[-n_test:], y[-n_test:], scores.shape[1]
    found_best = (test.argmax(axis=1) == logp[-n_test:].argmax(axis=1)).mean()
    found = [loss(log_softmax(test), truth)]
    for n in LABELLED:
        calibrator = make_calibrator("bias_temperature").fit(scores[:n], y[:n], classes=range(k))
        calibrated = calibrator.predict_log_proba(test)
        found.append(loss(calibrated, truth))
    error = expected_calibration_error(truth, softmax(calibrated), classes=range(k))
    return np.array([*found, error, found_best])


def simulate(world: World, repeats: int, n_test: int):
    """For each way to scores: requests for a row, and what `judged` says, means over repeats."""
    sums: dict[str, np.ndarray] = {}
    for seed in range(repeats):
        y, logp, stated = drawn_world(world, seed, max(LABELLED) + n_test)
        adaptive = AnswerSettings(seed=seed)
        found = {"exact": (logp, 1.0)}
        for n in FIXED:
            fixed = replace(adaptive, n_samples=n, max_samples=n)
            found[f"sampled, {n} draws"] = route_scores("sampled", fixed, logp, logp)
        for most in (20, 30):
            settings = replace(adaptive, max_samples=most)
            found[f"sampled, adaptive up to {most}"] = route_scores("sampled", settings, logp, logp)
        for name, shares in stated.items():
            found[f"verbalized, {name}"] = route_scores("verbalized", adaptive, logp, shares)
        for name in ("rounded", "over-confident"):
            few = replace(adaptive, max_samples=adaptive.n_samples)
            found[f"mixed, {name}, {few.n_samples} draws"] = route_scores("mixed", few, logp, stated[name])
        found["mixed, rounded, adaptive up to 20"] = route_scores("mixed", adaptive, logp, stated["rounded"])
        for name, (scores, cost) in found.items():
            values = np.array([cost, *judged(scores, logp, y, n_test)])
            sums[name] = sums.get(name, 0.0) + values / repeats
    return sums


def equal_draws(sums, name, place):
    """The fixed number of draws that has the loss of an adaptive rule; the largest where it needs more."""
    sign = -1.0 if place == AGREEMENT else 1.0
    losses = np.minimum.accumulate([sign * sums[f"sampled, {n} draws"][place] for n in FIXED])
    target = sign * sums[name][place]
    if target <= losses[-1]:
        return float(FIXED[-1])
    # Between two numbers, the loss is about linear in one over the number.
    return float(1.0 / np.interp(target, losses[::-1], 1.0 / np.array(FIXED[::-1], dtype=float)))


def real(name: str, n: int):
    """Rows of one table: scores of SmolLM2, exact and by draws, on one real set."""
    card = load_card(name)
    train, test = card.load("train", n=n + N_SHOTS_FROM), card.load("test", n=n)
    shown, texts = train["text"].tolist()[:N_SHOTS_FROM], [*train["text"][N_SHOTS_FROM:], *test["text"]]
    labels = [*train["label"][N_SHOTS_FROM:], *test["label"]]
    options = {"labels": card.labels, "prompt": card.prompt_template, "n_shots": 4, "random_state": 0}
    lines = []
    for draws in (None, *DRAWS):
        chosen = (
            {} if draws is None else {"n_samples": draws, "max_samples": draws, "max_answer_tokens": LONGEST_ANSWER}
        )
        backend = open_backend("smollm2", **({"use_route": "sampled", **chosen} if chosen else {}))
        clf = LLMClassifier(backend, on_error="missing", **options).fit(shown, train["label"].tolist()[:N_SHOTS_FROM])
        column = {label: k for k, label in enumerate(clf.classes_.tolist())}
        y = np.array([column[label] for label in labels])
        began = time.perf_counter()
        scores = clf.score_labels(texts)
        seconds = (time.perf_counter() - began) / len(texts)
        answered = np.isfinite(scores).all(axis=1)
        scores[~answered] = 0.0  # a row without an answer counts as one of which nothing is known
        fit = make_calibrator("bias_temperature").fit(scores[:n], y[:n], classes=range(len(column)))
        after = fit.predict_log_proba(scores[n:])
        right = (after.argmax(axis=1) == y[n:]).mean()
        lines.append(
            f"| {name} | {'exact' if draws is None else f'{draws} draws'} | {answered.mean():.3f} | "
            f"{loss(log_softmax(scores[n:]), y[n:]):.3f} | {loss(after, y[n:]):.3f} | {right:.3f} | {seconds:.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rows", type=int, default=700)
    parser.add_argument("--real-rows", type=int, default=100)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    defaults = AnswerSettings()
    lines = [
        "# Scores from written answers",
        "",
        _ABOUT.format(repeats=args.repeats, rows=args.rows, first=defaults.n_samples),
    ]
    head = (
        "| route | requests a row | raw | "
        + " | ".join(f"{n} labels" for n in LABELLED)
        + " | calibration error | best label found |"
    )
    equal = []
    for world in WORLDS:
        sums = simulate(world, args.repeats, args.rows)
        lines += ["", f"## {world.name}", "", head, "|---|--:|--:|" + "--:|" * (len(LABELLED) + 2)]
        for name, values in sums.items():
            if name.startswith("sampled, ") and name.endswith(" draws") and int(name.split()[1]) not in SHOWN:
                continue
            cells = [f"{values[0]:.1f}", *(f"{value:.3f}" for value in values[1:])]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        print("\n".join(lines[-20:]), flush=True)
        for name in (one for one in sums if one.startswith("sampled, adaptive")):
            cost, cells = sums[name][0], []
            for place in (LOSS, AGREEMENT):
                n = equal_draws(sums, name, place)
                more = " or more" if n == FIXED[-1] else ""
                cells += [f"{sums[name][place]:.3f}", f"{n:.1f}{more}", f"{cost / n:.2f}"]
            equal.append(f"| {world.name} | {name} | {cost:.1f} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Adaptive draws and a fixed number",
        "",
        "The fixed number of draws that has the same log loss after 300 labels, and the one that finds the model's own best "
        f"label as often, between the numbers {', '.join(map(str, FIXED))}; each with the draws of the rule divided by it.",
        "",
        "| world | rule | draws a row | log loss | fixed number | share | best label found | fixed number | share |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
        *equal,
    ]
    print("\n".join(equal), flush=True)
    page = HERE / "without_logprobs.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")  # the rest takes longer
    if os.environ.get("LLMCLF_DATA") and args.real_rows:
        lines += [
            "",
            "## SmolLM2 on real sets",
            "",
            f"SmolLM2-135M continues a prompt in plain text with four shots; {args.real_rows} rows calibrate, and as many others "
            "are judged. A row without an answer that is a label counts as one of which nothing is known.",
            "",
            "| set | scores | rows answered | log loss, raw | calibrated | accuracy, calibrated | seconds a row |",
            "|---|---|--:|--:|--:|--:|--:|",
        ]
        for name in DATA_SETS:
            lines += real(name, args.real_rows)
            page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
