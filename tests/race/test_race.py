"""A race of a classifier: one scoring pass, nothing of the caller's changed, and its result in every form."""

from __future__ import annotations

import json
import math
import warnings
from importlib import resources

import jsonschema
import numpy as np
import pandas as pd
import pytest
from faults import FakeServer
from pages import HOSTILE, Watched
from race.worlds import ASKED, CountingBackend, StatesBackend, texts
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import FunctionTransformer

from llmclf import LLMClassifier, open_backend
from llmclf.backends import FakeBackend
from llmclf.errors import CalibrationWarning, InputError
from llmclf.features import Embeddings
from llmclf.race import Race

CLASSES = ["no", "yes"]
SCHEMA = json.loads((resources.files("llmclf.report") / "report.schema.json").read_text())


@pytest.fixture(autouse=True)
def nothing_asked():
    ASKED.clear()


def classifier(backend=None, **options) -> LLMClassifier:
    return LLMClassifier(CountingBackend() if backend is None else backend, labels=CLASSES, **options)


@pytest.fixture(scope="module")
def race() -> Race:
    return LLMClassifier(FakeBackend(), labels=CLASSES).race(*texts(24))


class TestAsking:
    def test_the_model_is_asked_about_each_row_once(self):
        """Whatever the number of contestants, folds and sizes; equal texts are asked once."""
        X, y = texts(23)
        classifier().race([*X, X[0]], [*y, y[0]])
        assert len(ASKED) == len(set(ASKED)) == 23

    def test_nothing_of_the_callers_changes(self):
        """An unfitted classifier stays unfitted, and its parameters stay as they are."""
        clf = classifier(calibrator="temperature")
        before = repr(clf)
        clf.race(*texts(24))
        assert repr(clf) == before
        assert not hasattr(clf, "pipeline_")
        assert clf.features is None

    def test_a_fitted_one_stays_fitted_as_it_was(self):
        """On other rows than those of the race."""
        clf = classifier().fit(["any text"])
        fitted = clf.pipeline_
        clf.race(*texts(24))
        assert clf.pipeline_ is fitted

    @pytest.mark.slow
    def test_a_cache_answers_the_second_race(self, tmp_path):
        """Then the model's speed is unknown, and that of the words is not."""
        clf = classifier(cache=tmp_path / "scores.sqlite")
        first = clf.race(*texts(24)).to_frame()
        assert first.loc["pool", "rows_per_second"] > 0
        ASKED.clear()
        second = clf.race(*texts(24))
        assert not ASKED
        rates = second.to_frame()["rows_per_second"]
        assert rates.drop("text alone").isna().all()
        assert rates["text alone"] > 0
        assert "all scores came from the cache" in second.to_markdown()

    def test_shots_do_not_race(self):
        """Nor do copies of them: they stand in the prompt with their answers."""
        X, y = texts(26)
        race = classifier(n_shots=2, random_state=0).race(X, y)
        assert (race.to_dict()["rows"]["n"], race.to_dict()["rows"]["n_shots"]) == (24, 2)
        assert len(ASKED) == 24

    def test_rows_that_cannot_be_asked_about_are_left_out(self):
        """With a warning, as in a fit."""
        X, y = texts(24)
        with pytest.warns(CalibrationWarning, match="1 of 25 training rows could not be scored"):
            race = classifier(on_error="missing").race([*X, " "], [*y, "no"])
        assert (race.to_dict()["rows"]["n"], race.to_dict()["rows"]["n_unscored"]) == (24, 1)

    def test_a_transformer_that_asks_nobody_needs_no_model(self):
        """As the words of the text do not; the verdict says so of both."""
        X, y = texts(40)
        race = classifier(features=HashingVectorizer(n_features=64)).race(X, y)
        needed = {one["name"]: one["needs_model"] for one in race.to_dict()["contestants"]}
        assert not needed["HashingVectorizer alone"]
        assert not needed["text alone"]
        assert needed["pool"]

    def test_rows_whose_features_cannot_be_read_are_left_out(self):
        """As in a fit: with a warning, or in one error that names the row."""
        X, y = texts(25)
        X[3] = f"{X[3]} odd"
        lengths = FunctionTransformer(
            lambda texts: np.array([[np.nan if text.endswith("odd") else len(text)] for text in texts])
        )
        with pytest.warns(CalibrationWarning, match="1 of 25 training rows .*row 3"):
            race = classifier(on_error="missing", features=lengths).race(X, y)
        assert (race.to_dict()["rows"]["n"], race.to_dict()["rows"]["n_unscored"]) == (24, 1)
        with pytest.raises(InputError, match="row 3"):
            classifier(features=lengths).race(X, y)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"sizes": [20, 0]}, r"sizes=\[20, 0\] holds 0; expected whole numbers of labels of at least 20"),
            ({"sizes": [20.5]}, "holds 20.5"),
            ({"sizes": [True]}, "holds True"),
            ({"sizes": "20"}, "sizes='20'; expected"),
            ({"sizes": 20}, "sizes=20; expected"),
            ({"sizes": [24]}, "24 labels cannot be drawn from 19"),
            ({"n_draws": 0}, "n_draws=0; expected"),
            ({"margin": 1}, "margin=1; expected"),
            ({"confidence": 95}, "confidence=95; expected"),
            ({"random_state": None}, "random_state=None; expected"),
            ({"groups": ["one"] * 24}, "belong to 1 group "),
            ({"groups": [1, 2]}, "groups has 2 entries"),
        ],
    )
    def test_arguments(self, options, message):
        """Each is named, before the model is asked."""
        with pytest.raises(InputError, match=message):
            classifier().race(*texts(24), **options)
        assert not ASKED

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (texts(19), "there are 19 labelled rows .* at least 20"),
            ((texts(24)[0], ["no"] * 24), "class 'no'"),
            ((texts(24)[0], None), "requires y to be passed"),
            ((texts(24)[0], texts(23)[1]), "23"),
        ],
    )
    def test_rows(self, rows, message):
        """Too few, of one class, or without labels: one error each, before the model is asked."""
        with pytest.raises(InputError, match=message):
            classifier().race(*rows)
        assert not ASKED

    def test_states_of_a_backend_without(self):
        """The error says what can be used instead."""
        with pytest.raises(InputError, match="shows no hidden states"):
            classifier(features="states").race(*texts(24))
        assert not ASKED

    def test_too_few_after_shots(self):
        """Shots do not count."""
        with pytest.raises(InputError, match="there are 18 labelled rows"):
            classifier(n_shots=4, random_state=0).race(*texts(22))
        assert not ASKED


