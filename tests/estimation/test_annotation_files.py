"""Rows go to annotators and come back as they were drawn, or every fault is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import FormulaWarning, InputError
from llmclf.estimation import Annotations, label_studio_config, next_rows, read_annotations, write_annotation_file

CLASSES = ["good", "bad"]
TEXTS = [f'text {i}, «quoted» "so"\nand on' for i in range(30)]


@pytest.fixture
def drawn() -> pd.DataFrame:
    p = np.linspace(0.02, 0.98, 30)
    data = pd.DataFrame({"key": [f"{i:03}" for i in range(30)], "text": TEXTS})
    return next_rows(np.column_stack([p, 1 - p]), 8, random_state=0).to_frame(data, id_column="key")


def answers(drawn: pd.DataFrame) -> list[str]:
    return [CLASSES[i % 2] for i in range(len(drawn))]


def exported_tasks(path: Path, labels: list[str]) -> list[dict[str, Any]]:
    """What Label Studio exports of the tasks that were imported from a file."""
    tasks = json.loads(path.read_text())
    return [
        {
            "id": 900 + i,
            "data": task["data"],
            "annotations": [
                {
                    "id": 70 + i,
                    "completed_by": 1,
                    "was_cancelled": False,
                    "result": [
                        {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
                    ],
                }
            ],
            "predictions": [],
        }
        for i, (task, label) in enumerate(zip(tasks, labels, strict=True))
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_come_back(drawn: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    """A file that was filled in gives the labels of the rows in their order, whatever order it has now."""
    from llmclf.tables.files import read_table, write_table

    file = tmp_path / f"rows{suffix}"
    write_annotation_file(drawn, file)
    table = read_table(file)
    table["label"] = answers(drawn)
    write_table(table.iloc[::-1], file)
    assert read_annotations(file, drawn, classes=CLASSES).labels() == answers(drawn)


@pytest.mark.parametrize(("name", "form"), [("rows.csv", None), ("rows.json", "argilla")])
def test_labels_are_not_overwritten(drawn: pd.DataFrame, tmp_path: Path, name: str, form: str | None) -> None:
    """A file that is there may have been filled in; it is replaced on request alone."""
    file = tmp_path / name
    file.write_text("labels")
    with pytest.raises(
        InputError, match=f"{name}' exists already and may hold labels; give another path, or overwrite=True"
    ):
        write_annotation_file(drawn, file, form=form)
    assert file.read_text() == "labels"
    write_annotation_file(drawn, file, form=form, overwrite=True)
    assert file.read_text() != "labels"


def test_label_studio(drawn: pd.DataFrame, tmp_path: Path) -> None:
    """Both exports of Label Studio come back; a task that was skipped is not labelled."""
    file = tmp_path / "tasks.json"
    write_annotation_file(drawn, file, form="label-studio")
    tasks = exported_tasks(file, answers(drawn))
    tasks[3]["annotations"][0]["was_cancelled"] = True
    file.write_text(json.dumps(tasks))
    found = read_annotations(file, drawn, classes=CLASSES, form="label-studio")
    expected: list[Any] = answers(drawn)
    expected[3] = None
    assert found.labels() == expected
    assert found.unlabelled == [3]
    short = [
        {**task["data"], "id": task["id"], "label": label, "annotator": 1}
        for task, label in zip(tasks, answers(drawn), strict=True)
    ]
    file.write_text(json.dumps(short))
    assert read_annotations(file, drawn, classes=CLASSES, form="label-studio").labels() == answers(drawn)


def test_argilla(drawn: pd.DataFrame, tmp_path: Path) -> None:
    """Records come back with the answers of several annotators; the most votes decide."""
    file = tmp_path / "records.json"
    write_annotation_file(drawn, file, form="argilla")
    records = json.loads(file.read_text())
    assert records[0]["fields"] == {"text": drawn["text"].iloc[0]}
    for record, label in zip(records, answers(drawn), strict=True):
        other = CLASSES[1 - CLASSES.index(label)]
        record["responses"] = {
            "label": [{"value": value, "user_id": f"u{i}"} for i, value in enumerate([label, other, label])]
        }
    file.write_text(json.dumps(records))
    found = read_annotations(file, drawn, classes=CLASSES, form="argilla")
    assert found.labels() == answers(drawn)
    assert len(found.frame) == 24
    assert found.frame["annotator"].unique().tolist() == ["u0", "u1", "u2"]


def test_argilla_responses_that_were_not_sent(drawn: pd.DataFrame, tmp_path: Path) -> None:
    """A draft and a discarded response are no labels; the row is not labelled, or has the labels of others."""
    file = tmp_path / "records.json"
    write_annotation_file(drawn, file, form="argilla")
    records = json.loads(file.read_text())
    sent = {"value": "good", "user_id": "u0", "status": "submitted"}
    records[0]["responses"] = {"label": [sent, {"value": "bad", "user_id": "u1", "status": "draft"}]}
    records[1]["responses"] = {"label": [{"value": "bad", "user_id": "u1", "status": "discarded"}]}
    file.write_text(json.dumps(records))
    found = read_annotations(file, drawn, classes=CLASSES, form="argilla")
    assert found.labels() == ["good"] + [None] * (len(drawn) - 1)
    assert found.frame["annotator"].tolist() == ["u0"]


def test_config_is_the_interface_of_the_tasks() -> None:
    """Classes with signs that XML knows are shown as they are."""
    view = ElementTree.fromstring(label_studio_config(['a "b" & <c>', 2], show=["title"]))
    assert [choice.get("value") for choice in view.iter("Choice")] == ['a "b" & <c>', "2"]
    assert view.find("Text").get("value") == "$text"
    assert view.find("Header").get("value") == "$title"


def test_the_interface_shows_what_tasks_of_another_column_hold(drawn: pd.DataFrame, tmp_path: Path) -> None:
    """The call that the how-to shows names a column of its tasks."""
    page = Path(__file__).parent.parent.parent / "docs" / "how-to" / "next-rows.md"
    assert '`label_studio_config(classes, text="comment")`' in page.read_text()
    file = tmp_path / "tasks.json"
    write_annotation_file(drawn.rename(columns={"text": "comment"}), file, form="label-studio")
    shown = ElementTree.fromstring(label_studio_config(CLASSES, text="comment")).find("Text")
    assert shown is not None
    assert shown.get("value", "").removeprefix("$") in json.loads(file.read_text())[0]["data"]


def test_several_annotators_in_a_table(drawn: pd.DataFrame, tmp_path: Path) -> None:
    """A column annotator allows a row once for each; a tie is named."""
    file = tmp_path / "rows.csv"
    key = drawn["id"].iloc[0]
    file.write_text(f"id,label,annotator\n{key},good,ann\n{key},bad,bob\n{key},bad,cem\n")
    assert read_annotations(file, drawn, classes=CLASSES).labels()[0] == "bad"
    file.write_text(f"id,label,annotator\n{key},good,ann\n{key},bad,bob\n")
    with pytest.raises(InputError, match=f"1 rows have no label that most annotators gave, with the ids '{key}'"):
        read_annotations(file, drawn, classes=CLASSES).labels()


def test_every_fault_is_named(drawn: pd.DataFrame, tmp_path: Path) -> None:
    """Unknown ids and classes, changed probabilities and doubles: all at once, each with its row; an empty label is none."""
    file = tmp_path / "rows.csv"
    a, b, c, d = drawn["id"].iloc[:4]
    pi = drawn["inclusion"].tolist()
    file.write_text(
        f"id,label,inclusion\n{a},good,{pi[0]}\nnobody,good,\n{b},fine,{pi[1]}\n{c},good,0.9\n{a},bad,{pi[0]}\n{d},,{pi[3]}\n"
    )
    with pytest.raises(InputError) as caught:
        read_annotations(file, drawn, classes=CLASSES)
    message = str(caught.value)
    assert "has 4 faults (row 1 is the header)" in message
    assert "row 3: the id 'nobody'" in message
    assert f"row 4: the label 'fine' of '{b}'" in message
    assert f"row 5: the inclusion probability of '{c}' is '0.9'" in message
    assert f"row 6: '{a}' is labelled already, at row 2" in message
    lines = tmp_path / "rows.jsonl"
    lines.write_text(
        json.dumps({"id": a, "label": "good"}) + "\n" + json.dumps({"id": "nobody", "label": "good"}) + "\n"
    )
    with pytest.raises(InputError, match=r"has 1 fault: line 2: the id 'nobody'"):
        read_annotations(lines, drawn, classes=CLASSES)


@pytest.mark.parametrize(
    ("name", "form"), [("r.csv", None), ("r.jsonl", None), ("r.json", "label-studio"), ("r.json", "argilla")]
)
def test_a_file_says_itself_what_was_drawn(drawn: pd.DataFrame, tmp_path: Path, name: str, form: str | None) -> None:
    """Without the drawn rows, those of the file count, with the probabilities and strata that were written into it."""
    file = tmp_path / name
    write_annotation_file(drawn.assign(label=answers(drawn)), file, form=form)
    if form == "label-studio":
        file.write_text(json.dumps(exported_tasks(file, answers(drawn))))
    if form == "argilla":
        records = json.loads(file.read_text())
        for record, label in zip(records, answers(drawn), strict=True):
            record["responses"] = {"label": [{"value": label, "user_id": "u"}]}
        file.write_text(json.dumps(records))
    found = read_annotations(file, classes=CLASSES, form=form)
    assert found.labels() == answers(drawn)
    assert found.drawn["id"].tolist() == drawn["id"].tolist()
    np.testing.assert_allclose(found.drawn["inclusion"], drawn["inclusion"])
    assert found.drawn["stratum"].tolist() == drawn["stratum"].astype(str).tolist()


@pytest.mark.parametrize("cell", ["", "much", "0", "1.5"])
def test_a_file_without_probabilities_says_nothing_of_the_draw(tmp_path: Path, cell: str) -> None:
    """A row whose probability is missing or none is named, with what is expected."""
    file = tmp_path / "rows.csv"
    file.write_text(f"id,label,inclusion\n7,good,0.5\n8,bad,{cell}\n")
    with pytest.raises(
        InputError, match=r"row 3: the inclusion probability of '8' .* expected the file that was written"
    ):
        read_annotations(file, classes=CLASSES)


def test_numbers_survive_a_spreadsheet(tmp_path: Path) -> None:
    """Classes and ids that are numbers are found in the texts of a CSV file, decimal commas included."""
    drawn = next_rows(np.full((9, 2), 0.5), 3, random_state=0).to_frame()
    file = tmp_path / "rows.csv"
    lines = [
        f'{i}.0,{k}.0,"{str(pi).replace(".", ",")}"'
        for i, k, pi in zip(drawn["id"], [1, 0, 1], drawn["inclusion"], strict=True)
    ]
    file.write_text("id,label,inclusion\n" + "\n".join(lines).replace(".0,", ",") + "\n")
    assert read_annotations(file, drawn, classes=[0, 1]).labels() == [1, 0, 1]


def test_formulas(tmp_path: Path) -> None:
    """A text that a spreadsheet would run is warned of, or escaped."""
    drawn = next_rows([[0.5, 0.5]] * 2, 2, random_state=0).to_frame(["=1+1", "fine"])
    with pytest.warns(FormulaWarning):
        write_annotation_file(drawn, tmp_path / "rows.csv")
    write_annotation_file(drawn, tmp_path / "rows.csv", escape_formulas=True, overwrite=True)
    assert "'=1+1" in (tmp_path / "rows.csv").read_text()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["good", "bad", ""]), min_size=8, max_size=8))
def test_any_answers_come_back(tmp_path_factory: pytest.TempPathFactory, given_: list[str]) -> None:
    """What is filled in comes back, in every form that people fill in."""
    p = np.linspace(0.1, 0.9, 20)
    drawn = next_rows(np.column_stack([p, 1 - p]), 8, random_state=1).to_frame(["x"] * 20)
    file = tmp_path_factory.mktemp("forms") / "rows.jsonl"
    write_annotation_file(drawn.assign(label=given_), file)
    expected = [label or None for label in given_]
    if not any(expected):
        with pytest.raises(InputError, match="holds no label"):
            read_annotations(file, drawn, classes=CLASSES)
        return
    assert read_annotations(file, drawn, classes=CLASSES).labels() == expected


@pytest.mark.parametrize(
    ("name", "form", "content", "message"),
    [
        ("rows.json", None, "[]", "needs form="),
        ("rows.csv", "argilla", "", "is a .json file"),
        ("rows.json", "doccano", "[]", "form='doccano'"),
        ("rows.txt", None, "", "expected a .csv"),
        ("rows.json", "argilla", "{}", "expected a list"),
        ("rows.json", "argilla", "[1]", "record 1"),
        ("rows.json", "label-studio", "[1]", "task 1"),
        ("rows.json", "label-studio", "nonsense", "cannot be read as JSON"),
        ("rows.csv", None, "id;label\n1;good\n", "another delimiter"),
    ],
)
def test_refuses_files(drawn: pd.DataFrame, tmp_path: Path, name: str, form: str, content: str, message: str) -> None:
    """What is no file of annotations is refused."""
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_annotations(tmp_path / name, drawn, classes=CLASSES, form=form)


def test_absent_file(drawn: pd.DataFrame, tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(InputError, match="does not exist"):
        read_annotations(tmp_path / "none.json", drawn, classes=CLASSES, form="argilla")


def test_no_frame_of_drawn_rows(tmp_path: Path) -> None:
    """Only what was drawn can be written."""
    with pytest.raises(InputError, match="no column 'id'"):
        write_annotation_file(pd.DataFrame({"text": ["a"]}), tmp_path / "rows.csv")


def test_votes_of_a_frame() -> None:
    """Rows that nobody labelled have no label."""
    empty = pd.DataFrame({"item": [1], "id": ["b"], "annotator": [None], "label": ["x"]})
    three = pd.DataFrame({"id": [1, 2, 3], "inclusion": 0.5, "stratum": 0})
    assert Annotations(empty, three, ("x",)).unlabelled == [0, 2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda parts: st.lists(parts, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["data", "annotations", "result", "value", "choices", "from_name", "label", "row_id", "responses", "metadata",
             "user_id", "completed_by", "inclusion", "id", "status", "was_cancelled", "x"]
        ),
        parts,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from(["label-studio", "argilla"]))
def test_any_json_is_read_or_named(tmp_path_factory, value, form) -> None:
    """What a platform did not write gives a message, whatever stands where."""
    drawn = next_rows(np.full((30, 2), 0.5), 8, random_state=0).to_frame()
    path = tmp_path_factory.mktemp("json") / "export.json"
    path.write_text(json.dumps(value))
    try:
        read_annotations(path, drawn, classes=CLASSES, form=form)
    except InputError as error:
        assert "export.json" in str(error) or "expected" in str(error) or "labels at once" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"id,label\n", "has no rows"),
        (b"id;label\n000;good\n", "no column 'id'"),
        (b"id,label\n,good\n", "the id '' is not that of a row that was drawn"),
        (b"id,label\n000,good\n000,bad\n", "is labelled already|is not that of a row"),
        ("id,label\n000,g\u00f6od\n".encode("utf-16"), "UTF-8|encoding|no column"),
        ("id,label\n000,g\u00f6od\n".encode("latin-1"), "UTF-8|encoding"),
    ],
)
def test_files_that_cannot_be_read_are_named(drawn, tmp_path, content, message) -> None:
    """Empty ones, other delimiters and encodings, ids that are missing or stand twice."""
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_annotations(path, drawn, classes=CLASSES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.assign(id=[None, *frame["id"][1:]]), "the id of row 0 is missing"),
        (lambda frame: frame.assign(inclusion=0.0), r"inclusion\[0\]=0; expected probabilities above 0"),
        (lambda frame: frame.assign(inclusion=np.nan), r"inclusion\[0\]=nan; expected probabilities above 0"),
        (lambda frame: frame.assign(inclusion="much"), r"inclusion\[0\]='much' is not a number"),
        (lambda frame: pd.concat([frame, frame[["text"]]], axis=1), "two columns 'text'"),
        (lambda frame: frame.to_dict("list"), "no column 'id'"),
    ],
)
def test_frames_that_were_not_drawn_are_refused(drawn, tmp_path, change, message) -> None:
    """Both to write and to read."""
    with pytest.raises(InputError, match=message):
        write_annotation_file(change(drawn), tmp_path / "rows.csv")
    (tmp_path / "labels.csv").write_text("id,label\n")
    with pytest.raises(InputError, match=message):
        read_annotations(tmp_path / "labels.csv", change(drawn), classes=CLASSES)


def test_classes_of_a_file_are_a_list(drawn, tmp_path) -> None:
    """A word is not one."""
    (tmp_path / "labels.csv").write_text("id,label\n")
    with pytest.raises(InputError, match="classes='good'; expected a list"):
        read_annotations(tmp_path / "labels.csv", drawn, classes="good")
    with pytest.raises(InputError, match="classes='good'; expected a list"):
        label_studio_config("good")
