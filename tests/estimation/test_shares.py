"""Tests of shares of classes among all rows."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import hypergeom

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import LabelledSample, estimate_shares
from llmclf.estimation.count_intervals import count_interval
from llmclf.estimation.recalibration import Recalibration, log_odds
from llmclf.logits import softmax

N, LABELLED, K = 1500, 200, 3


def world(seed: int = 0, strength: float = 2.0, n: int = LABELLED):
    """Probabilities and classes of all rows, and the rows that are labelled."""
    rng = np.random.default_rng(seed)
    y = rng.choice(K, N, p=[0.6, 0.3, 0.1])
    evidence = strength * (rng.normal(size=(N, K)) + strength * np.eye(K)[y])
    return softmax(evidence + np.log([0.6, 0.3, 0.1])), y, rng.choice(N, n, replace=False)


def estimated(seed: int = 0, **options):
    proba, y, rows = world(seed)
    return estimate_shares(proba, y[rows], rows, **options)


def test_the_columns_come_in_this_order():
    """Class and interval first, then what stands beside."""
    frame = estimated().to_frame()
    assert list(frame)[:4] == ["class", "share", "low", "high"]
    assert {"by_hand", "by_hand_low", "by_hand_high", "naive", "mean_probability", "worth", "method"} <= set(frame)
    assert frame["class"].tolist() == [0, 1, 2]
    assert frame["share"].sum() == pytest.approx(1.0)
    assert ((frame["low"] <= frame["share"]) & (frame["share"] <= frame["high"])).all()


def test_the_estimate_with_a_given_weight_is_that_of_the_published_formulas():
    """Prediction-powered inference with the unlabelled rows apart, and the mean of the pseudo-outcomes, to 1e-12."""
    proba, y, rows = world()
    rest = np.setdiff1d(np.arange(N), rows)
    one_hot = np.eye(K)[y[rows]]
    for power in (0.0, 0.3, 1.0):
        found = estimate_shares(proba, y[rows], rows, recalibrate=False, tuning=power).overall.share
        scaled = power * len(rest) / N  # their mean of probabilities leaves the labelled rows out
        published = one_hot.mean(axis=0) + scaled * (proba[rest].mean(axis=0) - proba[rows].mean(axis=0))
        assert found == pytest.approx(published, abs=1e-12)
    pseudo = proba.copy()
    pseudo[rows] += (one_hot - proba[rows]) * N / LABELLED
    assert found == pytest.approx(pseudo.mean(axis=0), abs=1e-12)


def test_a_useless_model_leaves_the_labels_alone():
    """Constant probabilities change nothing: estimate and interval are those of counting by hand."""
    _, y, rows = world()
    frame = estimate_shares(np.tile([0.2, 0.3, 0.5], (N, 1)), y[rows], rows).to_frame()
    assert frame["share"].to_numpy() == pytest.approx(frame["by_hand"].to_numpy(), abs=1e-12)
    assert frame[["low", "high"]].to_numpy() == pytest.approx(frame[["by_hand_low", "by_hand_high"]].to_numpy())
    assert frame["worth"].to_numpy() == pytest.approx(LABELLED)


def test_the_labels_alone_have_the_exact_interval():
    """Blaker's, drawn in by the finite population correction."""
    _, y, rows = world()
    frame = estimated().to_frame()
    counts = np.bincount(y[rows])
    low, high = count_interval(counts, LABELLED, 0.05)
    share, left = counts / LABELLED, np.sqrt(1 - LABELLED / N)
    assert frame["by_hand_low"].to_numpy() == pytest.approx(share - left * (share - low), abs=2e-3)
    assert frame["by_hand_high"].to_numpy() == pytest.approx(share + left * (high - share), abs=2e-3)


def test_a_good_model_is_worth_labels():
    """More than twice as many, and the interval is narrower than by hand in every class."""
    frame = estimated().to_frame()
    assert (frame["worth"] > 2 * LABELLED * np.array([1.0, 1.0, 0.6])).all()
    assert ((frame["high"] - frame["low"]) < (frame["by_hand_high"] - frame["by_hand_low"])).all()


@pytest.mark.filterwarnings("ignore:no labelled row is")
@pytest.mark.filterwarnings("ignore:all 12 labels are")  # as chance may draw them
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([12, 30, 100]), st.floats(0.0, 3.0))
def test_no_interval_is_wider_than_by_hand_at_the_same_share(seed, n, strength):
    """Whatever the model: its effective number of rows is never less than that of the labels."""
    proba, y, rows = world(seed, strength, n)
    part = estimate_shares(proba, y[rows], rows).overall
    assert (part.remaining <= 1.0 + 1e-12).all()
    assert (part.worth >= n * (1 - 1e-12)).all()