class TestContestants:
    @pytest.mark.parametrize(
        ("features", "names"),
        [
            (None, ["text alone", "states alone"]),
            ("auto", ["text alone", "states alone"]),
            ("states", ["text alone", "states alone"]),
            ("tfidf", ["text alone"]),
            (HashingVectorizer(n_features=64), ["text alone", "HashingVectorizer alone"]),
            (["states", HashingVectorizer(n_features=64)], ["text alone", "HashingVectorizer alone", "states alone"]),
        ],
    )
    def test_each_feature_set_alone(self, features, names):
        """Text alone races in any case; what the pool learns from are the classifier's features."""
        race = classifier(StatesBackend(), features=features).race(*texts(24))
        expected = ["class frequencies", *names, "label words, raw", "label words, calibrated", "pool"]
        assert race.to_frame().index.tolist() == expected
        named = {"states": ["states"], "tfidf": ["tfidf"], None: ["states", "tfidf"], "auto": ["states", "tfidf"]}
        if features is None or isinstance(features, str):
            assert race.to_dict()["provenance"]["features"] == named[features]

    def test_texts_without_words(self):
        """Where the caller does not ask for words, texts without any are no error."""
        X = ["!" * (i + 1) for i in range(24)]
        race = classifier(StatesBackend(), features="states").race(X, texts(24)[1])
        assert "text alone" not in race.to_frame().index

    @pytest.mark.slow
    def test_tables(self):
        """Rows of a table, with a column that names the groups."""
        X, y = texts(48)
        table = pd.DataFrame({"text": X, "author": [f"author {i // 2}" for i in range(48)]})
        race = classifier(prompt="{{ text }}\nAnswer:").race(table, y, groups="author", sizes=[])
        assert race.to_dict()["rows"]["n_groups"] == 24
        assert "24 groups" in race.to_markdown()

    def test_classes_that_are_numbers(self):
        """As in a fit."""
        X, y = texts(24)
        clf = LLMClassifier(FakeBackend(), labels={0: "no", 1: "yes"})
        assert clf.race(X, [int(label == "yes") for label in y]).to_dict()["rows"]["n_classes"] == 2

    def test_the_true_class_is_learned_from_words(self, race):
        """The last word of each text tells the class, and the fake model knows nothing."""
        frame = race.to_frame()
        assert frame["log_loss"].idxmin() == "text alone"
        assert frame.loc["text alone", "accuracy"] > frame.loc["class frequencies", "accuracy"]

    def test_a_prior_is_left_out(self, race):
        """It is about other rows."""
        with_prior = LLMClassifier(FakeBackend(), labels=CLASSES, prior={"no": 0.9, "yes": 0.1}).race(*texts(24))
        assert with_prior.to_frame()["log_loss"].tolist() == race.to_frame()["log_loss"].tolist()


