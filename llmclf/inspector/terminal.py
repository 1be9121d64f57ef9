"""An explanation in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..terminal.consoles import VisibleConsole
from ..terminal.visible import visible

_N_TOKENS = 20
_MOST_CLASSES = 6  # columns of the path that a terminal has room for
_BAR = 20


def rendered(values: Mapping[str, Any]) -> Group:
    """What `Explanation.to_dict` gave, as rich shows it."""
    parts: list[RenderableType] = list(_head(values))
    if "labels" in values:
        parts += [_title("Why: from scores to probability"), *_path(values), _title("Labels, token by token")]
        if values["tree"] is not None:
            parts.append(_tree(values["tree"]))
        parts.append(_labels(values))
    if "hidden" in values:
        parts.append(Text(values["hidden"], "dim"))
    if values["answer"] is not None:
        parts += [_title("What the model would say"), *_answer(values["answer"])]
    if values.get("alternatives"):
        parts += [_title("What it would rather have said than a label"), _alternatives(values["alternatives"])]
    if values["distribution"] is not None:
        parts += [_title("Next token"), *_next_tokens(values["distribution"])]
    return Group(*parts)


def print_explanation(values: Mapping[str, Any], console: Console | None = None) -> None:
    """Print it; without a terminal as plain lines."""
    (console or VisibleConsole()).print(rendered(values))


def shown(text: str) -> str:
    """A token between quotes; what cannot be seen or would steer the terminal is escaped.

    Examples
    --------
    >>> print(shown(" yes"), shown("\\n"), shown("\\x1b[2J"), shown("\\u202e"))
    ' yes' '\\n' '\\x1b[2J' '\\u202e'
    """
    return repr(text)


def _title(text: str) -> Padding:
    return Padding(Text(text, "bold"), (1, 0, 0, 0))


def _plain(text: Any) -> Text:
    """A user's or a model's words: no markup, nothing unseen, line breaks kept."""
    return Text(visible(str(text)))


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in right)
    return table


def _head(values: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text.assemble(("model  ", "dim"), _plain(values["model"].get("model", values["model"].get("backend", "")))),
        Text.assemble(("prompt ", "dim"), _plain(values["prompt"])),
    ]
    if "prediction" in values:
        line = Text.assemble(("label  ", "dim"), (_plain(values["prediction"]).plain, "bold"))
        line.append(f"  {values['confidence']:.4f}")
        if values["accepted"] is not None:
            line.append(
                f"  {'accepted' if values['accepted'] else 'not accepted'} (threshold {values['threshold']:.4f})"
            )
        parts.append(line)
    notes = {
        "healed": "a token straddles the border of prompt and labels, so scoring begins before the prompt's end",
        "terminated": "the end-of-answer token is part of every label",
        "characters_cut": f"the text was cut by {values.get('characters_cut')} characters",
    }
    return parts + [Text(note, "yellow") for name, note in notes.items() if values.get(name)]


def _next_tokens(distribution: Mapping[str, Any]) -> list[RenderableType]:
    steps = ", ".join(f"{step['name']}={_value(step['value'])}" for step in distribution["processors"])
    line = f"{distribution['vocabulary']} tokens, entropy {distribution['entropy']:.4f} nats"
    if steps:
        line += f"; after {steps}: {distribution['kept']} kept, entropy {distribution['processed_entropy']:.4f}"
    right = ("rank", "id", "logit", "log-prob", "before", "after")
    table = _table(
        "rank", "token", "id", "logit", "log-prob", "before", "", *(("after", "") if steps else ()), right=right
    )
    for place, token in enumerate(distribution["tokens"]):
        if place >= _N_TOKENS and not token["labels"] and token["offset"] is None:
            continue
        text = Text(shown(token["token"]), "bold cyan" if token["labels"] else "")
        cells: list[RenderableType] = [
            str(token["rank"]),
            text,
            str(token["id"]),
            f"{token['logit']:.4f}",
            f"{token['logprob']:.4f}",
            f"{token['probability']:.4f}",
            _bar(token["probability"]),
        ]
        if steps:
            cells += (
                [f"{token['processed_probability']:.4f}", _bar(token["processed_probability"], "green")]
                if token["kept"]
                else [Text("cut", "red"), Text("")]
            )
        table.add_row(*cells)
    return [Text(line, "dim"), table]


def _nats(value: float | None, sign: str = "") -> str:
    return "-inf" if value is None else f"{value:{sign}.4f}"


def _bar(share: float, style: str = "cyan") -> Text:
    return Text("█" * round(_BAR * share), style)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ", ".join(f"{token}: {float(offset):+g}" for token, offset in value) + "}"
    return value if isinstance(value, str) else f"{value:g}"


def _answer(answer: Mapping[str, Any]) -> list[RenderableType]:
    table = _table("token", "log-prob", "perplexity so far", right=("log-prob", "perplexity so far"))
    for token in answer["tokens"]:
        table.add_row(Text(shown(token["token"])), f"{token['logprob']:.4f}", f"{token['perplexity']:.3f}")
    return [Text(shown(answer["text"])), table]


def _alternatives(alternatives: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("beginning", "log-prob", "probability", "and on", right=("log-prob", "probability"))
    for alternative in alternatives:
        table.add_row(
            Text(shown(alternative["token"])),
            f"{alternative['logprob']:.4f}",
            f"{alternative['probability']:.4f}",
            Text(shown(alternative["text"]), "dim"),
        )
    return table


def _tree(nodes: Sequence[Mapping[str, Any]]) -> Tree:
    root = Tree(Text("prompt", "dim"))
    waiting = [(root, node) for node in reversed(nodes)]
    while waiting:
        parent, node = waiting.pop()
        line = Text.assemble((shown(node["token"]), "cyan"), f"  {node['logprob']:.4f}")
        if node.get("is_terminator"):
            line.append("  end of answer", "dim")
        for word in node["words"]:
            line.append(f"  = {node['sum']:.4f}  ", "bold").append(_plain(word["class"]))
        branch = parent.add(line)
        waiting += [(branch, child) for child in reversed(node["children"])]
    return root


def _labels(values: Mapping[str, Any]) -> Group:
    numbers = ("tokens", "sum", "mean", "bytes", "probability")
    table = _table("class", "word", *numbers, right=numbers)
    for label in sorted(values["labels"], key=lambda line: -line["probability"]):
        table.add_row(
            _plain(label["class"]),
            Text(shown(label["word"])),
            str(len(label["tokens"])),
            *(_nats(label[name]) for name in ("sum", "mean", "bytes")),
            f"{label['probability']:.4g}",
        )
    mass = f"mass on all labels: {values['label_mass']:.4g}"
    return Group(Padding(table, (1, 0, 0, 0)), Text(mass, "dim"))


def _path(values: Mapping[str, Any]) -> list[RenderableType]:
    path = values["path"]
    order = sorted(range(len(path["classes"])), key=lambda k: -path["probabilities"][k])[:_MOST_CLASSES]
    names = [str(path["classes"][k]) for k in order]
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("step")
    for name in names:
        table.add_column(_plain(name), justify="right", no_wrap=True)
    for step in path["steps"]:
        table.add_row(step["name"], *(_nats(step["change"][k], "+") for k in order))
    table.add_row(Text("log p", "dim"), *(_nats(path["steps"][-1]["scores"][k]) for k in order))
    table.add_row(Text("p", "bold"), *(Text(f"{path['probabilities'][k]:.4f}", "bold") for k in order))
    left_out = len(path["classes"]) - len(order)
    line = "each step adds these nats; together they are log p"
    return [Text(line if not left_out else f"{line} ({left_out} less probable classes left out)", "dim"), table]
