"""Tables as a transformer saw them in the fit: from every source of a job the same types and values, or a row with its reason."""

from __future__ import annotations

import datetime
import sqlite3
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from features.worlds import Counting
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.errors import InputError
from llmclf.features.columns import ColumnTypes
from llmclf.jobs import label_table
from llmclf.tables.files import write_table
from llmclf.tables.rows import read_rows

pytestmark = pytest.mark.filterwarnings("ignore:these scores say nothing", "ignore:the default prompt leaves out")

RNG = np.random.default_rng(0)
Y = np.where(RNG.random(40) < 0.5, "fine", "dull")
IS_FINE = Y == "fine"
SEEN: list[pd.DataFrame] = []


class Seeing(TransformerMixin, BaseEstimator):
    """Remembers the tables that it is given."""

    def fit(self, X, y=None):
        SEEN.append(X)
        self.n_ = len(X)
        return self

    def transform(self, X):
        SEEN.append(X)
        return np.array([[len(X)] for _ in range(len(X))], dtype=float)


DAY = datetime.date(2026, 1, 1)
COLUMNS = {
    "whole": np.arange(40),
    "whole with gaps": np.where(np.arange(40) % 7 == 0, np.nan, np.arange(40)),
    "float": np.arange(40) / 8,
    "float32": (np.arange(40) / 8).astype("f4"),
    "Int64": pd.array([None if i % 5 == 0 else i for i in range(40)], dtype="Int64"),
    "truth": np.arange(40) % 3 == 0,
    "boolean": pd.array([None if i % 5 == 0 else i % 2 == 0 for i in range(40)], dtype="boolean"),
    "text": [f"word {i}" for i in range(40)],
    "text with gaps": [None if i % 5 == 0 else f"word {i}" for i in range(40)],
    "digits": [f"{i:05d}" for i in range(40)],
    "category": pd.Categorical([["low", "high"][i % 2] for i in range(40)], categories=["low", "high"], ordered=True),
    "category with gaps": pd.Categorical([None if i % 5 == 0 else "xy"[i % 2] for i in range(40)]),
    "whole category": pd.Categorical(np.arange(40) % 4),
    "instant": pd.date_range("2026-01-01 12:30", periods=40, freq="h"),
    "instant with gaps": [pd.NaT if i % 5 == 0 else pd.Timestamp(2026, 1, 1 + i % 20) for i in range(40)],
    "zoned": pd.date_range("2026-01-01", periods=40, freq="h", tz="Europe/Berlin"),
    "day": [DAY + datetime.timedelta(i) for i in range(40)],
    "duration": pd.to_timedelta(np.arange(40), unit="h"),
    "decimal": [Decimal(i) / 4 for i in range(40)],
}
TABLE = pd.DataFrame({"text shown": [f"thing {i}" for i in range(40)], **COLUMNS})


@pytest.fixture(scope="module")
def seeing():
    """A classifier whose transformer has seen all types of columns."""
    return LLMClassifier(FakeBackend(), labels=["dull", "fine"], prompt="{{ name }}:", features=Seeing()).fit(
        TABLE.rename(columns={"text shown": "name"}), Y
    )


def in_sql(table, path):
    plain = table.copy()
    for name in plain.columns:
        kind = plain[name].dropna().map(type).iloc[0]
        if kind in (pd.Timestamp, datetime.date, pd.Timedelta, Decimal):
            plain[name] = [None if pd.isna(value) else str(value) for value in plain[name]]
    plain = plain.astype(object).where(plain.notna(), None)
    with sqlite3.connect(path) as connection:
        plain.to_sql("rows", connection, index=False)
    connection.close()
    return f"sqlite:///{path}?table=rows"


SOURCES = ["csv", "jsonl", "parquet", "sql", "pandas", "polars", "pandas' own csv"]