class TestForms:
    def test_the_frame(self, race):
        """Intervals around their values, differences to the pool and to the best."""
        frame = race.to_frame()
        assert frame.loc["pool", ["vs_pool", "vs_pool_low", "vs_pool_high"]].tolist() == [0.0, 0.0, 0.0]
        assert frame["vs_pool"].to_numpy() == pytest.approx(frame["log_loss"] - frame.loc["pool", "log_loss"])
        assert frame["vs_best"].min() == 0.0
        for name in ("accuracy", "log_loss"):
            assert (frame[f"{name}_low"] <= frame[name]).all()
            assert (frame[name] <= frame[f"{name}_high"]).all()
        assert math.isnan(frame.loc["text alone", "cost_per_1000_rows"])

    def test_the_curve(self, race):
        """The last point of each contestant is its line of the table."""
        last = race.curve().groupby("contestant").last()
        assert last["labels"].unique().tolist() == [19]
        assert last["log_loss"].to_dict() == pytest.approx(race.to_frame()["log_loss"].to_dict())

    def test_the_same_twice(self, race):
        """The same rows give the same numbers."""
        again = LLMClassifier(FakeBackend(), labels=CLASSES).race(*texts(24))
        columns = [name for name in race.to_frame() if name != "rows_per_second"]
        pd.testing.assert_frame_equal(again.to_frame()[columns], race.to_frame()[columns])
        assert again.verdict == race.verdict

    def test_json(self, race, tmp_path):
        """A race is what its JSON says, which follows the report's schema."""
        text = race.to_json(tmp_path / "race.json")
        assert (tmp_path / "race.json").read_text() == text
        again = Race(json.loads(text))
        assert again.to_markdown() == race.to_markdown()
        jsonschema.validate(race.to_dict(), {**SCHEMA["properties"]["race"], "$defs": SCHEMA["$defs"]})

    def test_to_dict_is_a_copy(self, race):
        """Who changes it does not change the race."""
        race.to_dict()["contestants"].clear()
        assert race.to_dict()["contestants"]

    def test_repr(self, race):
        """With the verdict."""
        assert repr(race) == f"<Race on 24 rows: {race.verdict}>"

    def test_markdown(self, race):
        """The verdict, a table of contestants, a table of the curve."""
        text = race.to_markdown()
        assert "| text alone |" in text
        assert "| Labels | 19 |" in text

    def test_the_plot(self, race):
        """Two panels with a line for each contestant."""
        from matplotlib.figure import Figure

        figure = race.plot(Figure())
        assert [ax.get_ylabel() for ax in figure.axes] == ["Accuracy", "Log loss (nats)"]
        assert all(len(ax.lines) == 5 for ax in figure.axes)

    def test_the_page(self, race, tmp_path):
        """It stands alone: no script, no link; the notebook shows it in a frame."""
        page = race.to_html(tmp_path / "race.html")
        assert (tmp_path / "race.html").read_text(encoding="utf-8") == page
        assert "<script" not in page
        assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
        assert race._repr_html_().startswith("<iframe")

    def test_a_hostile_page(self, race, browser, tmp_path):
        """Whatever a model or a transformer is called, the page is quiet, and fits a phone."""
        data = race.to_dict()
        names = {one["name"]: f"{one['name']} {HOSTILE[i]}" for i, one in enumerate(data["contestants"])}
        for one in (*data["contestants"], *data["curve"]):
            key = "name" if "name" in one else "contestant"
            one[key] = names[one[key]]
        data["provenance"]["model"] = dict(enumerate(HOSTILE))
        Race(data).to_html(tmp_path / "race.html")
        watched = Watched(browser, tmp_path / "race.html", viewport={"width": 400, "height": 900})
        assert watched.quiet()
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= 400
        assert watched.page.locator("#verdict").inner_text() == race.verdict
        watched.page.close()


