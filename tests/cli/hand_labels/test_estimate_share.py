"""`llmclf estimate-share`: from a labelled table to shares, as text, CSV and JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from llmclf.estimation import estimate_shares

N = 400


def table() -> pd.DataFrame:
    """Rows of two classes with probabilities, a hundred labelled by hand, and what else a table may have."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 1.0, N).round(6)
    truth = np.where(rng.random(N) < p, "complaint", "praise")
    rows = rng.permutation(N)[:100]
    return pd.DataFrame(
        {
            "id": np.arange(N),
            "label": np.where(p > 0.5, "complaint", "praise"),
            "p_praise": 1 - p,
            "p_complaint": p,
            "truth": np.where(np.isin(np.arange(N), rows), truth, ""),
            "year": np.where(np.arange(N) < 200, 2024, 2025),
            "author": np.arange(N) // 3,
            "readers": rng.integers(1, 9, N),
            "pi": 0.25,
        }
    )


@pytest.fixture
def written(tmp_path):
    def write(frame: pd.DataFrame, name: str = "labelled.csv"):
        path = tmp_path / name
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        return path

    return write


@pytest.mark.parametrize("name", ["labelled.csv", "labelled.parquet"])
def test_it_prints_what_python_computes(run, written, name):
    """From CSV and Parquet files alike, as JSON and as text."""
    frame = table()
    path = written(frame, name)
    rows = np.flatnonzero(frame["truth"] != "")
    expected = estimate_shares(
        frame[["p_praise", "p_complaint"]].to_numpy(), frame["truth"][rows], rows, classes=["praise", "complaint"]
    )
    result = run("estimate-share", path, "--truth", "truth", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found == json.loads(json.dumps(expected.to_dict()))
    result = run("estimate-share", path, "--truth", "truth")
    assert str(expected) in result.out


def test_columns_reach_the_estimate(run, written, tmp_path):
    """Groups, clusters, weights and a level, and what is written beside."""
    path = written(table())
    more = ("--group-column", "year", "--cluster-column", "author", "--weight-column", "readers", "--simultaneous")
    options = ("--confidence-level", "0.9", "--differences", "previous", "-o", tmp_path / "shares.json")
    result = run("estimate-share", path, "--truth", "truth", *more, *options)
    assert result.code == 0, result.err
    assert "90 % intervals that hold together" in result.out
    assert "2025" in result.out
    saved = json.loads((tmp_path / "shares.json").read_text())
    assert [record["group"] for record in saved["groups"]] == [2024, 2024, 2025, 2025]
    assert saved["differences"][0]["reference"] == 2024
    assert saved["confidence_level"] == 0.9
    result = run("estimate-share", path, "--truth", "truth", "--group-column", "year", "-o", tmp_path / "shares.csv")
    assert result.code == 0, result.err
    assert pd.read_csv(tmp_path / "shares.csv")["table"].tolist() == ["all rows"] * 2 + ["group"] * 4
    more = ("--group-column", "year", "--differences", "pairs", "-o", tmp_path / "shares.csv")
    assert run("estimate-share", path, "--truth", "truth", *more).code == 0
    frame = pd.read_csv(tmp_path / "shares.csv", dtype=str, keep_default_na=False)
    assert frame["table"].tolist() == ["all rows"] * 2 + ["group"] * 4 + ["difference"] * 2
    assert frame["group"].tolist() == ["", "", "2024", "2024", "2025", "2025", "2025", "2025"]
    assert frame["reference"].tolist() == [""] * 6 + ["2024", "2024"]


@pytest.mark.filterwarnings("default")
def test_an_audit_closes_the_circle(run, written):
    """What --audit wrote is used without being named; labels of rows that it did not draw are left out with a warning."""
    frame = table()
    frame["audit"] = frame["truth"] != ""
    frame["audit_inclusion"] = 0.25
    frame["audit_stratum"] = frame["year"].astype(str)
    plain = json.loads(run("estimate-share", written(frame), "--truth", "truth", "--json").out)
    frame.loc[frame.index[frame["truth"] == ""][:5], "truth"] = "praise"
    result = run("estimate-share", written(frame), "--truth", "truth", "--json")
    assert json.loads(result.out) == plain
    assert "5 labelled rows are not among those that --audit drew" in " ".join(result.err.split())


def test_what_the_draw_has_saved_is_not_in_worth(run, written):
    """Labels alone profit from a draw that the model guided, too; a line says so."""
    frame = table()
    frame["audit"] = frame["truth"] != ""
    frame["audit_inclusion"] = 0.25
    told = "by hand and worth already profit from the draw"
    path = written(frame)
    assert f"{told} that the model guided" in run("estimate-share", path, "--truth", "truth").out
    path = written(table())
    named = run("estimate-share", path, "--truth", "truth", "--inclusion-column", "pi")
    assert f"{told} if the model guided it" in named.out
    assert told not in run("estimate-share", path, "--truth", "truth").out


@pytest.mark.filterwarnings("default")
def test_rows_without_probabilities_count(run, written):
    """They stay among the rows whose shares are estimated, and a warning says so."""
    frame = table()
    frame.loc[:9, ["p_praise", "p_complaint"]] = np.nan
    result = run("estimate-share", written(frame), "--truth", "truth", "--json")
    assert result.code == 0, result.err
    assert "10 rows have no probabilities and count as average rows" in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--truth", "nobody"), "'nobody'"),
        (("--truth", "truth", "--inclusion-column", "zero"), "expected above 0"),
        (("--truth", "truth", "--inclusion-column", "label"), "is not a number"),
        (("--truth", "truth", "--differences", "pairs"), "name their column with --group-column"),
        (("--truth", "truth", "-o", "shares.xlsx"), "expected a file that ends in .csv or .json"),
        (("--truth", "empty"), "is empty in all rows"),
        (("--truth", "year"), "not one of the classes"),
        (("--truth", "truth", "--prefix", "model_"), "no columns model_p_CLASS"),
    ],
)
def test_bad_options_are_named(run, written, options, message):
    """With exit code 2 and one line."""
    frame = table().assign(zero=0.0, empty="")
    result = run("estimate-share", written(frame), *options)
    assert result.code == 2
    assert message in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("columns", "prefix", "name"),
    [
        ({"label": "label"}, "", "label"),
        ({"label": "predicted_label"}, "", "predicted_label"),
        ({name: f"m_{name}" for name in ("label", "confidence", "p_praise", "p_complaint")}, "m_", "m_label"),
    ],
)
def test_the_labels_of_the_model_are_not_those_of_people(run, written, tmp_path, columns, prefix, name):
    """The column that label added would agree with the model whatever the truth is."""
    path = written(table().assign(confidence=0.9).rename(columns=columns))
    for command in (
        ("estimate-share", path, "--truth", name),
        ("report", path, "--label-column", name, "-o", tmp_path / "r.html"),
    ):
        result = run(*command, "--prefix", prefix)
        assert result.code == 2
        told = f"{name!r} is the column in which label wrote the model's answers; name the column that people filled in"
        assert told in " ".join(result.err.split())