def given(table, source, folder):
    if source == "sql":
        return in_sql(table, folder / "in.sqlite")
    if source in ("pandas", "polars"):
        return (
            table
            if source == "pandas"
            else pl.from_pandas(table.drop(columns="day")).with_columns(pl.Series("day", table["day"].tolist()))
        )
    path = folder / f"in.{source.split()[-1]}"
    if source == "pandas' own csv":
        table.to_csv(path, index=False)
    else:
        write_table(table, path)
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_a_job_gives_a_transformer_what_it_saw_in_the_fit(source, seeing, tmp_path):
    """The same types and the same values in every column, gaps among them, whatever the source makes of them."""
    table = TABLE.rename(columns={"text shown": "name"})
    fitted = SEEN[0]
    assert fitted.dtypes.to_dict() == {**table.dtypes.to_dict()}
    del SEEN[1:]
    found = label_table(given(table, source, tmp_path), classifier=seeing).table
    assert set(found["error"].to_list()) <= {None}
    last = SEEN[-1]
    order = last["name"].map({name: place for place, name in enumerate(table["name"])})
    last = last.iloc[np.argsort(order)].reset_index(drop=True)
    assert len(last) == 40
    pd.testing.assert_frame_equal(last, fitted.reset_index(drop=True))


def test_one_row_has_the_types_of_the_fit(seeing):
    """Alone, and with a gap where the fit had none."""
    table = TABLE.rename(columns={"text shown": "name"})
    del SEEN[1:]
    seeing.predict(table.iloc[[5]])
    seeing.predict(table.iloc[5:7].to_dict("records"))
    for last in SEEN[1:]:
        assert last.dtypes.to_dict() == SEEN[0].dtypes.to_dict()
    gap = table.iloc[[5]].astype(object).assign(whole=None, truth=None, float=None, instant=pd.NaT)
    seeing.predict(gap)
    dtypes = SEEN[-1].dtypes
    assert (dtypes["whole"], dtypes["float"]) == (np.float64, np.float64)
    assert dtypes["instant"] == SEEN[0].dtypes["instant"]
    assert SEEN[-1][["whole", "truth", "float", "instant"]].isna().all(axis=None)
    seeing.predict(table.iloc[[5]].assign(category="unheard of"))
    assert SEEN[-1]["category"].tolist() == ["unheard of"]


FORMS = {
    "whole": ["5", " 5 ", "+5", "5.0", "5e0", 5.0, Decimal("5"), np.int8(5), True],
    "float": ["2.5", "2.50", 2, "-1e3", "inf", Decimal("2.5")],
    "truth": ["True", "true", "FALSE", "t", "1", "0", "1.0", 1, 0.0],
    "instant": ["2026-01-31", "2026-01-31 12:00:00", "2026-01-31T12:00", DAY, np.datetime64("2026-01-31")],
    "zoned": ["2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00Z"],
    "day": ["2026-01-31", "2026-01-31 00:00:00", pd.Timestamp(2026, 1, 31)],
    "duration": ["1 days 02:00:00", "P1DT2H", "02:00:00"],
    "decimal": ["2.50", 2, 2.5],
}
GAPS = ["", "NA", "nan", "NaN", "null", "None", "N/A", " ", None, float("nan"), pd.NA]
FAULTS = {
    "whole": ["five", "1,000", "1_000", "2026-01-31", "true", b"5", [5], DAY],
    "float": ["2,5", "2.5 stars"],
    "truth": ["yes", "2", 2, 0.5],
    "text": [5, 5.0, True, DAY, ["a"]],
    "digits": [7],
    "instant": ["31.01.2026", "yesterday", 1769860800, "2026-01-31T12:00:00Z"],
    "zoned": ["2026-01-31T12:00:00"],
    "day": ["2026-01-31 12:00:00", 20260131],
    "duration": ["long", 7],
    "decimal": ["2,50", "much"],
}


@pytest.fixture(scope="module")
def types():
    return ColumnTypes.of(read_rows(TABLE))


def record(types, **values):
    first = dict(zip(TABLE.columns, TABLE.iloc[1], strict=True))
    return {**first, **values}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, all_of in FORMS.items() for value in all_of])
def test_forms_of_a_value(types, name, value):
    """Each is read as a value of the fit's type."""
    made = types.frame([record(types, **{name: value})])
    assert types.problem(record(types, **{name: value})) is None
    assert made[name].dtype == TABLE[name].dtype
    assert not made[name].isna().any()


@pytest.mark.parametrize("value", GAPS, ids=repr)
def test_forms_of_a_gap(types, value):
    """What pandas reads as missing in a file is missing in every column but those of texts."""
    for name in ("whole", "float", "truth", "instant", "zoned", "day", "duration", "decimal", "Int64", "boolean"):
        assert types.frame([record(types, **{name: value})])[name].isna().all()
    made = types.frame([record(types, text="", **{"text with gaps": "", "digits": "NA"})])
    assert made[["text", "digits"]].iloc[0].tolist() == ["", "NA"]
    assert made["text with gaps"].isna().all()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, all_of in FAULTS.items() for value in all_of])