class TestInReports:
    @pytest.mark.slow
    def test_a_race_in_a_report(self, race):
        """The page holds verdict, table and curves of the race; the JSON follows the schema."""
        X, y = texts(24)
        report = classifier().fit(X).report(X, y, race=race)
        page = report.to_html()
        assert "What do the labels buy?" in page
        assert race.verdict in page
        assert "Learning curves" in page
        assert "label words, calibrated" in report.to_markdown()
        jsonschema.validate(report.to_dict(), SCHEMA)

    @pytest.mark.slow
    def test_the_members_of_a_pool_in_a_report(self):
        """A classifier with features shows what each member is worth, as long as its rows are there."""
        X, y = texts(24)
        clf = classifier(features="tfidf").fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)
            report = clf.report(X, y)
        members = report.to_dict()["members"]
        assert [one["member"] for one in members] == clf.stack_.to_frame().index.tolist()
        assert 'id="members"' in report.to_html()
        assert "Member of the pool" in report.to_markdown()
        jsonschema.validate(report.to_dict(), SCHEMA)

    def test_reports_without(self):
        """Without features and race there is no such section."""
        X, y = texts(24)
        report = classifier().fit(X).report(X, y)
        assert report.to_dict()["members"] is report.to_dict()["race"] is None
        assert "What do the labels buy?" not in report.to_html()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"race": 3}, "race is an int; expected what"),
            ({"race": {}}, "race is a dict"),
            ({"members": 3}, "members lack"),
        ],
    )
    def test_what_is_no_race(self, options, message):
        """It is named."""
        from llmclf.report import CalibrationReport

        with pytest.raises(InputError, match=message):
            CalibrationReport([0, 1], [[0.9, 0.1], [0.2, 0.8]], **options)


