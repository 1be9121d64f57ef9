"""`llmclf next-rows`: rows are drawn, written, filled in, and read back by other commands."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from llmclf.estimation import estimate_shares, next_rows

N = 600


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 0.9, N).round(6)
    return pd.DataFrame(
        {
            "key": [f"{i:04}" for i in range(N)],
            "review": [f"review {i}" for i in range(N)],
            "p_praise": 1 - p,
            "p_complaint": p,
            "by_hand": np.where(rng.random(N) < p, "complaint", "praise"),
        }
    )


PROBA = table()[["p_praise", "p_complaint"]].to_numpy()
TRUTH = table()["by_hand"].to_numpy()
CLASSES = ["praise", "complaint"]


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "labelled.csv"
    table().drop(columns="by_hand").to_csv(path, index=False)
    return path


def filled(path, truth=TRUTH):
    """What people make of a file that next-rows wrote."""
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str)
        frame.assign(label=truth[frame["id"].astype(int)]).to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line | {"label": truth[int(line["id"])]}) + "\n" for line in lines))
    else:
        made = json.loads(path.read_text())
        for one in made:
            if "data" in one:
                value = {"choices": [truth[int(one["data"]["row_id"])]]}
                one["annotations"] = [{"completed_by": 1, "result": [{"from_name": "label", "value": value}]}]
            else:
                one["responses"] = {"label": [{"value": truth[int(one["id"])], "user_id": "u"}]}
        path.write_text(json.dumps(made))


def options(path, *more):
    return ("--annotations", path, "--id-column", "key", *more)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("to_label.csv", ()),
        ("to_label.jsonl", ()),
        ("t.json", ("--form", "label-studio")),
        ("t.json", ("--form", "argilla")),
    ],
)
def test_every_form_closes_the_circle(run, labelled, tmp_path, name, form):
    """The rows are those that next_rows draws, and the shares those of its sample, whatever form people filled in."""
    to_label = tmp_path / name
    more = ("--budget", "80", "--id-column", "key", "--text-column", "review", "--seed", "3", *form)
    result = run("next-rows", labelled, to_label, *more)
    assert result.code == 0, result.err
    assert "80 of 600 rows to label" in result.out
    assert "llmclf estimate-share" in result.out
    assert ("<Choices" in result.out) == ("label-studio" in form)
    drawn = next_rows(PROBA, 80, classes=CLASSES, random_state=3)
    filled(to_label)
    found = run("estimate-share", labelled, *options(to_label, *form, "--json"))
    assert found.code == 0, found.err
    expected = estimate_shares(PROBA, classes=CLASSES, **drawn.sample(TRUTH[drawn.rows])).to_dict()
    for one, wanted in zip(json.loads(found.out)["shares"], expected["shares"], strict=True):
        assert [one[key] for key in ("share", "low", "high")] == pytest.approx(
            [wanted[key] for key in ("share", "low", "high")]
        )


def test_what_annotators_see_is_named(run, labelled, tmp_path):
    """Ids, texts and the draw; neither the model's probabilities nor any label."""
    to_label = tmp_path / "to_label.csv"
    assert (
        run("next-rows", labelled, to_label, "--budget", "20", "--id-column", "key", "--text-column", "review").code
        == 0
    )
    frame = pd.read_csv(to_label, dtype=str)
    assert list(frame) == ["id", "label", "inclusion", "stratum", "review"]
    assert frame["label"].isna().all()
    assert frame["id"].str.len().unique().tolist() == [4]
    again = run("next-rows", labelled, to_label, "--budget", "20", "--id-column", "key")
    assert again.code == 2
    assert "exists already and may hold labels" in again.err
    assert run("next-rows", labelled, to_label, "--budget", "20", "--id-column", "key", "--overwrite").code == 0