@settings(max_examples=15, deadline=None)
@given(st.permutations([0, 1, 2]))
def test_the_order_of_classes_does_not_matter(order):
    """Columns that are exchanged, with their labels, exchange the estimates."""
    proba, y, rows = world()
    place = np.argsort(order)
    first = estimate_shares(proba, y[rows], rows).to_frame()
    second = estimate_shares(proba[:, order], place[y[rows]], rows).to_frame()
    assert second["share"].to_numpy() == pytest.approx(first["share"].to_numpy()[order], abs=1e-9)
    assert second["high"].to_numpy() == pytest.approx(first["high"].to_numpy()[order], abs=1e-6)


def test_a_table_that_is_labelled_whole_leaves_nothing_open():
    """The interval is the share."""
    proba, y, _ = world()
    frame = estimate_shares(proba, y, np.arange(N)).to_frame()
    shares = np.bincount(y) / N
    for column in ("share", "low", "high"):
        assert frame[column].to_numpy() == pytest.approx(shares)


def test_a_class_without_labels_has_an_upper_end():
    """It rests on the number of labels and not on the probabilities."""
    proba, y, rows = world()
    rows = rows[y[rows] != 2]
    with pytest.warns(EstimationWarning, match="no labelled row is 2"):
        frame = estimate_shares(proba, y[rows], rows, classes=range(K)).to_frame()
    last = frame.iloc[2]
    assert (last["share"], last["low"]) == (0.0, 0.0)
    assert 2.9 / len(rows) < last["high"] / np.sqrt(1 - len(rows) / N) < 4.0 / len(rows)


def test_equal_labels_give_the_interval_of_the_count():
    """A warning says so, and nothing is divided by zero."""
    proba, _, rows = world()
    with pytest.warns(EstimationWarning, match="all 200 labels are 0"):
        frame = estimate_shares(proba, np.zeros(LABELLED, dtype=int), rows, classes=range(K)).to_frame()
    assert frame["share"].tolist() == [1.0, 0.0, 0.0]
    assert frame["high"].iloc[0] == 1.0
    assert 0.95 < frame["low"].iloc[0] < 1.0


def test_unequal_inclusion_is_undone():
    """Rows of class 2 that were three times as likely to be drawn do not raise its share."""
    proba, y, _ = world(n=10)
    pi = np.where(y == 2, 0.6, 0.2)
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(30):
        rows = np.flatnonzero(rng.random(N) < pi)
        frame = estimate_shares(proba, y[rows], rows, inclusion=pi).to_frame()
        shares.append(frame["share"].to_numpy())
    assert np.mean(shares, axis=0) == pytest.approx(np.bincount(y) / N, abs=0.006)


def test_simultaneous_intervals_are_wider():
    """For three classes at a level of 1 - .05 / 3 each; for two classes, which are one question, they are the same."""
    single, together = estimated(), estimated(simultaneous=True)
    low, high = single.overall.interval(0.05 / 3)
    frame = together.to_frame()
    assert frame["low"].to_numpy() == pytest.approx(low)
    assert frame["high"].to_numpy() == pytest.approx(high)
    proba, y, rows = world()
    two = np.column_stack([proba[:, 0], proba[:, 1:].sum(axis=1)])
    frames = [
        estimate_shares(two, (y[rows] > 0).astype(int), rows, simultaneous=both).to_frame() for both in (False, True)
    ]
    assert frames[0]["low"].tolist() == frames[1]["low"].tolist()


def test_groups_have_estimates_of_their_own():
    """In sorted order, with differences whose intervals hold together."""
    proba, y, rows = world()
    groups = np.array(["late", "early", "middle"])[np.arange(N) % 3]
    proba[groups == "late"] = proba[groups == "late"][:, [1, 0, 2]]
    y = np.where(groups == "late", np.array([1, 0, 2])[y], y)
    estimates = estimate_shares(proba, y[rows], rows, groups=groups)
    frame = estimates.group_frame()
    assert frame["group"].unique().tolist() == ["early", "late", "middle"]
    truth = {name: np.bincount(y[groups == name], minlength=K) / (groups == name).sum() for name in set(groups)}
    for record in frame.to_dict(orient="records"):
        assert record["low"] - 0.03 < truth[record["group"]][record["class"]] < record["high"] + 0.03
    differences = estimates.difference_frame().set_index(["group", "reference", "class"])
    assert differences.loc[("late", "early", 0), "differs"]
    assert not differences.loc[("middle", "early", 0), "differs"]
    low, high = estimates.groups["late"].interval(0.05 / 9)
    wide = differences.loc[("late", "early", 0)]
    assert wide["high"] - wide["low"] > high[0] - low[0]
    for contrasts, number in (("pairs", 3), ("previous", 2), ("first", 2)):
        assert len(estimates.difference_frame(contrasts)) == number * K