class TestServers:
    def test_the_price_of_an_api(self, no_waiting):
        """Cost by the price table and tokens, for 1,000 rows, as the server counted them; text alone needs no model."""
        X, y = texts(24)
        with FakeServer("vllm") as server:
            backend = open_backend(
                f"openai:{server.name}", base_url=server.url, price={"input": 1000.0, "output": 2000.0}
            )
            clf = LLMClassifier(backend, labels={"no": "negative", "yes": "positive"})
            race = clf.race(X, y)
            usage = backend.usage
        frame = race.to_frame()
        assert frame.loc["pool", "cost_per_1000_rows"] == frame.loc["label words, raw", "cost_per_1000_rows"]
        assert 0 < frame.loc["pool", "cost_per_1000_rows"] <= 1000 * usage.cost / 24
        assert 0 < frame.loc["pool", "tokens_per_1000_rows"] <= 1000 * (usage.tokens_in + usage.tokens_out) / 24
        assert frame.loc[["text alone", "class frequencies"], "cost_per_1000_rows"].isna().all()
        assert "for 1,000 rows" in race.to_markdown()
        assert "states alone" not in frame.index

    @pytest.mark.slow
    @pytest.mark.parametrize("price", [None, {"input": 1000.0, "output": 0.0}])
    def test_embeddings_have_a_price_of_their_own(self, no_waiting, price):
        """Alone they cost what their server charges, and so does a pool with a local model; each text is asked once."""
        X, y = texts(24)
        with FakeServer("embeddings") as server:
            embeddings = Embeddings(f"openai:{server.name}", base_url=server.url, price=price)
            race = classifier(features=["tfidf", embeddings]).race(X, y)
            asked = [text for request in server.requests for text in request.body.get("input", [])]
        assert sorted(asked) == sorted(X)
        frame = race.to_frame()
        assert frame.loc["embeddings alone", "tokens_per_1000_rows"] == frame.loc["pool", "tokens_per_1000_rows"] > 0
        costs = frame.loc[["embeddings alone", "pool"], "cost_per_1000_rows"]
        assert costs.isna().all() if price is None else costs.nunique() == 1
        assert frame.loc[["text alone", "label words, raw"], "tokens_per_1000_rows"].isna().all()
        lines = {one["name"]: one["needs_model"] for one in race.to_dict()["contestants"]}
        assert lines["embeddings alone"]
        assert not lines["text alone"]

    @pytest.mark.slow
    def test_embeddings_from_a_cache_have_no_price(self, no_waiting, tmp_path):
        """Nor have those of which the cache holds a part; what was asked in full has one."""
        X, y = texts(24)
        with FakeServer("embeddings") as server:
            embeddings = Embeddings(f"openai:{server.name}", base_url=server.url, cache=tmp_path / "vectors.sqlite")
            clf = classifier(features=embeddings)
            first, second = clf.race(X, y), clf.race(X, y)
            third = clf.race(*texts(24, start=12))
        tokens = [race.to_frame().loc["embeddings alone", "tokens_per_1000_rows"] for race in (first, second, third)]
        assert tokens[0] > 0
        assert np.isnan(tokens[1:]).all()
        assert math.isnan(second.to_frame().loc["embeddings alone", "rows_per_second"])

    def test_without_a_price_table(self, no_waiting):
        """The cost is unknown, and the tokens are not."""
        X, y = texts(24)
        with FakeServer("vllm") as server:
            backend = open_backend(f"openai:{server.name}", base_url=server.url)
            race = LLMClassifier(backend, labels={"no": "negative", "yes": "positive"}).race(X, y)
        frame = race.to_frame()
        assert frame["cost_per_1000_rows"].isna().all()
        assert frame.loc["pool", "tokens_per_1000_rows"] > 0


@pytest.mark.slow
def test_smollm2(smollm2, tmp_path):
    """Real states of a real model: questions and statements, of which it knows more than the words tell."""
    rng = np.random.default_rng(0)
    things = [
        "the train",
        "your brother",
        "the old house",
        "this soup",
        "our teacher",
        "the blue car",
        "a doctor",
        "the film",
    ]
    ends = [
        "late again",
        "made of wood",
        "too expensive",
        "from Spain",
        "in the garden",
        "very quiet",
        "almost ready",
        "new",
    ]
    X, y = [], []
    for i in range(40):
        thing, end = things[rng.integers(8)], ends[rng.integers(8)]
        X.append(f"{thing.capitalize()} is {end} {i}" if i % 2 else f"is {thing} {end} {i}".capitalize())
        y.append("statement" if i % 2 else "question")
    clf = LLMClassifier(smollm2, labels=["question", "statement"], cache=tmp_path / "scores.sqlite")
    race = clf.race(X, y, sizes=[20], n_draws=1)
    frame = race.to_frame()
    assert "states alone" in frame.index
    assert frame.loc["states alone", "log_loss"] < frame.loc["class frequencies", "log_loss"]
    assert 0 < frame.loc["pool", "rows_per_second"] < frame.loc["text alone", "rows_per_second"]
    assert clf.race(X, y, sizes=[20], n_draws=1).to_frame().loc["pool", "log_loss"] == frame.loc["pool", "log_loss"]