def test_what_is_no_value_of_the_fits_type(types, name, value):
    """The reason names column, value, what was expected and the cure."""
    problem = types.problem(record(types, **{name: value}))
    assert f"column {name!r} holds {value!r}" in problem.reason
    assert "in the fit; " in problem.reason
    with pytest.raises(InputError, match="in the fit; (write|give)"):
        types.frame([record(types), record(types, **{name: value})])


def stars_and_places():
    return ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
            ("c", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        ]
    )


@pytest.fixture(scope="module")
def table():
    places = pd.Categorical(np.where(IS_FINE ^ (RNG.random(40) < 0.2), "here", "there"))
    return pd.DataFrame(
        {
            "note": [f"thing {i}" for i in range(40)],
            "stars": np.where(np.arange(40) == 39, 2, IS_FINE * 2 + 1),
            "place": places,
        }
    )


def test_columns_chosen_by_their_type(table, tmp_path):
    """Categories and numbers are found by selectors, and a job from CSV gives the probabilities of predict."""
    clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], prompt="{{ note }}:", features=stars_and_places())
    clf.fit(table, Y)
    assert clf.predict(table).tolist() == Y.tolist()
    rows = table.astype({"stars": object, "place": object})
    rows.loc[3, "stars"] = None
    rows.loc[4, "place"] = "elsewhere"
    write_table(rows, tmp_path / "in.csv")
    found = label_table(tmp_path / "in.csv", classifier=clf).table
    assert found[["p_dull", "p_fine"]].to_numpy() == pytest.approx(clf.predict_proba(rows), abs=1e-9)


def test_values_of_another_type_are_refused_before_anything_is_asked(table, tmp_path):
    """In all rows: the job is refused. In one: that row has its reason, is not asked about, and the others have labels."""
    clf = LLMClassifier(
        Counting(), labels=["dull", "fine"], prompt="{{ note }}:", features=stars_and_places(), on_error="missing"
    ).fit(table, Y)
    backend = clf.pipeline_.backend
    backend.n = 0
    write_table(table.assign(stars="many"), tmp_path / "all.csv")
    with pytest.raises(InputError, match=r"none of the 40 rows .* column 'stars' holds 'many', a str, .*write numbers"):
        label_table(tmp_path / "all.csv", classifier=clf)
    one = table.astype({"stars": object})
    one.loc[7, "stars"] = "many"
    with pytest.raises(InputError, match=r"row 7, column 'stars' holds 'many', a str, and held numbers in the fit"):
        clf.set_params(on_error="raise").predict(one)
    assert backend.n == 0
    write_table(one, tmp_path / "one.csv")
    found = label_table(tmp_path / "one.csv", classifier=clf).table
    assert np.flatnonzero(found["error"].notna()).tolist() == [7]
    assert "column 'stars' holds 'many'" in found["error"][7]
    assert backend.n == 39
    assert np.flatnonzero(np.isnan(clf.set_params(on_error="missing").predict_proba(one)).any(axis=1)).tolist() == [7]
    assert "column 'stars' holds 'many'" in clf.score_rows(one)[7].error
    assert backend.n == 3 * 39


def test_a_table_of_one_column(tmp_path):
    """Which the prompt shows and a transformer reads as numbers, too."""
    numbers = pd.DataFrame({"stars": np.arange(40) + 50 * IS_FINE})
    clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], prompt="{{ stars }}:", features=StandardScaler())
    clf.fit(numbers, Y)
    write_table(numbers, tmp_path / "in.csv")
    found = label_table(tmp_path / "in.csv", classifier=clf).table
    assert found[["p_dull", "p_fine"]].to_numpy() == pytest.approx(clf.predict_proba(numbers), abs=1e-9)
    words = ["three" if place == 3 else number for place, number in enumerate(numbers["stars"])]
    write_table(pd.DataFrame({"stars": words}), tmp_path / "in.csv")
    found = label_table(tmp_path / "in.csv", classifier=clf).table
    assert np.flatnonzero(found["error"].notna()).tolist() == [3]
