"""Tests of the threshold that a fitted classifier carries."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier

from llmclf import LLMClassifier, load
from llmclf.backends import FakeBackend, RowScores
from llmclf.calibration import SelectedThreshold, select_threshold
from llmclf.errors import CalibrationWarning, InputError, ModelError, StoreError
from llmclf.logits import log_softmax, softmax

CLASSES = ["a", "b"]


class Knowing(FakeBackend):
    """A fake that gives the rows it was made with, the texts "0:", "1:" and so on, the scores it was made with."""

    def __init__(self, scores: np.ndarray, fails_from: int | None = None) -> None:
        super().__init__()
        self.scores = scores
        self.fails_from = len(scores) if fails_from is None else fails_from
        self.asked = 0

    def __deepcopy__(self, memo):
        return self

    def score(self, requests):
        self.asked += len(requests)
        for place, request in enumerate(requests):
            number = int(request.prompt.text.removesuffix(":").split("\n")[-1])
            failed = number >= self.fails_from
            answer = RowScores((), error="no") if failed else RowScores(tuple((x,) for x in self.scores[number]))
            yield place, answer


class World:
    """Rows whose classes are drawn from known probabilities, and an over-confident model that prefers a class."""

    def __init__(self, n: int = 400, seed: int = 0, n_classes: int = 2) -> None:
        rng = np.random.default_rng(seed)
        truth = log_softmax(rng.normal(size=(n, n_classes)) * 2)
        self.chance = np.exp(truth)
        self.y = (self.chance.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, n_classes - 1)
        self.scores = log_softmax(3 * truth + np.linspace(0.5, -0.5, n_classes))
        self.X = [str(i) for i in range(n)]
        self.labels = [chr(ord("a") + k) for k in self.y]

    def classifier(self, calibrator=None, **options) -> LLMClassifier:
        classes = [chr(ord("a") + k) for k in range(self.chance.shape[1])]
        backend = Knowing(self.scores, options.pop("fails_from", None))
        return LLMClassifier(backend, labels=classes, prompt="{{ text }}:", calibrator=calibrator, **options)

    def wrong(self, clf: LLMClassifier, scores: np.ndarray, chance: np.ndarray) -> float:
        """True share of wrong rows among those that the classifier would accept; 0 where it accepts none."""
        proba = softmax(clf.calibrator_.predict_log_proba(scores))
        accepted = proba.max(axis=1) >= clf.threshold_.threshold
        right = chance[np.arange(len(chance)), proba.argmax(axis=1)]
        return float(1 - right[accepted].mean()) if accepted.any() else 0.0


def halves(world: World) -> tuple[slice, slice]:
    return slice(0, len(world.X) // 2), slice(len(world.X) // 2, None)


class TestHeldOut:
    def test_it_is_that_of_the_probabilities(self):
        """Rows that were not seen give the threshold of select_threshold on predict_proba, without a warning."""
        world = World()
        fitted, held = halves(world)
        clf = world.classifier("temperature").fit(world.X[fitted], world.labels[fitted])
        assert clf.threshold_ is None
        asked = clf.backend_.asked
        assert clf.fit_threshold(world.X[held], world.labels[held], max_error=0.2, confidence=0.9) is clf
        assert clf.backend_.asked == asked + 200
        proba = clf.predict_proba(world.X[held])
        assert clf.threshold_ == select_threshold(world.y[held], proba, max_error=0.2, confidence=0.9)
        assert 0 < clf.threshold_.coverage < 1

    def test_without_a_calibrator(self):
        """A model by itself has a threshold, too."""
        world = World()
        clf = world.classifier().fit(world.X).fit_threshold(world.X, world.labels, max_error=0.2)
        assert clf.threshold_ == select_threshold(world.y, clf.predict_proba(world.X), max_error=0.2)

    @pytest.mark.parametrize("calibrator", ["isotonic", "venn_abers"])
    def test_equal_confidences_stay_on_one_side(self, calibrator):
        """Predicted anew, alone or together, just the rows are accepted that were when the threshold was chosen."""
        world = World(800)
        fitted, held = halves(world)
        clf = world.classifier(calibrator).fit(world.X[fitted], world.labels[fitted])
        chosen = clf.fit_threshold(world.X[held], world.labels[held], max_error=0.15).threshold_
        assert 0 < chosen.coverage < 1
        confidence = clf.predict_proba(world.X[held]).max(axis=1)
        assert len(np.unique(confidence)) < 400
        assert (confidence >= chosen.threshold).sum() == chosen.n_accepted
        alone = [clf.predict_proba([text]).max() >= chosen.threshold for text in world.X[held]]
        assert sum(alone) == chosen.n_accepted

    def test_rows_without_scores_are_left_out(self):
        """They count neither for nor against, and are not accepted; a warning says how many they are."""
        world = World(400)
        clf = world.classifier(on_error="missing", fails_from=300).fit(world.X)
        with pytest.warns(CalibrationWarning, match="100 of these 400 rows could not be scored and are left out"):
            chosen = clf.fit_threshold(world.X, world.labels, max_error=0.2).threshold_
        assert chosen == select_threshold(world.y[:300], clf.predict_proba(world.X[:300]), max_error=0.2)
        assert not (clf.predict_proba(world.X[300:]).max(axis=1) >= chosen.threshold).any()

    def test_a_prior_moves_the_probabilities_alone(self):
        """Rows with the expected frequencies are judged by the probabilities that the prior has moved."""
        world = World()
        fitted, held = halves(world)
        clf = world.classifier("temperature", prior={"a": 0.8, "b": 0.2}).fit(world.X[fitted], world.labels[fitted])
        clf.fit_threshold(world.X[held], world.labels[held], max_error=0.25)
        assert clf.threshold_ == select_threshold(world.y[held], clf.predict_proba(world.X[held]), max_error=0.25)

    def test_no_threshold_passes(self):
        """A warning says so, and no row is accepted."""
        world = World()
        with pytest.warns(CalibrationWarning, match="no threshold keeps the error"):
            clf = world.classifier().fit(world.X).fit_threshold(world.X, np.roll(world.labels, 1), max_error=0.05)
        assert (clf.threshold_.threshold, clf.threshold_.n_accepted) == (math.inf, 0)
        assert not (clf.predict_proba(world.X).max(axis=1) >= clf.threshold_.threshold).any()


class TestSeenRows:
    def test_without_rows_those_of_the_fit_serve(self):
        """The rows that the calibrator was fitted on, each judged by one that did not see it; nothing is asked."""
        world = World()
        clf = world.classifier("isotonic", n_shots=4, random_state=0).fit(world.X, world.labels)
        asked = clf.backend_.asked
        chosen = clf.fit_threshold(max_error=0.2).threshold_
        assert clf.backend_.asked == asked
        assert chosen == select_threshold(world.y[clf.calibration_rows_], clf.calibration_proba_, max_error=0.2)
        assert chosen.n_rows == 396

    def test_rows_that_were_given_again(self):
        """They are recognised and judged by cross-fitted probabilities, and a warning says so; others as they are."""
        world = World()
        clf = world.classifier("isotonic").fit(world.X[:200], world.labels[:200])
        with pytest.warns(
            CalibrationWarning, match="fitted on 200 of these 400 rows; they are judged by calib"
        ) as caught:
            clf.fit_threshold(world.X, world.labels, max_error=0.2)
        assert [warning.filename for warning in caught] == [__file__]
        proba = np.concatenate([clf.calibration_proba_, clf.predict_proba(world.X[200:])])
        assert clf.threshold_ == select_threshold(world.y, proba, max_error=0.2)
        assert clf.threshold_ != select_threshold(world.y, clf.predict_proba(world.X), max_error=0.2)

    def test_shots_are_refused(self):
        """A row whose answer stands in the prompt shows nothing, and nothing is asked about it."""
        world = World()
        clf = world.classifier("temperature", n_shots=3, random_state=0).fit(world.X, world.labels)
        asked = clf.backend_.asked
        with pytest.raises(InputError, match="3 of these 400 rows stand in the prompt .* leave them out"):
            clf.fit_threshold(world.X, world.labels, max_error=0.2)
        assert clf.backend_.asked == asked

    def test_a_prior_and_seen_rows_are_refused(self):
        """The frequencies of the fit are not those that the prior expects, so its rows promise nothing."""
        world = World()
        clf = world.classifier("temperature", prior="uniform").fit(world.X, world.labels)
        asked = clf.backend_.asked
        with pytest.raises(InputError, match="prior= says .* give labelled rows as X and y"):
            clf.fit_threshold(max_error=0.2)
        with pytest.raises(InputError, match="fitted on 400 of these 400 rows.* as prior= moved"):
            clf.fit_threshold(world.X, world.labels, max_error=0.2)
        assert (clf.threshold_, clf.backend_.asked) == (None, asked)

    def test_weights_are_refused(self):
        """Rows that count differently are not drawn like the future ones; equal weights are none."""
        world = World()
        clf = world.classifier("temperature")
        with pytest.raises(InputError, match="sample_weight says"):
            clf.fit(world.X, world.labels, sample_weight=1 + world.y).fit_threshold(max_error=0.2)
        assert clf.fit(world.X, world.labels, sample_weight=np.full(400, 2.0)).fit_threshold(max_error=0.2).threshold_

    def test_without_a_calibrator(self):
        """There is nothing that could be cross-fitted; the message says what to give."""
        world = World()
        with pytest.raises(InputError, match="there is no calibrator.*; give labelled rows as X and y"):
            world.classifier().fit(world.X, world.labels).fit_threshold(max_error=0.2)


@pytest.mark.parametrize(
    ("given", "options", "match"),
    [
        ((), {"max_error": 5}, "max_error=5; expected a number between 0 and 1"),
        ((["0"], ["a"]), {"max_error": 0.05, "confidence": 95}, "confidence=95; expected"),
        ((["0"] * 58, ["a"] * 58), {"max_error": 0.05}, "58 labelled rows cannot show .* at least 59"),
        ((), {"max_error": 0.01}, "60 labelled rows cannot show"),
        ((["0"],), {"max_error": 0.05}, "X or y is missing"),
        ((["0"], ["c"]), {"max_error": 0.05}, "'c'"),
    ],
)
def test_bad_arguments_are_refused_before_the_model_is_asked(given, options, match):
    """Levels, too few rows, half of the rows and foreign classes cost nothing, and an earlier threshold stays."""
    world = World()
    clf = world.classifier("temperature").fit(world.X[:60], world.labels[:60]).fit_threshold(max_error=0.4)
    before, asked = clf.threshold_, clf.backend_.asked
    with pytest.raises(InputError, match=match):
        clf.fit_threshold(*given, **options)
    assert (clf.threshold_, clf.backend_.asked) == (before, asked)


def test_it_belongs_to_one_fit():
    """A new fit and a clone have none, and without a fit none can be chosen."""
    world = World()
    clf = world.classifier("temperature").fit(world.X, world.labels).fit_threshold(max_error=0.2)
    assert clf.threshold_ is not None
    assert not hasattr(clone(clf), "threshold_")
    with pytest.raises(NotFittedError):
        clone(clf).fit_threshold(max_error=0.2)
    assert clf.fit(world.X, world.labels).threshold_ is None


def test_the_report_names_it():
    """Its provenance says from which confidence on the classifier accepts."""
    world = World()
    clf = world.classifier().fit(world.X)
    assert clf.report(world.X, world.labels).to_dict()["provenance"]["threshold"] is None
    clf.fit_threshold(world.X, world.labels, max_error=0.2)
    assert clf.report(world.X, world.labels).to_dict()["provenance"]["threshold"] == clf.threshold_.to_dict()


# Saving


@pytest.fixture
def saved(tiny_bpe, tmp_path):
    """A classifier with a threshold, and the folder that it was saved in."""
    X = [f"text number {i}" for i in range(40)]
    clf = LLMClassifier(tiny_bpe, labels=CLASSES).fit(X)
    clf.fit_threshold(X, clf.predict(X), max_error=0.2).save(tmp_path / "clf")
    return clf, tmp_path / "clf"


def rewrite(folder, change) -> None:
    file = folder / "classifier.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_it_is_saved(saved):
    """A loaded classifier has the same threshold, and saves it again."""
    clf, folder = saved
    assert clf.threshold_.coverage == 1
    again = load(folder)
    assert again.threshold_ == clf.threshold_
    again.save(folder)
    assert load(folder).threshold_ == clf.threshold_


def test_one_that_accepts_nothing_is_saved(saved):
    """What is infinite or no number is null in the file, which is JSON to the letter."""
    clf, folder = saved
    clf.threshold_ = SelectedThreshold(math.inf, 0.0, math.nan, math.nan, 0, 40, 0.2, 0.95)
    clf.save(folder)
    values = json.loads((folder / "classifier.json").read_text(), parse_constant=pytest.fail)
    assert values["threshold"] == {
        "threshold": None, "coverage": 0.0, "error": None, "error_bound": None,
        "n_accepted": 0, "n_rows": 40, "max_error": 0.2, "confidence": 0.95,
    }  # fmt: skip
    again = load(folder).threshold_
    assert (again.threshold, again.n_accepted, again.n_rows) == (math.inf, 0, 40)
    assert math.isnan(again.error)
    assert math.isnan(again.error_bound)


def test_folders_without_one_are_read(saved):
    """A folder that was saved before there were thresholds gives a classifier without one."""
    _, folder = saved
    rewrite(folder, lambda values: values.pop("threshold"))
    assert load(folder).threshold_ is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", "0.9"),
        ("threshold", None),
        ("threshold", True),
        ("threshold", 90),
        ("threshold", math.nan),
        ("error", -0.1),
        ("coverage", [1]),
        ("n_accepted", 41),
        ("n_accepted", 0),
        ("n_rows", 40.0),
        ("confidence", 95),
    ],
)
def test_damaged_values_are_refused(saved, name, value):
    """What no threshold can hold is a damaged folder."""
    _, folder = saved
    rewrite(folder, lambda values: values["threshold"].update({name: value}))
    with pytest.raises(StoreError, match="is damaged"):
        load(folder)


@pytest.mark.parametrize("value", [0.9, "0.9", [], {}, {"threshold": 0.9}])
def test_damaged_thresholds_are_refused(saved, value):
    """Anything else in its place is a damaged folder, too."""
    _, folder = saved
    rewrite(folder, lambda values: values.update(threshold=value))
    with pytest.raises(StoreError, match="is damaged"):
        load(folder)


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")  # a random model knows nothing of the classes
def test_rows_of_the_fit_are_known_after_loading(tiny_bpe, tmp_path):
    """A loaded classifier cannot cross-fit, so it refuses the rows that its calibrator saw, and takes others."""
    X = [f"text number {i}" for i in range(60)]
    LLMClassifier(tiny_bpe, labels=CLASSES, calibrator="prior").fit(X[:30], CLASSES * 15).save(tmp_path / "clf")
    clf = load(tmp_path / "clf")
    with pytest.raises(InputError, match="fitted on 10 of these 40 rows.* did not outlive save and load"):
        clf.fit_threshold(X[20:], CLASSES * 20, max_error=0.3)
    with pytest.raises(InputError, match="did not outlive save and load; give labelled rows as X and y"):
        clf.fit_threshold(max_error=0.3)
    clf.fit_threshold(X[30:], clf.predict(X[30:]), max_error=0.3)
    assert clf.threshold_.n_rows == 30


def test_it_belongs_to_the_model(saved, model_folder):
    """Also where nothing was fitted on a model's scores, another model is refused: its confidences are others."""
    _, folder = saved
    rewrite(folder, lambda values: values.update(model=f"hf:{model_folder('no_pad')}"))
    with pytest.raises(ModelError, match="threshold belong to another model"):
        load(folder).predict_proba(["text"])