def test_a_spreadsheet_may_save_it_with_semicolons(run, labelled, tmp_path):
    """And with decimal commas: the header shows what stands between the cells."""
    to_label = tmp_path / "to_label.csv"
    assert run("next-rows", labelled, to_label, "--budget", "40", "--id-column", "key").code == 0
    filled(to_label)
    plain = run("estimate-share", labelled, *options(to_label, "--json"))
    frame = pd.read_csv(to_label, dtype=str)
    frame["inclusion"] = frame["inclusion"].str.replace(".", ",")
    frame.to_csv(to_label, index=False, sep=";", encoding="utf-8-sig")
    result = run("estimate-share", labelled, *options(to_label, "--json"))
    assert result.code == 0, result.err
    assert json.loads(result.out) == json.loads(plain.out)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_spreadsheet_may_save_it_in_another_encoding(run, labelled, tmp_path, encoding):
    """It is told to save UTF-8: --encoding, which is that of the table, would not help."""
    to_label = tmp_path / "to_label.csv"
    assert run("next-rows", labelled, to_label, "--budget", "40", "--id-column", "key").code == 0
    filled(to_label)
    frame = pd.read_csv(to_label, dtype=str).assign(remark="très bien")
    frame.to_csv(to_label, index=False, encoding=encoding)
    result = run("estimate-share", labelled, *options(to_label))
    assert result.code == 2
    told = " ".join(result.err.split())
    assert "to_label.csv' is not UTF-8 text" in told
    assert "CSV UTF-8. --encoding is that of the table alone" in told
    assert "give encoding" not in told


def test_a_goal_and_its_options_reach_the_draw(run, labelled, tmp_path):
    """As next_rows has them; what comes after labels for a threshold is a report."""
    to_label = tmp_path / "to_label.jsonl"
    more = ("--goal", "threshold", "--max-error", "0.1", "--uniform-share", "0.8")
    result = run("next-rows", labelled, to_label, "--budget", "50", "--id-column", "key", *more)
    assert result.code == 0, result.err
    assert "llmclf report" in result.out
    drawn = next_rows(PROBA, 50, "threshold", max_error=0.1, uniform_share=0.8, random_state=0)
    lines = [json.loads(line) for line in to_label.read_text().splitlines()]
    assert [int(line["id"]) for line in lines] == drawn.rows.tolist()
    filled(to_label)
    result = run("report", labelled, *options(to_label), "-o", tmp_path / "r.html", "--json")
    assert result.code == 0, result.err
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert rows["n"] + rows.get("n_thinned", 0) == 50


def test_a_second_wave_is_drawn_and_read_with_the_first(run, labelled, tmp_path):
    """Rows with a label are not drawn again; both files together are the sample that Python makes."""
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    draw = ("--budget", "60", "--id-column", "key")
    assert run("next-rows", labelled, first, *draw).code == 0
    filled(first)
    result = run("next-rows", labelled, second, *draw, "--annotations", first, "--seed", "1")
    assert result.code == 0, result.err
    assert f"--annotations {first} --annotations {second}" in result.out
    filled(second)
    ids = [set(pd.read_csv(path, dtype=str)["id"]) for path in (first, second)]
    assert not ids[0] & ids[1]
    found = run("estimate-share", labelled, *options(first), "--annotations", second, "--json")
    assert found.code == 0, found.err
    one = next_rows(PROBA, 60, classes=CLASSES, random_state=0)
    two = next_rows(PROBA, 60, classes=CLASSES, random_state=1, **one.sample(TRUTH[one.rows]))
    expected = estimate_shares(PROBA, classes=CLASSES, **two.sample(TRUTH[two.rows])).to_dict()["shares"]
    for share, wanted in zip(json.loads(found.out)["shares"], expected, strict=True):
        assert [share[key] for key in ("share", "low", "high")] == pytest.approx(
            [wanted[key] for key in ("share", "low", "high")]
        )


