"""The contest: who learns from which rows, and who is judged on which."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from race.worlds import labelled

from llmclf.calibration import Corrections, StackedCalibrator, make_bias
from llmclf.errors import CalibrationWarning, InputError
from llmclf.numerics.row_features import DenseFeatures
from llmclf.race import contest as contest_module
from llmclf.race.contest import LabelledRows, check_rows, default_sizes, hold_contest


def corrections(calibrator=None, bias=None) -> Corrections:
    return Corrections(make_bias(bias), StackedCalibrator(calibrator))


@pytest.fixture
def recorder(monkeypatch):
    """Contestants that note which rows they learn from and which they are asked about; the one feature is the row's number."""
    fits: list[tuple[set[int], set[int]]] = []

    class Recorder:
        def __init__(self, *_):
            pass

        def fit(self, rows):
            learned = {int(number) for number in rows.features["tfidf"].values[:, 0]}

            def apply(scores, features):
                fits.append((learned, {int(number) for number in features["tfidf"].values[:, 0]}))
                return np.log(np.full(scores.shape, 1 / scores.shape[1]))

            return {"one": apply}

    monkeypatch.setattr(contest_module, "Contestants", Recorder)
    return fits


def numbered(n: int, groups=None) -> LabelledRows:
    rows = labelled(n, groups=groups)
    features = {"tfidf": DenseFeatures(np.arange(float(n))[:, None])}
    return LabelledRows(rows.scores, rows.columns, rows.groups, features, rows.pooled)


class TestRows:
    def test_no_row_is_judged_by_what_learned_from_its_group(self, recorder):
        """Whatever the size and the draw, rows of a group are on one side."""
        groups = np.arange(120) // 3
        hold_contest(numbered(120, groups), corrections(), sizes=[20, 40])
        assert recorder
        for learned, judged in recorder:
            assert not {groups[i] for i in learned} & {groups[i] for i in judged}

    def test_each_row_is_judged_once_per_size_and_draw(self, recorder):
        """Four draws of 20 labels, three of 50, one of all: so often is each row judged."""
        contest = hold_contest(numbered(100), corrections())
        assert (contest.sizes, contest.draws) == ([20, 50, 80], [4, 3, 1])
        counts = np.bincount([row for _, judged in recorder for row in judged], minlength=100)
        assert set(counts.tolist()) == {8}
        assert contest.judged[-1]["one"].losses == pytest.approx(np.log(2))

    def test_subsets_are_nested(self, recorder):
        """Of one draw and fold, 20 labels are among the 40, and these among all."""
        hold_contest(numbered(100), corrections(), sizes=[20, 40], n_draws=2)
        by_fold = {}
        for learned, judged in recorder:
            by_fold.setdefault(min(judged), []).append(learned)
        assert len(by_fold) == 5
        for first, second, third, fourth, everything in by_fold.values():
            assert (len(first), len(third), len(everything)) == (20, 40, 80)
            assert first < third < everything
            assert second < fourth < everything
            assert first != second

    def test_the_seed_draws_the_subsets(self, recorder):
        """The same seed, the same subsets; another seed, others."""

        def learned(seed):
            recorder.clear()
            hold_contest(numbered(50), corrections(), sizes=[20], n_draws=1, random_state=seed)
            return [sorted(own) for own, _ in recorder[:5]]

        assert learned(0) == learned(0) != learned(1)

    def test_sizes_that_the_folds_leave_no_room_for_are_left_out(self, recorder):
        """Groups of very different sizes leave fewer rows outside of a fold than four fifths; that is said."""
        groups = np.r_[np.zeros(40, int), 1 + np.arange(60)]
        with pytest.warns(CalibrationWarning, match="no race with 70 labels, .* only 60 others"):
            contest = hold_contest(numbered(100, groups), corrections(), sizes=[20, 70])
        assert contest.sizes[:-1] == [20]

    @pytest.mark.filterwarnings("error")
    def test_default_sizes_leave_nothing_out(self, recorder):
        """Nobody asked for the sizes that are not tried by default."""
        groups = np.r_[np.zeros(40, int), 1 + np.arange(60)]
        assert hold_contest(numbered(100, groups), corrections()).sizes[:-1] == [20]

    @pytest.mark.parametrize(
        ("least", "sizes"), [(10, []), (27, [20]), (66, [20]), (67, [20, 50]), (800, [20, 50, 100, 200, 500])]
    )
    def test_default_sizes(self, least, sizes):
        """Those of the series that leave a gap to all rows."""
        assert default_sizes(least) == sizes