def test_a_column_called_label_may_be_that_of_people(run, written):
    """Where it was there before, label calls its own predicted_label."""
    frame = table().assign(confidence=0.9).rename(columns={"label": "predicted_label", "truth": "label"})
    assert run("estimate-share", written(frame), "--truth", "label").code == 0


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("n_labelled", [100, 95])
def test_the_drawn_rows_alone_are_not_the_table(run, written, n_labelled):
    """All of them are known, so that an interval would have no width, though they stand for others."""
    frame = table()
    frame["audit"] = frame["truth"] != ""
    frame["audit_inclusion"] = 0.25
    drawn = frame[frame["audit"]].copy()
    drawn.iloc[n_labelled:, drawn.columns.get_loc("truth")] = ""
    told = "the table holds only the rows that were drawn (100, standing for about 400); give the whole table that label wrote"
    result = run("estimate-share", written(drawn), "--truth", "truth")
    assert result.code == 2
    assert told in " ".join(result.err.split())
    bare = drawn[:n_labelled].drop(columns=["audit", "audit_inclusion"])
    result = run("estimate-share", written(bare), "--truth", "truth", "--inclusion-column", "pi")
    assert result.code == 2
    assert "the table holds only the rows that were drawn" in " ".join(result.err.split())
    drawn["audit_inclusion"] = 1.0
    assert run("estimate-share", written(drawn), "--truth", "truth").code == 0