def test_one_frame_holds_all_tables():
    """A column tells shares of all rows, of groups and differences apart, and each has the columns of its own frame."""
    proba, y, rows = world()
    estimates = estimate_shares(proba, y[rows], rows, groups=np.arange(N) % 2)
    frame = estimates.all_frame("pairs")
    assert list(frame)[:6] == ["table", "group", "reference", "class", "share", "difference"]
    assert frame["table"].tolist() == ["all rows"] * K + ["group"] * 2 * K + ["difference"] * K
    for name, own in (
        ("all rows", estimates.to_frame()),
        ("group", estimates.group_frame()),
        ("difference", estimates.difference_frame()),
    ):
        part = frame[frame["table"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(part[list(own)], own, check_dtype=False)
    alone = estimate_shares(proba, y[rows], rows).all_frame()
    assert set(alone["table"]) == {"all rows"}
    assert "group" not in alone


def test_how_many_labels_a_group_has_is_shown():
    """In the frames and in the text."""
    proba, y, rows = world()
    groups = np.arange(N) % 2
    estimates = estimate_shares(proba, y[rows], rows, groups=groups)
    counts = np.bincount(groups[rows])
    assert estimates.to_frame()["labelled"].tolist() == [len(rows)] * K
    assert estimates.group_frame()["labelled"].tolist() == counts.repeat(K).tolist()
    text = str(estimates).split("By group")[1].splitlines()
    assert text[1].split()[-1] == "labelled"
    assert [int(line.split()[-1]) for line in text[2:]] == counts.repeat(K).tolist()
    assert estimates.difference_text().splitlines()[1].split()[:3] == ["group", "reference", "class"]


def test_a_group_without_labels_is_unknown():
    """Between 0 and 1, also in differences and in JSON."""
    proba, y, rows = world()
    groups = np.where(np.isin(np.arange(N), rows[:150]), "a", "b")
    groups[np.setdiff1d(np.arange(N), rows)[:100]] = "c"
    with pytest.warns(EstimationWarning, match=r"fewer than ten labelled rows in the groups 'c' \(0\)"):
        estimates = estimate_shares(proba, y[rows], rows, groups=groups)
    frame = estimates.group_frame().set_index("group").loc["c"]
    assert frame["share"].isna().all()
    assert (frame["low"] == 0).all()
    assert (frame["high"] == 1).all()
    unknown = estimates.difference_frame("first").set_index("group").loc["c"]
    assert (unknown["low"] == -1).all()
    found = json.loads(json.dumps(estimates.to_dict("pairs"), allow_nan=False))
    assert [record["share"] for record in found["groups"] if record["group"] == "c"] == [None] * K
    assert "c" in str(estimates)


def test_clusters_widen_intervals():
    """Where the rows of an author say the same, they count as few."""
    proba, y, _ = world()
    authors = np.arange(N) // 10
    y = np.repeat(y[::10], 10)
    rows = np.flatnonzero(np.isin(authors, np.random.default_rng(0).permutation(N // 10)[:20]))
    alone, clustered = (
        estimate_shares(proba, y[rows], rows, clusters=clusters).to_frame() for clusters in (None, authors)
    )
    widths = [(frame["by_hand_high"] - frame["by_hand_low"]).iloc[0] for frame in (alone, clustered)]
    assert widths[1] > 2.5 * widths[0]


def test_labels_of_a_model_serve_as_probabilities():
    """A label per row, with classes that are words."""
    proba, y, rows = world()
    names = np.array(["no", "maybe", "yes"])
    frame = estimate_shares(names[proba.argmax(axis=1)], names[y[rows]], rows).to_frame().set_index("class")
    assert frame.index.tolist() == ["maybe", "no", "yes"]
    assert frame.loc["no", "naive"] == pytest.approx(np.mean(proba.argmax(axis=1) == 0))
    assert frame.loc["no", "worth"] > 1.5 * LABELLED


def test_the_recalibration_is_the_minimum_of_its_loss():
    """For one fold and class, as a general optimiser finds it."""
    proba, y, rows = world()
    sample = LabelledSample.checked(proba, y[rows], rows)
    fitted = Recalibration.fitted(sample)
    others = fitted.folds != 0
    x, case = log_odds(proba[rows])[others, 1], sample.one_hot[others, 1]

    def loss(parameters):
        a, b = parameters
        z = a + b * x
        return np.sum(np.logaddexp(0, z) - case * z) + 0.25 * a**2 + (b - 1) ** 2

    best = minimize(loss, [0.0, 1.0]).x
    assert [fitted.biases[0, 1], fitted.slopes[0, 1]] == pytest.approx(best, abs=1e-4)


def test_no_label_reaches_its_own_probability():
    """Whatever the label of a row is, its recalibrated probability stays, if the folds do."""
    proba, y, rows = world()
    sample = LabelledSample.checked(proba, y[rows], rows)
    before = Recalibration.fitted(sample)
    fold = before.folds == 2
    changed = y[rows].copy()
    changed[fold] = (changed[fold] + 1) % K
    trained = Recalibration(before.folds, before.biases, before.slopes).labelled(sample)[fold]
    other = LabelledSample.checked(proba, changed, rows)
    object.__setattr__(other, "folds", lambda n_folds=5: before.folds)
    assert Recalibration.fitted(other).labelled(other)[fold] == pytest.approx(trained, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence_level": 95}, "confidence_level=95"),
        ({"tuning": 1.5}, r"tuning=1.5; expected a number from 0 \(the labels alone\) to 1"),
        ({"groups": ["a"]}, "groups has 1 entries for 1500 rows"),
        ({"n_folds": 1}, "n_folds=1"),
    ],
)
def test_bad_options_are_named(options, message):
    """Each by its value and the cure."""
    with pytest.raises(InputError, match=message):
        estimated(**options)


def test_there_are_no_differences_without_groups():
    """The message says how to give groups."""
    with pytest.raises(InputError, match="give the group of each row to estimate_shares as groups="):
        estimated().difference_frame()
    with pytest.raises(InputError, match="a difference needs two"):
        estimated(groups=["all"] * N).difference_frame()
    with pytest.raises(InputError, match="expected 'pairs', 'previous' or 'first'"):
        estimated(groups=np.arange(N) % 2).difference_frame("last")


def test_rows_of_equal_probabilities_do_not_bias_shares():
    """Folds are drawn at random: where those kept equal rows together, a third of such rows moved this share by .02."""
    rng = np.random.default_rng(0)
    proba = np.where(rng.random(600) < 0.35, 0.4, rng.beta(1.0, 3.0, 600))
    truth = rng.random(600) < np.where(proba == 0.4, 0.7, proba / 2)
    proba = np.column_stack([1.0 - proba, proba])
    errors = []
    for _ in range(150):
        rows = rng.choice(600, 300, replace=False)
        estimates = estimate_shares(proba, truth[rows].astype(int), rows, classes=[0, 1])
        errors.append(float(estimates.overall.share[1]) - truth.mean())
    assert abs(np.mean(errors)) < 3.0 * np.std(errors) / np.sqrt(len(errors))
    assert np.std(errors) < 0.03


@pytest.mark.parametrize(
    ("population", "n_drawn", "n_cases"), [(500, 300, 5), (400, 300, 9), (500, 300, 30), (100, 90, 3)]
)
def test_rare_classes_of_which_most_rows_are_drawn_are_covered(population, n_drawn, n_cases):
    """All samples there are, with their probabilities: useless probabilities leave the exact interval of a finite population."""
    covered = 0.0
    for x in range(min(n_drawn, n_cases) + 1):
        y = np.r_[np.ones(x, dtype=int), np.zeros(n_drawn - x, dtype=int)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            estimates = estimate_shares(np.full((population, 2), 0.5), y, np.arange(n_drawn), recalibrate=False)
        low, high = estimates.overall.interval(0.05)
        if low[1] <= n_cases / population + 1e-12 and n_cases / population <= high[1] + 1e-12:
            covered += hypergeom.pmf(x, population, n_cases, n_drawn)
    assert covered >= 0.95


@pytest.mark.parametrize("is_good", [False, True])
def test_groups_of_a_stratified_sample_are_covered(is_good):
    """How many rows of a stratum lie in a group is chance, too: without that, 95 % intervals covered two times of three."""
    covered = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        strata, groups = rng.integers(0, 2, 2000), rng.integers(0, 4, 2000)
        truth = np.where(rng.random(2000) < 0.03, 1 - strata, strata)
        p = np.where(strata == 1, 0.97, 0.03) if is_good else np.full(2000, 0.5)
        rows = np.concatenate([rng.choice(np.flatnonzero(strata == h), 50, replace=False) for h in (0, 1)])
        estimates = estimate_shares(np.column_stack([1 - p, p]), truth[rows], rows, strata=strata, groups=groups)
        frame = estimates.group_frame()
        frame = frame[frame["class"] == 1]
        shares = np.array([truth[groups == g].mean() for g in range(4)])
        covered += [(frame["low"] <= shares) & (shares <= frame["high"])]
        covered += [(frame["by_hand_low"] <= shares) & (shares <= frame["by_hand_high"])]
    assert np.mean(covered) > 0.94


def test_every_estimate_lies_in_its_interval():
    """That of the labels alone, too, where rows of unlike probabilities put it beyond what is known of the table."""
    rng = np.random.default_rng(0)
    for seed in range(30):
        inclusion = np.random.default_rng(seed).uniform(0.02, 1.0, 100)
        rows = np.flatnonzero(rng.random(100) < inclusion)
        y = np.r_[0, 1, rng.integers(0, 2, len(rows) - 2)]
        for tuning in (None, 1.0):
            frame = estimate_shares(
                rng.dirichlet([1, 1], 100), y, rows, inclusion=inclusion[rows], tuning=tuning
            ).to_frame()
            for name, prefix in (("share", ""), ("by_hand", "by_hand_")):
                assert (frame[f"{prefix}low"] <= frame[name] + 1e-12).all()
                assert (frame[name] <= frame[f"{prefix}high"] + 1e-12).all()


def clustered(seed: int, m: int, share: float = 0.3, sizes=(1, 10), bad: float = 0.0):
    """Probabilities and classes of 400 clusters with classes as in the whole table, and the rows of m of them."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(400), rng.integers(sizes[0], sizes[1] + 1, 400))
    y = (rng.random(len(cluster)) < share).astype(int)
    p = 1 / (1 + np.exp(-(3 * rng.normal(size=len(y)) + 9 * (y - 0.5) + np.log(share / (1 - share)))))
    p[(rng.random(400) < bad)[cluster]] = 0.02
    rows = np.flatnonzero(np.isin(cluster, rng.choice(400, m, replace=False)))
    return np.column_stack([1 - p, p]), y, rows, cluster


def coverage(draws: int, n_clusters: int, **world) -> tuple[float, float, float]:
    """How often the intervals of the estimate and of the labels alone cover, and the ratio of their widths."""
    found = []
    for seed in range(draws):
        proba, y, rows, cluster = clustered(seed, n_clusters, **world)
        part = estimate_shares(proba, y[rows], rows, classes=[0, 1], clusters=cluster).overall
        (low, high), (hand_low, hand_high) = part.interval(0.05), part.interval_by_hand(0.05)
        covers = [bool(one[1] <= y.mean() <= other[1]) for one, other in ((low, high), (hand_low, hand_high))]
        found.append([*covers, high[1] - low[1], hand_high[1] - hand_low[1]])
    mean = np.mean(found, axis=0)
    return float(mean[0]), float(mean[1]), float(mean[2] / mean[3])


def test_clusters_whose_rows_are_not_alike_cost_little():
    """By hand, intervals cover as often as asked for and not always; the model makes them narrower."""
    covers, by_hand, width = coverage(150, 30)
    assert 0.91 <= by_hand <= 0.99
    assert covers >= 0.94
    assert width < 0.85


def test_clusters_that_a_model_misjudges_are_reckoned_with():
    """Where all cases of a tenth of the clusters are missed, and twenty clusters may show none of these."""
    covers, _, _ = coverage(120, 20, sizes=(30, 40), bad=0.1)
    assert covers >= 0.9


def test_clusters_of_one_row_are_rows():
    """Nothing changes if each row is a cluster of its own."""
    proba, y, rows = world()
    alone, own = (estimate_shares(proba, y[rows], rows, clusters=clusters).overall for clusters in (None, np.arange(N)))
    assert own.share == pytest.approx(alone.share)
    assert own.remaining == pytest.approx(alone.remaining)
    assert own.size_by_hand == pytest.approx(alone.size_by_hand)


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimationWarning")
def test_one_cluster_shows_next_to_nothing():
    """Two hundred rows of one author say what one row says."""
    proba, y, rows = world()
    cluster = np.where(np.isin(np.arange(N), rows), 0, 1 + np.arange(N))
    frame = estimate_shares(proba, y[rows], rows, clusters=cluster).to_frame()
    assert (frame["high"] - frame["low"]).min() > 0.6
