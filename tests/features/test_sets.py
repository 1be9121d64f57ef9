"""features= of the classifier: names and transformers, what they read of rows, and what is refused before the model is asked."""

from __future__ import annotations

import json
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from faults import FakeServer
from features.worlds import Counting
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from llmclf import LLMClassifier, load
from llmclf.backends import FakeBackend, open_backend
from llmclf.errors import CalibrationWarning, InputError, PromptWarning, StoreError
from llmclf.features.readers import row_texts
from llmclf.features.sets import feature_readers

RNG = np.random.default_rng(0)
Y = np.where(RNG.random(80) < 0.5, "fine", "dull")
X = [f"{'grand lovely' if y == 'fine' else 'slow grey'} thing number {i}" for i, y in enumerate(Y)]
MUTE_TEXTS = [f"thing number {i}" for i in range(80)]
NEW = ["a lovely film", "grey and slow", "nothing of the kind"]


def classifier(features="tfidf", model=None, **options):
    return LLMClassifier(model or FakeBackend(), labels=["dull", "fine"], features=features, **options)


def lengths(texts):
    return np.array([[len(text), text.count(" ")] for text in texts], dtype=float)


LENGTHS = FunctionTransformer(lengths)


class Supervised(TransformerMixin, BaseEstimator):
    """Remembers the labels that it was given."""

    def fit(self, X, y):
        self.mean_ = float(np.mean(np.asarray(y, dtype=float)))
        self.n_ = len(X)
        return self

    def transform(self, X):
        return np.full((len(X), 1), self.mean_) + np.array([[len(text)] for text in X])


@pytest.mark.parametrize("features", ["tfidf", "auto", ["tfidf"], [TfidfVectorizer()], LENGTHS, ["tfidf", LENGTHS]])
def test_words_are_learned(features):
    """Whatever is named, fit, predict, cross-fitted rows, the threshold and the frame work together."""
    clf = classifier(features).fit(X, Y)
    proba = clf.predict_proba(NEW)
    assert proba.shape == (3, 2)
    assert proba.sum(axis=1) == pytest.approx(np.ones(3))
    assert clf.calibration_proba_.shape == (80, 2)
    assert {"temperature", "frequencies"} <= set(clf.stack_.to_frame().index)
    assert clf.fit_threshold(max_error=0.2).threshold_ is not None
    if not (features is LENGTHS or (isinstance(features, list) and LENGTHS in features)):
        assert clf.predict(NEW[:2]).tolist() == ["fine", "dull"]
        assert (clf.calibration_proba_.argmax(axis=1) == (Y == "fine")).mean() > 0.95


def test_one_scoring_pass():
    """Each text is asked once, however many members there are."""
    backend = Counting()
    clf = classifier(["tfidf", LENGTHS], backend).fit(X, Y)
    assert backend.n == 80
    _ = clf.calibration_proba_
    clf.stack_.to_frame()
    assert backend.n == 80