@pytest.mark.filterwarnings("default")
def test_a_wave_after_an_audit(run, tmp_path):
    """Labels in a column of the table, drawn by label --audit, and a file of next-rows after them."""
    frame = table()
    drawn = next_rows(PROBA, 60, random_state=5)
    is_drawn = np.isin(np.arange(N), drawn.rows)
    frame["by_hand"] = np.where(is_drawn, frame["by_hand"], "")
    frame["audit"], frame["audit_inclusion"], frame["audit_stratum"] = is_drawn, drawn.inclusion, drawn.strata
    path, more = tmp_path / "audited.csv", tmp_path / "more.csv"
    frame.to_csv(path, index=False)
    result = run("next-rows", path, more, "--budget", "40", "--id-column", "key", "--truth", "by_hand")
    assert result.code == 0, result.err
    assert not set(pd.read_csv(more, dtype=str)["id"].astype(int)) & set(drawn.rows.tolist())
    filled(more)
    result = run("estimate-share", path, "--truth", "by_hand", *options(more), "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["n_labelled"] == 100
    low, high = (json.loads(result.out)["shares"][1][end] for end in ("low", "high"))
    assert low < (TRUTH == "complaint").mean() < high


@pytest.mark.filterwarnings("default")
def test_rows_that_nobody_labelled_are_said(run, labelled, tmp_path):
    """The others count, and a warning says what that takes for granted."""
    to_label = tmp_path / "to_label.csv"
    assert run("next-rows", labelled, to_label, "--budget", "40", "--id-column", "key").code == 0
    filled(to_label)
    frame = pd.read_csv(to_label, dtype=str)
    frame.loc[:3, "label"] = ""
    frame.to_csv(to_label, index=False)
    result = run("estimate-share", labelled, *options(to_label), "--json")
    assert json.loads(result.out)["n_labelled"] == 36
    assert "4 of 40 rows that" in " ".join(result.err.split())
    assert "missing by chance" in " ".join(result.err.split())


def test_refusals(run, labelled, tmp_path):
    """With exit code 2, a line that names the value, and nothing written."""
    to_label, other = tmp_path / "to_label.csv", tmp_path / "other.csv"
    draw = ("next-rows", labelled, to_label)
    for more, message in (
        (("--budget", "40", "--id-column", "nobody"), "'nobody'"),
        (("--budget", "40", "--id-column", "key", "--text-column", "text"), "--text-column 'text'"),
        (("--budget", "4000", "--id-column", "key"), "budget=4000"),
        (("--budget", "40", "--id-column", "key", "--goal", "fame"), "fame"),
        (("--budget", "40", "--id-column", "key", "--class", "anger"), "--class 'anger'"),
        (("--budget", "40", "--id-column", "key", "--form", "argilla"), ".json"),
        (
            ("--budget", "40", "--id-column", "key", "--inclusion-column", "p_praise", "--annotations", other),
            "have their own",
        ),
    ):
        result = run(*draw, *more)
        assert result.code == 2, more
        assert message in " ".join(result.err.split())
        assert not to_label.exists()
    assert run(*draw, "--budget", "40", "--id-column", "key").code == 0
    result = run("estimate-share", labelled, *options(to_label))
    assert "holds no label" in result.err
    filled(to_label)
    for more, message in (
        ((), "--truth COLUMN of the table, or --annotations FILE"),
        (("--annotations", to_label), "--annotations needs --id-column"),
        (("--annotations", to_label, "--id-column", "review"), "which --id-column 'review' of the table does not have"),
        (("--annotations", to_label, "--annotations", to_label, "--id-column", "key"), "is labelled in"),
    ):
        result = run("estimate-share", labelled, *more)
        assert result.code == 2, more
        assert message in " ".join(result.err.split())
    frame = table().drop(columns="by_hand")
    frame.loc[1, "key"] = "0000"
    frame.to_csv(labelled, index=False)
    result = run("estimate-share", labelled, *options(to_label))
    assert "holds an id more than once" in " ".join(result.err.split())


@pytest.mark.filterwarnings("default")
def test_a_column_of_probabilities_is_never_ignored(run, tmp_path):
    """Where no option names it, a warning does; where one does, there is none."""
    frame = table()
    rng = np.random.default_rng(1)
    frame["inclusion"] = np.where(np.arange(N) % 2, 0.4, 0.2)
    frame["by_hand"] = np.where(rng.random(N) < frame["inclusion"], frame["by_hand"], "")
    path = tmp_path / "labelled.csv"
    frame.to_csv(path, index=False)
    for command in (
        ("estimate-share", path, "--truth", "by_hand"),
        ("report", path, "--label-column", "by_hand", "-o", tmp_path / "r.html"),
    ):
        told = "the table has a column 'inclusion', with what probability each row was drawn, and no option names it"
        assert told in " ".join(run(*command).err.split())
        result = run(*command, "--inclusion-column", "inclusion")
        assert result.code == 0, result.err
        assert "no option names it" not in result.err