# Rates


def held_out(clf, world):
    clf.fit_threshold(world.X[100:], world.labels[100:], max_error=0.2, confidence=0.9)


def cross_fitted(clf, world):
    clf.fit_threshold(max_error=0.2, confidence=0.9)


def by_its_own_rows(clf, world):
    clf.threshold_ = select_threshold(world.y[:100], clf.predict_proba(world.X[:100]), max_error=0.2, confidence=0.9)


class Neighbours(KNeighborsClassifier):
    """A calibrator that has the labels of its own rows by heart."""

    def predict_log_proba(self, X):
        return np.log(np.maximum(self.predict_proba(X), 1e-12))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no threshold keeps:llmclf.errors.CalibrationWarning")
@pytest.mark.parametrize("calibrator", ["isotonic", Neighbours(9, weights="distance")])
def test_the_guarantee_holds(calibrator):
    """Asked for with 90 % confidence, it breaks in a tenth of the draws at most on rows that nothing saw.

    Here it does so also by cross-fitting, which promises less. A calibrator that knows its own rows by heart, judged by them,
    breaks it in most draws: that is what all this is for.
    """
    pool, n_draws = World(4000, 1, n_classes=3), 60
    accepting, broken = Counter(), Counter()
    for seed in range(n_draws):
        world = World(200, 100 + seed, n_classes=3)
        clf = world.classifier(calibrator).fit(world.X[:100], world.labels[:100])
        for choose in (held_out, cross_fitted, by_its_own_rows):
            choose(clf, world)
            accepting[choose] += clf.threshold_.n_accepted > 0
            broken[choose] += world.wrong(clf, pool.scores, pool.chance) > 0.2
    most = binom.ppf(0.99, n_draws, 0.1)
    for choose in (held_out, cross_fitted):
        assert accepting[choose] >= n_draws / 10
        assert broken[choose] <= most
    assert broken[by_its_own_rows] > most