@pytest.mark.filterwarnings("default")
def test_a_report_has_the_same_shares(run, written, tmp_path):
    """Of one file there is one interval: both commands heed the strata that --audit wrote."""
    frame = table()
    frame["audit"] = frame["truth"] != ""
    stratum = frame["p_complaint"] > 0.3
    frame["audit_stratum"] = stratum.map({True: "high", False: "low"})
    frame["audit_inclusion"] = frame.groupby("audit_stratum")["audit"].transform("mean")
    path = written(frame)
    shares = json.loads(run("estimate-share", path, "--truth", "truth", "--json").out)["shares"]
    page = tmp_path / "r.html"
    result = run("report", path, "--label-column", "truth", "-o", page, "--json", "--shares")
    assert result.code == 0, result.err
    lines = json.loads((tmp_path / "r.json").read_text())["shares"]["lines"]
    assert [(line["class"], line["share"]["low"], line["share"]["high"]) for line in lines] == [
        (share["class"], pytest.approx(share["low"]), pytest.approx(share["high"])) for share in shares
    ]


def test_a_label_that_is_no_class_is_named_by_its_row(run, written):
    """By its place in the table, with its column and the cure; blanks around a class do no harm."""
    frame = table()
    plain = run("estimate-share", written(frame), "--truth", "truth", "--json")
    frame["truth"] = frame["truth"].map(lambda value: f" {value} ")
    blanks = run("estimate-share", written(frame), "--truth", "truth", "--json")
    assert (blanks.code, blanks.out) == (0, plain.out), blanks.err
    row = frame.index[frame["truth"].str.strip() != ""][7]
    frame.loc[row, "truth"] = "unclear"
    result = run("estimate-share", written(frame), "--truth", "truth")
    assert result.code == 2
    told = " ".join(result.err.split())
    assert f"--truth 'truth', row {row}: 'unclear' is not one of the classes ['praise', 'complaint']" in told
    assert "label with a class for them, --labels a,b,undecided, before" in told


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("more", ["", "; labels of other rows cannot be used"])
def test_an_audit_that_nobody_has_read_yet(run, written, tmp_path, more):
    """One line says which rows to fill in; no warning comes first."""
    frame = table()
    frame["audit"] = frame["truth"] != ""
    frame["audit_inclusion"] = 0.25
    frame["truth"] = np.where(frame["audit"] | (not more), "", "praise")
    path = written(frame)
    for command in (
        ("estimate-share", path, "--truth", "truth"),
        ("report", path, "--label-column", "truth", "-o", tmp_path / "r.html"),
    ):
        result = run(*command)
        assert result.code == 2
        told = f"error: fill in 'truth' in the 100 rows where audit is True{more}"
        assert " ".join(result.err.split()).startswith(told)
    result = run("estimate-share", written(frame.assign(audit=False)), "--truth", "truth")
    assert result.code == 2
    assert "'audit' is True in no row" in result.err


def test_an_audit_that_a_spreadsheet_has_saved(run, written, tmp_path):
    """With semicolons and decimal commas it reads the same; words that were translated are named with the cure."""
    frame = table()
    frame["audit"], frame["audit_inclusion"] = frame["truth"] != "", 0.25
    frame.loc[0, ["p_praise", "p_complaint"]] = [1 - 2.5e-7, 2.5e-7]
    options = ("--truth", "truth", "--json")
    plain = run("estimate-share", written(frame), *options)
    assert plain.code == 0, plain.err
    saved = tmp_path / "saved.csv"
    frame.to_csv(saved, sep=";", decimal=",", index=False, encoding="utf-8-sig")
    result = run("estimate-share", saved, *options, "--delimiter", ";")
    assert result.code == 0, result.err
    assert json.loads(result.out) == json.loads(plain.out)
    result = run("estimate-share", written(frame.assign(audit=np.where(frame["audit"], "WAHR", "FALSCH"))), *options)
    assert result.code == 2
    told = " ".join(result.err.split())
    assert "'audit' is True in no row, and holds 'FALSCH' and 'WAHR'" in told
    assert "write True and False again" in told