def test_the_report_and_weights_and_prior():
    """Report, sample weights, groups and a prior work with features."""
    clf = classifier(prior={"dull": 0.9, "fine": 0.1}).fit(X, Y, sample_weight=np.ones(80), groups=np.arange(80) // 2)
    assert clf.predict_proba(NEW).mean(axis=0)[0] > classifier().fit(X, Y).predict_proba(NEW).mean(axis=0)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        data = classifier().fit(X, Y).report(X, Y).to_dict()
    json.dumps(data)
    assert data["provenance"]["calibrator"]["feature_sets"] == ["tfidf"]
    assert data["metrics"]["accuracy"]["after"]["value"] > 0.95


def test_rows_that_cannot_be_scored():
    """They are NaN, and the others have the probabilities that they have alone."""
    clf = classifier(on_error="missing").fit(X, Y)
    proba = clf.predict_proba([NEW[0], None, NEW[1]])
    assert np.isnan(proba[1]).all()
    assert proba[[0, 2]] == pytest.approx(clf.predict_proba(NEW[:2]), abs=1e-12)


def test_tables():
    """Of a table, the words of the fields that the prompt shows are read, and a transformer gets the table."""
    table = pd.DataFrame({"title": X, "stars": np.where(Y == "fine", 5, 1), "noise": RNG.normal(size=80)})
    table.loc[0, "stars"] = 6 - table.loc[0, "stars"]  # else it would be the answer itself
    seen = []

    def stars(frame):
        seen.append(list(frame.columns))
        return frame[["stars"]].to_numpy(dtype=float)

    clf = LLMClassifier(
        FakeBackend(),
        labels=["dull", "fine"],
        prompt="{{ title }}\nMood:",
        features=["tfidf", FunctionTransformer(stars)],
    )
    clf.fit(table, Y)
    assert seen[0] == ["title", "stars", "noise"]
    assert clf.predict(table.iloc[:5]).tolist() == Y[:5].tolist()
    assert row_texts([{"title": "a", "stars": 5}], ["title", "stars"]) == ["a\n5"]


def test_a_transformer_that_learns_is_fitted_outside_of_each_fold():
    """It is cloned, never fitted itself, and sees only rows and labels of the other folds."""
    transformer = Supervised()
    clf = classifier(transformer).fit(X, Y)
    assert not hasattr(transformer, "mean_")
    head = clf.stack_.members_["Supervised"]
    assert head.scalings["Supervised"].transformer.n_ == 80
    assert np.isfinite(clf.predict_proba(NEW)).all()


def test_a_transformer_without_state_is_asked_once_per_call():
    """It is not asked again for every fold."""
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return lengths(texts)

    clf = classifier(FunctionTransformer(counted)).fit(X, Y)
    clf.predict(NEW)
    assert calls == [80, 3]


def test_sparse_features():
    """A transformer may give a sparse matrix."""
    assert classifier(HashingVectorizer(n_features=64)).fit(X, Y).predict(NEW[:2]).tolist() == ["fine", "dull"]


def test_scikit_learn_tools():
    """Clone, search and cross-validation treat features= as any parameter."""
    clf = classifier()
    assert clone(clf).features == "tfidf"
    search = GridSearchCV(clf, {"features": [None, "tfidf"]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"features": "tfidf"}
    proba = cross_val_predict(clf, X, Y, cv=3, method="predict_proba")
    assert (proba.argmax(axis=1) == (Y == "fine")).mean() > 0.95


@pytest.mark.parametrize("calibrator", [None, "auto", "vector", "stacked"])
def test_calibrator_is_a_member(calibrator):
    """A named calibrator becomes the member of the label scores."""
    clf = classifier(calibrator=calibrator).fit(X, Y)
    label_maps = {"temperature", "bias_temperature", "vector"} & set(clf.stack_.members_)
    assert label_maps == ({"vector"} if calibrator == "vector" else {"temperature", "bias_temperature", "vector"})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("words", "features='words': expected one of 'auto', 'states', 'tfidf', Embeddings"),
        ([], r"features=\[\] names no features"),
        (TfidfVectorizer, "an instance, not a class"),
        (3, "features=3"),
        (["tfidf", "auto"], "names 'tfidf' twice"),
        ("states", "shows no hidden states of its model; use features='tfidf' or Embeddings"),
        (FunctionTransformer(lambda texts: np.full((len(texts), 1), np.nan)), "NaN or infinite"),
        (FunctionTransformer(lambda texts: np.zeros((len(texts) + 1, 1))), "have 81 rows, and there are 80"),
        (FunctionTransformer(lambda texts: np.array([["a"]] * len(texts), dtype=object)), "are no numbers"),
        (FunctionTransformer(lambda texts: np.zeros(len(texts))), r"have shape \(80,\)"),
        (FunctionTransformer(lambda texts: texts.shape), "cannot read the rows, which it gets as texts"),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_model_is_asked(features, message):
    """With the value and the cure."""
    backend = Counting()
    with pytest.raises(InputError, match=message):
        classifier(features, backend).fit(X, Y)
    assert backend.n == 0


def test_labels_are_needed():
    """No y, and labels of one class, are refused before the model is asked."""
    backend = Counting()
    with pytest.raises(InputError, match=r"requires y to be passed.*features='tfidf'"):
        classifier(model=backend).fit(X)
    with pytest.raises(
        InputError, match="have the class 'fine'; features= needs labelled rows of at least two classes"
    ):
        classifier(model=backend).fit(X, ["fine"] * 80)
    assert backend.n == 0


def test_readers_of_a_backend():
    """ "auto" takes states where the model shows them, and None is None."""
    assert feature_readers(None, FakeBackend()) is None
    assert [reader.name for reader in feature_readers("auto", FakeBackend()).readers] == ["tfidf"]
    assert [reader.name for reader in feature_readers("auto", open_backend("smollm2")).readers] == ["states", "tfidf"]
    two = feature_readers([TfidfVectorizer(), TfidfVectorizer(analyzer="char")], FakeBackend())
    assert [reader.name for reader in two.readers] == ["TfidfVectorizer 1", "TfidfVectorizer 2"]


def test_a_transformer_of_a_caller_is_not_saved():
    """The refusal says what can be saved."""
    with pytest.raises(InputError, match="nothing in it is executed.*joblib"):
        feature_readers([TfidfVectorizer()], FakeBackend()).to_dict()


@pytest.fixture(scope="module")
def fitted():
    return LLMClassifier("smollm2", labels=["dull", "fine"], features="auto").fit(X, Y)


@pytest.mark.model
class TestWithTheModel:
    """Hidden states of the real small model."""

    def test_states_and_words(self, fitted):
        """Both are members, and new rows are told apart."""
        assert {"states", "tfidf", "label scores + states + tfidf"} <= set(fitted.stack_.members_)
        assert fitted.predict(NEW[:2]).tolist() == ["fine", "dull"]
        assert fitted.features == "auto"

    def test_neither_cache_nor_company_changes_a_probability(self, fitted, tmp_path):
        """Alone, in another order, and from a cache, to 1e-4."""
        together = fitted.predict_proba(NEW)
        alone = np.concatenate([fitted.predict_proba([text]) for text in NEW])
        assert alone == pytest.approx(together, abs=1e-4)
        fitted.set_params(cache=tmp_path / "cache.sqlite")
        try:
            first, second = fitted.predict_proba(NEW), fitted.predict_proba(NEW)
        finally:
            fitted.set_params(cache=None)
        assert first == pytest.approx(together, abs=1e-4)
        assert (first == second).all()

    def test_save_and_load(self, fitted, tmp_path):
        """A folder of JSON and .npy gives the same probabilities; damage is an error that names the file."""
        fitted.save(tmp_path / "saved")
        names = sorted(os.listdir(tmp_path / "saved"))
        assert "classifier.json" in names
        assert {name.partition(".")[2] for name in names} == {"json", "npy"}
        loaded = load(tmp_path / "saved")
        assert loaded.predict_proba(NEW) == pytest.approx(fitted.predict_proba(NEW), abs=1e-5)
        assert loaded.features == ["states", "tfidf"]
        array = next(tmp_path.glob("saved/*.npy"))
        data = bytearray(array.read_bytes())
        data[-3] ^= 1
        array.write_bytes(data)
        with pytest.raises(StoreError, match="is damaged.*its content is not what was saved"):
            load(tmp_path / "saved")
        array.unlink()
        with pytest.raises(StoreError, match=r"\.npy"):
            load(tmp_path / "saved")
        fitted.save(tmp_path / "saved")
        assert sorted(os.listdir(tmp_path / "saved")) == names


def test_rows_of_weight_zero_are_no_rows():
    """They are not calibrated on, and the others keep their own cross-fitted probabilities, in the report, too."""
    weights = np.where(np.arange(80) < 11, 0.0, 1.0)
    clf = classifier().fit(X, Y, sample_weight=weights)
    assert clf.calibration_rows_.tolist() == list(range(11, 80))
    right = clf.calibration_proba_.argmax(axis=1) == (Y[11:] == "fine")
    assert len(right) == 69
    assert right.mean() > 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        assert clf.report(X, Y).to_dict()["metrics"]["accuracy"]["after"]["value"] > 0.95


def numbers(frame):
    return frame.select_dtypes("number").to_numpy(dtype=float)


@pytest.mark.filterwarnings("ignore:the default prompt leaves out")
def test_a_column_that_gives_the_answer_away_is_not_learned_from():
    """What a default prompt does not show of a table, a transformer does not get."""
    noise = RNG.normal(size=80)
    table = pd.DataFrame({"text": MUTE_TEXTS, "noise": noise, "target": (Y == "fine").astype(int)})
    clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=FunctionTransformer(numbers)).fit(table, Y)
    assert (clf.calibration_proba_.argmax(axis=1) == (Y == "fine")).mean() < 0.8
    flipped = table.assign(target=1 - table["target"])
    assert (clf.predict_proba(flipped) == clf.predict_proba(table)).all()


@pytest.mark.parametrize("target", [lambda y: y, lambda y: (y == "fine").astype(int)], ids=["labels", "codes"])
def test_nor_with_a_prompt_that_does_not_show_it(target):
    """That is said; a prompt that shows the column gets its own warning, and the transformer the column."""
    table = pd.DataFrame({"text": MUTE_TEXTS, "noise": RNG.normal(size=80), "told": target(Y)})
    one_hot = OneHotEncoder(handle_unknown="ignore")
    clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], prompt="{{ text }}:", features=one_hot)
    with pytest.warns(PromptWarning, match="features= do not get the column 'told'"):
        clf.fit(table, Y)
    assert (clf.calibration_proba_.argmax(axis=1) == (Y == "fine")).mean() < 0.8
    assert clf.predict_proba(table.drop(columns="told")).shape == (80, 2)
    shown = LLMClassifier(FakeBackend(), labels=["dull", "fine"], prompt="{{ text }} {{ told }}:", features=one_hot)
    with pytest.warns(PromptWarning, match="the prompt shows the column 'told'"):
        assert "told" in shown.fit(table, Y).pipeline_.field_names


