"""The cases of throughput.py: data sets with their prompts and labels, and how many rows of each every contender scores."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmclf.backends import Request
from llmclf.cards import load_card
from llmclf.prompts.prompt import Prompt
from llmclf.prompts.rendered import RenderedPrompt, Span, Turn

# Rows per run, so that a run takes 10 to 30 seconds on two cores; a contender that is not named scores no rows of the case.
# `checked` rows are compared with the reference, which needs a forward pass per label.
ROWS = {
    "a": {"llmclf": 512, "pairs": 32, "cappr": 64, "lm-eval": 64, "llama": 96, "grammar": 24, "vllm": 24, "checked": 3},
    "b": {"llmclf": 384, "pairs": 8, "cappr": 48, "lm-eval": 8, "llama": 64, "grammar": 8, "vllm": 8, "checked": 3},
    "c": {"llmclf": 16, "pairs": 3, "cappr": 12, "lm-eval": 3, "llama": 8, "grammar": 1, "vllm": 2, "checked": 3},
    "c2": {"llmclf": 16, "pairs": 1, "cappr": 6, "lm-eval": 1, "llama": 6, "grammar": 1, "vllm": 1, "checked": 1},
    "d": {"llmclf": 16, "pairs": 6, "cappr": 12, "lm-eval": 12, "llama": 12, "grammar": 6, "vllm": 6, "checked": 3},
    "e": {"llmclf": 4, "checked": 1},
}
CAPPR_BATCH = {"a": 16, "b": 8, "c": 2, "c2": 2, "d": 4}  # prompts at a time
MOST_CHECKED = 100  # labels of a row that are compared with the reference
N_TAXONOMY, TAXONOMY_TOKENS = 2000, range(3, 7)

# Of a shop: departments with ten groups each, which come in these kinds.
DEPARTMENTS = {
    "Garden": "Tools Pots Seeds Hoses Lights Fences Sheds Grills Ponds Benches",
    "Kitchen": "Knives Pans Bowls Ovens Mixers Scales Plates Cups Racks Towels",
    "Sports": "Tennis Golf Running Cycling Boxing Hockey Skiing Rowing Climbing Yoga",
    "Office": "Desks Chairs Paper Pens Printers Lamps Files Boards Stamps Labels",
    "Music": "Guitars Drums Pianos Violins Flutes Amps Cables Stands Horns Books",
    "Baby": "Beds Bottles Toys Seats Blankets Monitors Diapers Baths Shoes Books",
    "Pets": "Dogs Cats Birds Fish Horses Rabbits Mice Snakes Bees Goats",
    "Home": "Sofas Beds Tables Carpets Curtains Mirrors Clocks Shelves Lamps Doors",
    "Travel": "Bags Maps Tents Boots Hats Locks Wallets Pillows Adapters Books",
    "Health": "Vitamins Creams Masks Scales Lenses Bandages Soaps Oils Brushes Teas",
}
KINDS = "new used large small cheap fine red blue green black white light heavy soft hard"

TREC_WORDS = {
    "abbreviation": "the meaning of an abbreviation",
    "description": "a description of something",
    "entity": "an entity or a thing",
    "human": "a person or a group",
    "location": "a place or a location",
    "number": "a number or a quantity",
}

Spans = list[list[tuple[str, bool]]]


@dataclass(frozen=True)
class Task:
    """One case: prompts as spans, completions, and the text that instruction and shots put before every prompt."""

    name: str
    title: str
    spans: Spans
    completions: list[str]
    shared: str

    def message(self) -> dict[str, Any]:
        case = {"name": self.name, "spans": self.spans, "completions": self.completions, "shared": self.shared}
        return {"case": case | {"cappr_batch": CAPPR_BATCH.get(self.name, 1)}}


def build_task(name: str, tokenizer: Any, n_rows: int) -> Task:
    """The rows of one case, a random sample that is always the same."""
    if name == "a":
        prompt, words = Prompt("Review: {{ text }}\nSentiment:"), ["negative", "positive"]
        shots = _shots("sst2", {word: word for word in words}, 2)
        return _task(name, "SST-2, 4 shots, 2 labels of one token", prompt, words, _texts("sst2", n_rows), shots)
    if name == "b":
        prompt, words = Prompt("Question: {{ text }}\nAnswer type:"), list(TREC_WORDS.values())
        texts, shots = _texts("trec", n_rows), _shots("trec", TREC_WORDS, 1)
        return _task(name, "TREC, 6 shots, 6 labels of 4 to 5 tokens", prompt, words, texts, shots)
    if name in ("c", "c2"):
        words = [class_words[0] for class_words in load_card("banking77").classes.values()]
        instruction, title = None, "Banking77, zero-shot, 77 intents, none of them named in the prompt"
        if name == "c2":
            instruction = "Say which of these a bank's customer asks about: {{ label_words | join(', ') }}."
            title = "Banking77, zero-shot, 77 intents, all of them listed in an instruction"
        prompt = Prompt("Query: {{ text }}\nIntent:", instruction=instruction)
        return _task(name, title, prompt, words, _texts("banking77", n_rows))
    if name == "e":
        title = f"Banking77's queries, zero-shot, {N_TAXONOMY:,} labels of a taxonomy, of 3 to 6 tokens"
        prompt = Prompt("Query: {{ text }}\nCategory:")
        return _task(name, title, prompt, taxonomy(prompt, tokenizer), _texts("banking77", n_rows))
    prompt, words = Prompt("Review: {{ text }}\nSentiment:"), ["negative", "positive"]
    texts = [text for text in _texts("imdb") if 300 <= len(tokenizer(text)["input_ids"]) <= 800][:n_rows]
    return _task(name, "IMDB, zero-shot, 2 labels, reviews of 300 to 800 tokens", prompt, words, texts)


def taxonomy(prompt: Prompt, tokenizer: Any) -> list[str]:
    """The same 2,000 labels every time, such as "Garden > Tools > red", each of 3 to 6 tokens after a prompt.

    Of all combinations whose length fits, a random sample: so labels share beginnings, as those of a taxonomy do.
    """
    combinations = [
        form.format(department, group, kind)
        for department, groups in DEPARTMENTS.items()
        for group, kind in itertools.product(groups.split(), KINDS.split())
        for form in ("{0} > {1} > {2}", "{2} {1} > {0}")
    ]
    lengths = map(len, tokenizer([prompt.completion(words) for words in combinations])["input_ids"])
    fitting = [words for words, length in zip(combinations, lengths, strict=True) if length in TAXONOMY_TOKENS]
    return sorted(random.Random(0).sample(fitting, N_TAXONOMY))


def _texts(name: str, n: int | None = None) -> list[str]:
    return load_card(name).load("test", n=n)["text"].tolist()


def _shots(name: str, words: Mapping[str, str], per_class: int) -> list[tuple[dict[str, str], str]]:
    train = load_card(name).load("train")
    return [
        ({"text": text}, words[label])
        for i in range(per_class)
        for label in words
        for text in [train.loc[train["label"] == label, "text"].iloc[i]]
    ]


def _task(
    name: str,
    title: str,
    prompt: Prompt,
    words: Sequence[str],
    texts: Sequence[str],
    shots: Sequence[tuple[dict[str, str], str]] = (),
) -> Task:
    renderer = prompt.renderer(words, shots)
    rendered = [renderer.render({"text": text}) for text in texts]
    spans = [[(span.text, span.is_data) for span in row.turns[0].spans] for row in rendered]
    shared = ""
    if shots or prompt.instruction:
        shared = renderer.render({"text": "\0"}).text.partition("\0")[0].rstrip(" ")  # ends in "Review:"
    return Task(name, title, spans, [prompt.completion(word) for word in words], shared)


def warm_up_task() -> Task:
    """Two rows that have nothing in common with any case."""
    return _task("warm-up", "", Prompt(), ["yes", "no"], ["A short text.", "Another one, a little longer."])


def checked_labels(n_labels: int) -> slice:
    """Which labels the reference scores: of very many, every 20th, say."""
    return slice(None, None, max(1, n_labels // MOST_CHECKED))


def scaled(n_rows: int, scale: float) -> int:
    return max(1, round(n_rows * scale))


def rows_of(case: str, contender: str, scale: float) -> int:
    """How many rows a contender scores in one run of a case; 0 where it scores none."""
    kind = contender.partition(":")[0]
    n_rows = ROWS[case].get("llmclf" if kind == "limit" else kind, 0)
    return scaled(n_rows, scale) if n_rows else 0


def requests_of(spans: list[list[tuple[str, bool]]], completions: list[str]) -> list[Request]:
    """llmclf's requests; without a terminator, so that all contenders score the same text."""
    prompts = [RenderedPrompt((Turn(None, tuple(Span(text, bool(data)) for text, data in row)),)) for row in spans]
    return [Request(prompt, tuple(completions), None) for prompt in prompts]