@pytest.mark.parametrize("cell", ["1,234", "1,000", "12,5", "0,1,2"])
def test_a_comma_that_may_separate_thousands_is_refused(run, written, cell):
    """Nobody knows whether 1,234 is a thousand or one."""
    frame = gaps(table(), "readers", [6], cell)
    result = run("estimate-share", written(frame), "--truth", "truth", "--weight-column", "readers")
    assert result.code == 2
    assert f"'{cell}' is not a number" in result.err


def gaps(frame, name, rows, value=""):
    """The same with these cells of a column empty, or something else."""
    changed = frame.astype({name: object})
    changed.loc[rows, name] = value
    return changed


BAD_FILES = {
    "one class": (lambda f: f.drop(columns="p_praise"), (), "with the probabilities of at least two classes"),
    "sums": (lambda f: f.assign(p_praise=0.9), (), "sums to"),
    "infinite": (lambda f: gaps(f, "p_praise", [3], "inf"), (), "row 3 of proba holds inf"),
    "words": (lambda f: gaps(f, "p_praise", [3], "high"), (), "column 'p_praise', row 3: 'high' is not a number"),
    "blanks": (lambda f: f.assign(truth="  "), (), "is empty in all rows"),
    "one label": (lambda f: gaps(f, "truth", slice(None)).pipe(gaps, "truth", [5], "praise"), (), "1 labelled row"),
    "one row": (lambda f: f[f["truth"] != ""][:1], (), "1 labelled row"),
    "no rows": (lambda f: f[:0], (), "is empty in all rows|no rows|empty"),
    "authors": (lambda f: gaps(f, "author", [4, 9]), ("--cluster-column", "author"), "'author' is empty in row 4, row 9"),
    "groups": (lambda f: gaps(f, "year", [7], " "), ("--group-column", "year"), "--group-column 'year' is empty in row 7"),
    "strata": (lambda f: gaps(f, "year", [7]), ("--strata-column", "year"), "--strata-column 'year' is empty in row 7"),
    "weights": (lambda f: gaps(f, "readers", [6]), ("--weight-column", "readers"), "weights[6]=nan"),
    "negative": (lambda f: gaps(f, "readers", [6], -1), ("--weight-column", "readers"), "weights[6]=-1"),
    "chances": (lambda f: f.assign(pi=25), ("--inclusion-column", "pi"), "expected probabilities of at most 1"),
    "no chance": (lambda f: f.assign(pi=""), ("--inclusion-column", "pi"), "is missing, and the row is labelled"),
    "level": (lambda f: f, ("--confidence-level", "95"), "confidence_level=95"),
    "contrasts": (lambda f: f, ("--group-column", "year", "--differences", "all"), "'all' (--differences)"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimationWarning")
@pytest.mark.parametrize("kind", [".csv", ".parquet"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_what_a_table_lacks_is_named(run, written, name, kind):
    """With exit code 2 and the place, whatever the form of the file."""
    change, options, message = BAD_FILES[name]
    frame = change(table())
    if kind == ".parquet":
        frame = frame.astype({column: str for column in frame.columns if frame[column].dtype == object})
    result = run("estimate-share", written(frame, f"labelled{kind}"), "--truth", "truth", *options)
    said = " ".join(result.err.split())
    assert result.code == 2, said
    assert any(part in said for part in message.split("|")), said


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00a", "id,p_a,p_b,truth\n1,.5,.5,\u00e4\n".encode("latin-1"), b"\x00" * 40]
)
def test_files_that_are_no_tables_are_named(run, tmp_path, content):
    """Empty ones, and other encodings."""
    path = tmp_path / "labelled.csv"
    path.write_bytes(content)
    result = run("estimate-share", path, "--truth", "truth")
    assert result.code == 2
    assert "Traceback" not in result.err
