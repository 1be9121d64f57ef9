"""`llmclf race`: what it prints, writes and refuses."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from faults import FakeServer
from race.worlds import texts

from llmclf import load
from llmclf.cli.race import race_lines
from llmclf.race import Race


@pytest.fixture
def table(tmp_path):
    X, y = texts(24)
    path = tmp_path / "train.csv"
    pd.DataFrame({"review": X, "mood": y, "author": [i // 2 for i in range(24)]}).to_csv(path, index=False)
    return path


@pytest.fixture
def server(no_waiting):
    with FakeServer("vllm") as served:
        yield served


def options(table, server, tmp_path, *more):
    labels = "no=negative,yes=positive"
    model = ("--model", f"openai:{server.name}", "--base-url", server.url)
    columns = ("--text-column", "review", "--label-column", "mood")
    return ("race", table, *columns, "--labels", labels, *model, "-o", tmp_path / "race.html", *more)


def test_it_prints_the_table_and_writes_the_page(run, table, server, tmp_path):
    """Verdict and table fit eighty columns; page, JSON and Markdown say the same."""
    result = run(
        *options(table, server, tmp_path, "--json", "--md", "--model-option", "price={input = 1000, output = 2000}")
    )
    assert result.code == 0, result.err
    race = Race(json.loads((tmp_path / "race.json").read_text()))
    assert race.verdict in " ".join(result.out.split())
    *lines, last = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert last.startswith("race: ")
    for name in race.to_frame().index:
        assert sum(line.startswith(f"{name} ") for line in lines) == 1
    assert race.verdict in (tmp_path / "race.html").read_text()
    assert (tmp_path / "race.md").read_text() == race.to_markdown()


@pytest.mark.filterwarnings("default")
def test_inclusion_probabilities(run, table, server, tmp_path):
    """A column that an option names thins the rows; one that no option names is said to be left aside."""
    frame = pd.read_csv(table)
    X, y = texts(60)
    frame = pd.DataFrame({"review": X, "mood": y, "inclusion": [0.5 if i % 4 < 2 else 0.25 for i in range(60)]})
    frame.to_csv(table, index=False)
    result = run(*options(table, server, tmp_path, "--inclusion-column", "inclusion", "--json"))
    assert result.code == 0, result.err
    rows = json.loads((tmp_path / "race.json").read_text())["rows"]
    assert rows["n"] + rows["n_thinned"] == 60
    assert "no option names it" not in result.err
    result = run(*options(table, server, tmp_path))
    assert "the table has a column 'inclusion'" in " ".join(result.err.split())
    result = run(*options(table, server, tmp_path, "--inclusion-column", "review"))
    assert (result.code, "is not a number" in result.err) == (2, True)


@pytest.mark.filterwarnings("default")
def test_fit_takes_inclusion_probabilities(run, table, server, tmp_path):
    """The classifier is that of fit(inclusion=); a threshold on such rows is refused before the model is asked."""
    X, y = texts(40)
    inclusion = [0.5 if i % 4 < 2 else 0.25 for i in range(40)]
    pd.DataFrame({"review": X, "mood": y, "audit_inclusion": inclusion}).to_csv(table, index=False)
    columns = ("--text-column", "review", "--label-column", "mood", "--calibrator", "bias_temperature")
    model = ("--labels", "no=negative,yes=positive", "--model", f"openai:{server.name}", "--base-url", server.url)
    fitted = {}
    for name, more in (("with", ("--inclusion-column", "audit_inclusion")), ("without", ())):
        result = run("fit", table, *columns, *model, *more, "-o", tmp_path / name)
        assert result.code == 0, result.err
        assert ("the table has a column 'audit_inclusion'" in " ".join(result.err.split())) == (not more)
        fitted[name] = load(tmp_path / name, trust=True).calibrator_
    assert fitted["with"].temperature_ != fitted["without"].temperature_
    n_asked = len(server.requests)
    refused = ("--inclusion-column", "audit_inclusion", "--max-error", "0.1", "-o", tmp_path / "third")
    result = run("fit", table, *columns, *model, *refused)
    assert result.code == 2
    assert "the probabilities in 'audit_inclusion' differ" in " ".join(result.err.split())
    assert len(server.requests) == n_asked


def test_groups(run, table, server, tmp_path):
    """They are those of the column: here two rows each."""
    result = run(*options(table, server, tmp_path, "--group-column", "author", "--shots", "4"))
    assert result.code == 2
    assert "labelled rows to race on" in result.err  # the other rows of the shots' authors are left out, too
    result = run(*options(table, server, tmp_path, "--group-column", "author", "--json"))
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "race.json").read_text())["rows"]["n_groups"] == 12


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--sizes", "20,many"), "--sizes '20,many'; expected whole numbers"),
        (("--sizes", "5"), "holds 5; expected whole numbers of labels of at least 20"),
        (("--features", "states"), "shows no hidden states"),
        (("--features", "magic"), "features='magic'"),
        (("--margin", "2"), "margin=2.0; expected"),
        (("--group-column", "writer"), "--group-column 'writer' is not a column"),
    ],
)
def test_refusals(run, table, server, tmp_path, more, message):
    """A user's error is one line, before the model is asked."""
    result = run(*options(table, server, tmp_path, *more))
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "race.html").exists()


def test_long_names_fit_the_terminal():
    """However long a transformer's name is, and whatever is unknown."""
    unknown = {"value": 1.5, "low": None, "high": None}
    price = {"rows_per_second": None, "cost_per_1000_rows": None, "tokens_per_1000_rows": 1_234_567.0}
    ends = {"value": -12.345678, "low": -13.456789, "high": -11.234567}
    one = {"accuracy": {**unknown, "value": 1.0}, "log_loss": unknown, "needs_model": True, "price": price}
    names = ("pool", "SomebodysVeryOwnTransformerOfTexts 12 alone")
    data = {
        "verdict": {"text": "word " * 50},
        "contestants": [{**one, "name": name, "vs_pool": ends} for name in names],
        "rows": {"n": 24, "n_learned_from": 19, "n_groups": None, "n_shots": 0, "n_unscored": 0},
        "settings": {"confidence": 0.95},
    }
    assert max(map(len, race_lines(data))) <= 80