def test_columns_in_another_order():
    """A transformer gets the columns of the fit, in the order of the fit."""
    table = pd.DataFrame({"text": MUTE_TEXTS, "u": RNG.normal(size=80), "v": 100 * RNG.normal(size=80) + 500})
    clf = LLMClassifier(
        FakeBackend(), labels=["dull", "fine"], prompt="{{ text }}:", features=FunctionTransformer(numbers)
    ).fit(table, Y)
    expected = clf.predict_proba(table)
    assert (clf.predict_proba(table[["v", "text", "u"]].assign(more=1)) == expected).all()
    with pytest.raises(InputError, match="X lacks the column 'v'"):
        clf.predict_proba(table[["text", "u"]])


def test_a_member_that_cannot_be_fitted_everywhere_is_left_out():
    """A transformer that wants more rows than the folds have is named, and the others do the work; so honest rows can be had."""
    clf = classifier(["tfidf", Wants(70)]).fit(X, Y)
    assert "Wants" in clf.stack_.left_out_
    assert "wants 70 rows" in clf.stack_.left_out_["Wants"]
    assert clf.calibration_proba_.shape == (80, 2)
    few = classifier(["tfidf", Wants(60)]).fit(X, Y)  # enough without one fold, too few without two
    assert "Wants" in few.stack_.members_
    assert np.isfinite(few.calibration_proba_).all()