class TestRefusals:
    classes = ("no", "yes")

    @pytest.mark.parametrize(
        ("columns", "groups", "sizes", "message"),
        [
            (np.arange(19) % 2, np.arange(19), None, "there are 19 labelled rows .* at least 20"),
            (np.ones(30, int), np.arange(30), None, "all 30 labelled rows have the class 'yes'"),
            (np.arange(30) % 2, np.zeros(30, int), None, "belong to 1 group .* at least 10"),
            (np.arange(30) % 2, np.arange(30) % 9, None, "belong to 9 groups"),
            (np.arange(100) % 2, np.arange(100), [20, 80], "80 labels cannot be drawn from 80"),
        ],
    )
    def test_rows_on_which_nothing_can_be_held(self, columns, groups, sizes, message):
        """Each is refused with its reason."""
        with pytest.raises(InputError, match=message):
            check_rows(columns, groups, self.classes, sizes)


@pytest.fixture(scope="module")
def small() -> contest_module.Contest:
    """Twenty-four rows: too few for a pool to judge its members."""
    return hold_contest(labelled(24, signal=3.0), corrections())


class TestContestants:
    def test_every_contestant_takes_part_and_none_is_impossible(self, small):
        """However few the rows, all give probabilities."""
        contest = small
        assert contest.names == [
            "class frequencies",
            "text alone",
            "label words, raw",
            "label words, calibrated",
            "pool",
        ]
        assert all(np.isfinite(own.losses).all() for own in contest.judged[-1].values())
        assert contest.log_loss("text alone") < contest.log_loss("class frequencies")
        assert all(seconds > 0 for seconds in contest.seconds.values())

    def test_raw_label_words_learn_nothing(self, small):
        """Their loss is that of the softmax of the scores, whatever the labels."""
        contest, rows = small, small.rows
        logs = rows.scores - np.log(np.exp(rows.scores).sum(axis=1, keepdims=True))
        assert contest.judged[-1]["label words, raw"].losses == pytest.approx(-logs[np.arange(24), rows.columns])

    @pytest.mark.slow
    @pytest.mark.parametrize("k", [2, 12])
    def test_subsets_without_some_classes(self, k):
        """Of 20 random labels some classes have none, or one has all: every contestant still gives probabilities."""
        rows = labelled(60, k=k)
        columns = rows.columns.copy()
        if k == 2:
            columns[:] = 0
            columns[:3] = 1
        contest = hold_contest(
            LabelledRows(rows.scores, columns, rows.groups, rows.features, rows.pooled), corrections(), n_draws=1
        )
        assert all(np.isfinite(own.losses).all() for judged in contest.judged for own in judged.values())

    @pytest.mark.slow
    def test_noise_in_groups_is_not_learned(self):
        """Words that name a group, whose label is random: whoever saw the group would be right, and nobody is."""
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(24), 4)
        columns = rng.permutation(np.arange(24) % 2)[groups]
        words = DenseFeatures(np.eye(24)[groups] + 0.01 * rng.normal(size=(96, 24)))
        rows = LabelledRows(rng.normal(size=(96, 2)), columns, groups, {"tfidf": words}, ("tfidf",))
        contest = hold_contest(rows, corrections(), sizes=[])
        assert contest.judged[-1]["text alone"].right.mean() < 0.7

    @pytest.mark.parametrize("name", ["vector", "isotonic"])
    def test_the_callers_calibrator_is_that_of_the_label_words(self, name):
        """Of any kind; what it calls impossible has a finite price."""
        contest = hold_contest(labelled(24, scores=5.0), corrections(name))
        assert np.isfinite(contest.judged[-1]["label words, calibrated"].losses).all()

    def test_a_bias_is_learned_in_each_fold(self):
        """It changes what is calibrated, and not the raw scores."""
        rows = labelled(24)
        shifted = LabelledRows(
            rows.scores + np.array([3.0, 0.0]), rows.columns, rows.groups, rows.features, rows.pooled
        )
        contest = hold_contest(shifted, corrections("identity", "batch"))
        assert contest.log_loss("label words, calibrated") < contest.log_loss("label words, raw")

    def test_warnings_of_few_rows_stay_inside(self):
        """That subsets are small is what the contest is about."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            hold_contest(labelled(24), corrections())


class TestDifferences:
    def test_equal_losses_differ_by_nothing(self, small):
        """No interval is guessed where there is nothing to see."""
        assert small.difference("pool", "pool", confidence_level=0.9) == (0.0, 0.0, 0.0)

    def test_copies_count_once(self, small):
        """Five copies of each row say as much as one: the interval is as wide."""
        one = small
        many = contest_module.Contest(one.rows.take(np.repeat(np.arange(24), 5)), one.sizes, one.draws)
        many.judged = [
            {
                name: contest_module.Judged(np.repeat(own.losses, 5), np.repeat(own.right, 5))
                for name, own in judged.items()
            }
            for judged in one.judged
        ]
        widths = [
            found.high - found.low
            for found in (of.difference("pool", "text alone", confidence_level=0.9) for of in (one, many))
        ]
        assert widths[1] == pytest.approx(widths[0], rel=0.1)
