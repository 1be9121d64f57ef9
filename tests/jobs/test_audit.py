"""Rows of a job's output that are marked to be labelled by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.backends import FakeBackend, RowScores
from llmclf.errors import InputError
from llmclf.estimation import estimate_shares, next_rows
from llmclf.jobs import label_table
from llmclf.jobs.audit import Audit
from llmclf.tables.files import read_table

N_ROWS = 5000  # two pieces of a table
JOB = {"id_column": "id", "text_column": "text", "labels": ["good", "bad", "mixed"]}


class NoBackend(FakeBackend):
    """A model that must not be asked."""

    def score(self, requests):
        raise AssertionError("a question was asked")


class FailingBackend(FakeBackend):
    """A model that answers nothing about some texts."""

    def score(self, requests):
        for place, scores in super().score(requests):
            failed = "text 7" in requests[place].prompt.text
            yield place, RowScores((), error="it failed") if failed else scores


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(N_ROWS), "text": [f"text {i % 4000}" for i in range(N_ROWS)]})


def test_marks_rows_with_their_probabilities(table: pd.DataFrame, tmp_path: Path) -> None:
    """Exactly as many rows as asked for; each row has a probability, the same for all of its stratum."""
    out = tmp_path / "out.parquet"
    label_table(table, out, model=FakeBackend(), audit=120, **JOB)
    found = read_table(out)
    assert list(found.columns[-3:]) == ["audit", "audit_inclusion", "audit_stratum"]
    assert str(found["audit"].dtype).startswith("bool")
    assert found["audit"].sum() == 120
    assert found["audit_inclusion"].sum() == pytest.approx(120)
    shares = found.groupby("audit_stratum").agg(drawn=("audit", "mean"), inclusion=("audit_inclusion", "unique"))
    assert len(shares) > 3
    assert all(
        one.tolist() == pytest.approx([drawn]) for drawn, one in zip(shares.drawn, shares.inclusion, strict=True)
    )


def test_the_design_is_that_of_next_rows(table: pd.DataFrame) -> None:
    """A table read in pieces is drawn from as one that is held as a whole."""
    found = label_table(table, model=FakeBackend(), audit=120, audit_goal="accuracy", audit_seed=3, **JOB).table
    proba = found[["p_bad", "p_good", "p_mixed"]].to_numpy()
    chosen = next_rows(proba, 120, "accuracy", random_state=3)
    np.testing.assert_allclose(found["audit_inclusion"], chosen.inclusion)
    np.testing.assert_array_equal(np.flatnonzero(found["audit"]), chosen.rows)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_finished_job_is_marked_without_asking(table: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    """A resumed job marks the same rows by the same seed, others by another, and asks nothing."""
    out = tmp_path / f"out{suffix}"
    label_table(table, out, model=FakeBackend(), **JOB)
    marks = []
    for seed in (1, 1, 2):
        label_table(table, out, model=NoBackend(), audit=50, audit_seed=seed, resume=True, **JOB)
        marks.append([str(value).lower() for value in read_table(out)["audit"]])
    assert marks[0] == marks[1] != marks[2]
    assert marks[0].count("true") == 50


def test_parts_are_drawn_from_by_themselves(table: pd.DataFrame) -> None:
    """Each shard marks its own number of rows, in strata that bear its name."""
    parts = [
        label_table(table, model=FakeBackend(), audit=40, shard=f"{i}/2", audit_goal="threshold", **JOB).table
        for i in (1, 2)
    ]
    whole = pd.concat(parts)
    assert len(whole) == N_ROWS
    assert whole["audit"].sum() == 80
    assert whole["audit_inclusion"].sum() == pytest.approx(80)
    assert {name.split(":")[0] for name in whole["audit_stratum"]} == {"1/2", "2/2"}


def test_rows_without_a_label_have_a_chance(table: pd.DataFrame) -> None:
    """A row that the model did not answer can be marked as well."""
    found = label_table(table, model=FailingBackend(), audit=300, **JOB).table
    failed = found["error"].notna()
    assert failed.sum() > 100
    assert found.loc[failed, "audit_inclusion"].min() > 0.02
    assert found.loc[failed, "audit"].any()


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimationWarning")  # no row is mixed
def test_the_circle_closes(table: pd.DataFrame) -> None:
    """Labels of the marked rows, with the columns beside them, give shares of the whole table."""
    found = label_table(table, model=FakeBackend(), audit=300, **JOB).table
    truth = np.where(np.random.default_rng(0).random(N_ROWS) < found["p_good"], "good", "bad")
    rows = np.flatnonzero(found["audit"])
    estimates = estimate_shares(
        found[["p_bad", "p_good", "p_mixed"]].to_numpy(),
        truth[rows],
        rows,
        classes=["bad", "good", "mixed"],
        inclusion=found["audit_inclusion"],
        strata=found["audit_stratum"],
    )
    frame = estimates.to_frame().set_index("class")
    assert frame.loc["good", "low"] < (truth == "good").mean() < frame.loc["good", "high"]
    assert frame.loc["good", "high"] - frame.loc["good", "low"] < 0.14


def test_more_than_all(tmp_path: Path) -> None:
    """Of a small table all rows are marked."""
    found = label_table(
        pd.DataFrame({"text": ["a", "b"]}), text_column="text", labels=["x", "y"], model=FakeBackend(), audit=9
    )
    assert found.table["audit"].tolist() == [True, True]
    assert found.table["audit_inclusion"].tolist() == [1.0, 1.0]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.lists(st.integers(0, 300), max_size=4), st.integers(1, 50), st.integers(0, 5))
def test_pieces_do_not_matter(n_rows: int, cuts: list[int], n_drawn: int, seed: int) -> None:
    """How a table is cut into pieces changes nothing."""
    proba = np.random.default_rng(seed).dirichlet([0.3, 0.3, 0.3], n_rows)
    pieces = np.split(proba, sorted({min(cut, n_rows) for cut in cuts}))
    audit = Audit.checked(n_drawn, "share", seed)
    one, many = audit.draw([proba], 3), audit.draw(pieces, 3)
    whole = one.columns(proba)["audit"]
    assert whole.sum() == min(n_drawn, n_rows)
    np.testing.assert_array_equal(np.concatenate([many.columns(piece)["audit"] for piece in pieces]), whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"audit": 0}, "audit=0"),
        ({"audit": 5, "audit_goal": "fun"}, "goal='fun'"),
        ({"audit": 5, "audit_seed": -1}, "audit_seed=-1"),
    ],
)
def test_refuses_before_asking(table: pd.DataFrame, arguments: dict, message: str) -> None:
    """A number, a goal or a seed that cannot be used is refused before the first question."""
    with pytest.raises(InputError, match=message):
        label_table(table, model=NoBackend(), **arguments, **JOB)