class Wants(TransformerMixin, BaseEstimator):
    """Cannot be fitted on fewer rows than it wants."""

    def __init__(self, n=0):
        self.n = n

    def fit(self, X, y=None):
        if len(X) < self.n:
            raise RuntimeError(f"wants {self.n} rows")
        return self

    def transform(self, X):
        return lengths(X)


def test_a_supervised_transformer_gets_labels():
    """One that needs several classes is tried with those of the rows."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    learner = make_pipeline(TfidfVectorizer(), TruncatedSVD(5), LinearDiscriminantAnalysis())
    assert classifier(learner).fit(X, Y).predict(NEW[:2]).tolist() == ["fine", "dull"]


def test_threads_share_a_fitted_classifier():
    """Cross-fitted probabilities asked by several threads at once are the same."""
    from concurrent.futures import ThreadPoolExecutor

    clf = classifier().fit(X, Y)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: clf.calibration_proba_, range(3)))
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_a_transformer_of_the_caller_is_his():
    """Changing it after the fit changes nothing in the classifier."""
    own = HashingVectorizer(n_features=64)
    clf = classifier(own).fit(X, Y)
    before = clf.predict_proba(NEW)
    own.set_params(ngram_range=(2, 2))
    assert (clf.predict_proba(NEW) == before).all()


def test_rows_that_differ_in_a_column_that_only_a_transformer_reads():
    """They are other rows: a report does not take new ones for those of the fit."""
    told = {"text": [f"a {i}" for i in range(80)], "target": RNG.normal(size=80) + 3.0 * (Y == "fine")}
    clf = LLMClassifier(
        FakeBackend(), labels=["dull", "fine"], prompt="{{ text }}:", features=FunctionTransformer(numbers)
    ).fit(pd.DataFrame(told), Y)
    moved = pd.DataFrame(told).assign(target=lambda frame: frame["target"] + 0.01)
    judged = clf.report(moved, Y).to_dict()["provenance"]["judged"]
    assert (judged["held_out"], judged["cross_fitted"]) == (80, 0)
    with pytest.warns(CalibrationWarning, match="did not see them"):
        judged = clf.report(pd.DataFrame(told), Y).to_dict()["provenance"]["judged"]
    assert judged["cross_fitted"] == 80


def test_the_frame_has_the_speed_of_what_each_member_needs():
    """Measured in the fit: words alone are faster than words beside label scores, and frequencies read nothing."""
    frame = classifier(["tfidf", LENGTHS]).fit(X, Y).stack_.to_frame()
    speed = frame["rows_per_second"]
    assert speed["temperature"] == speed["bias_temperature"] > 0
    assert speed["tfidf"] > speed["label scores + tfidf"] > speed["label scores + tfidf + FunctionTransformer"] > 0
    assert np.isnan(speed["frequencies"])
    assert frame["cost_per_1000_rows"].isna().all()


def test_answers_from_a_cache_have_no_speed(tmp_path):
    """Nothing was asked, so nothing was measured."""
    first, second = (classifier(cache=tmp_path / "scores.sqlite").fit(X, Y).stack_.to_frame() for _ in range(2))
    assert first.loc["temperature", "rows_per_second"] > 0
    assert np.isnan(second.loc["temperature", "rows_per_second"])
    assert second.loc["tfidf", "rows_per_second"] > 0


def test_the_frame_has_the_cost_of_a_server(no_waiting):
    """What the price table says of the tokens that were asked, for 1,000 rows; of members that need no scores nothing."""
    with FakeServer("vllm") as server:
        price = {"input": 1000.0, "output": 2000.0}
        backend = open_backend(f"openai:{server.name}", base_url=server.url, price=price)
        clf = classifier(model=backend).fit(X[:30], Y[:30])
        frame, usage = clf.stack_.to_frame(), backend.usage
    cost = frame["cost_per_1000_rows"]
    assert 0 < cost["temperature"] == cost["label scores + tfidf"] <= 1000 * usage.cost / 30
    assert cost[["tfidf", "frequencies"]].isna().all()
