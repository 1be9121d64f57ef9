"""What was judged before: whoever tries until a certificate passes spends its confidence, and no more than that."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from certificates.test_judging import rows_of
from certificates.worlds import MAX_ERROR, World, make_world

from llmclf import LLMClassifier, load, verify
from llmclf.certificates.attempts import Attempt, AttemptRecord, record_lock, row_hashes
from llmclf.certificates.certificate import certificate_of
from llmclf.certificates.judging import guarantee_before
from llmclf.errors import CertificateError, CertificateWarning, InputError, NotCertifiedError

NOW = "2026-11-30T12:00:00+00:00"


def ids(start: int, stop: int) -> list[str]:
    return [f"{one:016x}" for one in range(start, stop)]


def attempt(rows: list[str], judgement: int = 1, level: float = 0.05, outcome: str = "not shown") -> Attempt:
    return Attempt(
        judged=NOW, judgement=f"{judgement:064x}", rows=rows, n=len(rows), max_error=0.1, level=level, outcome=outcome
    )


def record_of(*attempts: Attempt) -> AttemptRecord:
    record = AttemptRecord()
    for one in attempts:
        record = record.added(one)
    return record


def standing(record: AttemptRecord, rows: list[str], judgement: int = 9, alpha: float = 0.05):
    return record.standing(rows, f"{judgement:064x}", alpha)


class TestWhatIsLeft:
    def test_new_rows_have_all_of_it(self):
        """Whatever was judged elsewhere; the failures there are counted."""
        record = record_of(attempt(ids(0, 100)), attempt(ids(100, 200), 2))
        assert standing(record, ids(200, 300))[:3] == (0.05, 0.0, 0)
        assert record.failed_elsewhere(ids(200, 300), f"{9:064x}") == [0.05, 0.05]

    def test_any_confidence_may_be_asked_of_new_rows(self):
        """However little may go wrong."""
        assert standing(AttemptRecord(), ids(0, 9), alpha=1e-12)[:3] == (1e-12, 0.0, 0)
        assert standing(record_of(attempt(ids(0, 9))), ids(0, 9), 1, 1e-12)[:3] == (1e-12, 0.0, 0)

    def test_rows_that_were_judged_have_nothing_left(self):
        """Nor has a table of which more than a few are."""
        record = record_of(attempt(ids(0, 100)))
        for rows in (ids(0, 100), ids(0, 50), ids(90, 190), ids(0, 200)):
            with pytest.raises(InputError, match="were judged before, in 1 earlier attempt whose confidence was 0.95"):
                standing(record, rows)

    def test_the_same_judgement_is_no_further_attempt(self):
        """One bound holds for all promises; at the larger of its levels."""
        record = record_of(attempt(ids(0, 100)))
        assert standing(record, ids(0, 100), 1)[:3] == (0.05, 0.0, 0)
        again = record.added(attempt(ids(0, 100), 1, 0.1, "certified"))
        assert again.attempts[1].rows is None
        assert standing(again, ids(50, 100), 2, 0.15)[:3] == pytest.approx((0.05, 0.1, 1))

    def test_a_lower_confidence_is_shared(self):
        """The later attempt is judged with what the earlier ones have left."""
        record = record_of(attempt(ids(0, 100), 1, 0.02), attempt(ids(0, 120), 2, 0.01))
        assert standing(record, ids(0, 150))[:3] == pytest.approx((0.02, 0.03, 2))

    def test_attempts_are_shared_through_others(self):
        """The first and the last have no row in common, and each shares some with the second."""
        record = record_of(attempt(ids(0, 100), 1, 0.02), attempt(ids(50, 150), 2, 0.02))
        assert standing(record, ids(100, 200))[:3] == pytest.approx((0.01, 0.04, 2))

    def test_a_few_rows_that_come_again_count_as_wrong(self):
        """Texts such as a thank-you are drawn again by chance."""
        record = record_of(attempt(ids(0, 100)))
        left = standing(record, ids(96, 196))
        assert left[:3] == (0.05, 0.0, 0)
        assert left.again.tolist() == [True] * 4 + [False] * 96

    def test_a_record_is_gone_over_as_often_for_many_rows_as_for_few(self):
        """Its rows are not collected anew for each row that is asked about."""

        class Counted(list):
            n_read = 0

            def __iter__(self):
                Counted.n_read += 1
                return super().__iter__()

        known = attempt(ids(0, 1000))
        record = AttemptRecord((Attempt.model_construct(**{**known.model_dump(), "rows": Counted(ids(0, 1000))}),))
        for n in (1, 1000):
            Counted.n_read = 0
            standing(record, ids(2000, 2000 + n))
            assert Counted.n_read <= 3

    def test_case_and_spaces_make_no_other_row(self):
        """Nor do Unicode's ways to write a character; another word does."""
        rows = [{"text": text} for text in ("Fine  film\n", "fine film", "ＦＩＮＥ film", "fine films")]
        one, *same, other = row_hashes(rows, ["text"])
        assert same == [one, one]
        assert other != one


class Trial:
    """A classifier that errs in just the allowed share of rows, certified again and again."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.record, self.n = rng, AttemptRecord(), 0
        self.wrong: dict[str, bool] = {}

    def draw(self, n: int) -> list[str]:
        rows = ids(self.n, self.n + n)
        self.n += n
        self.wrong |= dict(zip(rows, (self.rng.random(n) < 0.1).tolist(), strict=True))
        return rows

    def passes(self, rows: list[str], max_error: float = 0.1, confidence: float = 0.95, classifier: int = 1) -> bool:
        """Whether there is a certificate; refused ones are none."""
        name = f"{hash((tuple(rows), classifier)) % 2**62:064x}"
        try:
            left = self.record.standing(rows, name, 1 - confidence)
        except InputError:
            return False
        judged = rows_of([0.9] * len(rows), [not self.wrong[row] for row in rows]).counted_wrong(left.again)
        try:
            guarantee_before(judged, 0.8, max_error, 1 - left.level)
            outcome = "certified"
        except NotCertifiedError:
            outcome = "not shown"
        made = attempt(rows, 1, left.level, outcome).model_copy(update={"judgement": name, "max_error": max_error})
        self.record = self.record.added(made)
        return outcome == "certified"


def until_it_passes(trial: Trial) -> bool:
    """The same rows, and ten more each time."""
    rows: list[str] = trial.draw(60)
    return any(trial.passes(rows := [*rows, *trial.draw(10)]) for _ in range(20))


def planned_looks(trial: Trial) -> bool:
    """The same, with a part of the confidence for each look."""
    rows: list[str] = trial.draw(60)
    looks = (0.98, 0.97, 0.96, 0.95)
    return any(trial.passes(rows := [*rows, *trial.draw(40)], confidence=one) for one in looks)


def lower_promises(trial: Trial) -> bool:
    """The same rows with larger and larger shares; those below the true one are false."""
    rows = trial.draw(150)
    return any(trial.passes(rows, max_error) for max_error in (0.04, 0.06, 0.08, 0.1))


def other_classifiers(trial: Trial) -> bool:
    """Twenty thresholds, of which each errs in other rows."""
    rows = trial.draw(150)
    found = False
    for classifier in range(20):
        trial.wrong |= dict(zip(rows, (trial.rng.random(150) < 0.1).tolist(), strict=True))
        found |= trial.passes(rows, classifier=classifier)
    return found


def chosen_rows(trial: Trial) -> bool:
    """After a failure, new rows with five that are known to be right."""
    rows = trial.draw(150)
    if trial.passes(rows):
        return False  # counted elsewhere: here it is about the second attempt alone
    return trial.passes([*[row for row in rows if not trial.wrong[row]][:5], *trial.draw(145)])


@pytest.mark.parametrize(
    "strategy",
    [until_it_passes, planned_looks, lower_promises, other_classifiers, chosen_rows],
    ids=lambda one: one.__name__,
)
def test_false_certificates_stay_within_the_promised_share(strategy):
    """Of 500 classifiers that err just as often as is allowed at most 5 % are certified, within the noise of the count."""
    rng = np.random.default_rng(0)
    false = sum(strategy(Trial(rng)) for _ in range(500))
    assert false / 500 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


@pytest.fixture(scope="module")
def world(tiny_bpe) -> World:
    return make_world(tiny_bpe)


@pytest.fixture(scope="module")
def fitted(world) -> LLMClassifier:
    return world.fitted()


@pytest.fixture
def folder(fitted, tmp_path) -> Path:
    LLMClassifier.from_pipeline(fitted.pipeline_).save(tmp_path / "clf")
    return tmp_path / "clf"


def spoilt(y: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(y)


class TestCertify:
    def test_a_failed_attempt_is_remembered(self, folder, world):
        """In the folder, by hashes alone; the same rows with other labels or more rows are refused before the model is asked."""
        X, y = world.of(World.FRESH)
        with pytest.raises(NotCertifiedError):
            load(folder).certify(X[:200], spoilt(y[:200]), max_error=MAX_ERROR, folder=folder)
        written = (folder / "certificate-attempts.json").read_text()
        assert not any(text in written for text in X)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(world.backend), "score", None)
            for rows in (slice(0, 200), slice(0, 400), slice(150, 400)):
                with pytest.raises(InputError, match="were judged before"):
                    load(folder).certify(X[rows], y[rows], max_error=MAX_ERROR, folder=folder)
            with pytest.raises(InputError, match="were judged before"):
                load(folder).certify([text.upper() for text in X[:200]], y[:200], max_error=MAX_ERROR)
        made = load(folder).certify(X[200:], y[200:], max_error=MAX_ERROR, folder=folder)
        said = made.content.attempts
        assert (said.n, said.n_not_shown, said.n_sharing, said.level) == (2, 1, 0, pytest.approx(0.05))
        assert said.confidence_of_all == pytest.approx(0.9)
        assert any("attempt 2" in sentence for sentence in made.content.assumptions)
        assert "1 earlier attempt did not show what was asked" in made.to_html()
        assert verify(folder).exit_code in (0, 3)

    def test_to_promise_less_is_no_further_attempt(self, folder, world):
        """The bound is the same, so the confidence is not spent again; in whatever order the rows are."""
        X, y = world.of(World.FRESH)
        with pytest.raises(NotCertifiedError):
            load(folder).certify(X, y, max_error=0.02, folder=folder)
        made = load(folder).certify(X[::-1], y[::-1], max_error=MAX_ERROR, folder=folder)
        said = made.content.attempts
        assert (said.n, said.n_sharing, said.spent, said.confidence_of_all) == (2, 0, 0.0, 0.95)

    def test_other_groups_of_the_same_rows_are_a_further_attempt(self, folder, world):
        """More is said of the rows, so it needs more confidence; the same groups once more need none, in whatever order."""
        X, y = world.of(World.FRESH)
        groups = {"thirds": np.array([str(int(text.split()[-1]) % 3) for text in X])}
        first = load(folder).certify(X, y, max_error=MAX_ERROR, groups=groups, folder=folder)
        assert "those of the 'predicted class' and 'thirds'" in " ".join(first.content.assumptions)
        backwards = {"thirds": groups["thirds"][::-1]}
        again = load(folder).certify(X[::-1], y[::-1], max_error=0.2, groups=backwards, folder=folder)
        assert (again.content.attempts.n_sharing, again.content.attempts.level) == (0, pytest.approx(0.05))
        first_word = {"first word": [text.split()[0] for text in X]}
        for other in (first_word, {**groups, **first_word}, {"thirds": np.roll(groups["thirds"], 1)}, None):
            with pytest.raises(InputError, match="400 of these 400 rows were judged before, in 1 earlier attempt"):
                load(folder).certify(X, y, max_error=MAX_ERROR, groups=other, folder=folder)
        shared = load(folder).certify(X, y, max_error=0.2, confidence=0.9, groups=first_word, folder=folder)
        assert (shared.content.attempts.n_sharing, shared.content.attempts.level) == (1, pytest.approx(0.05))

    def test_groups_of_copies_of_a_text_are_the_same_in_any_order(self, folder, world):
        """Copies may lie in different groups; which of them does is another finding, where their labels differ."""
        X, y = world.of(World.FRESH)
        X, y = [*X, X[0], X[0]], [*y, y[0], next(label for label in y if label != y[0])]
        names = np.array(["a", "b"] * 200 + ["b", "c"])
        load(folder).certify(X, y, max_error=0.2, groups={"g": names}, folder=folder)
        again = load(folder).certify(X[::-1], y[::-1], max_error=0.2, groups={"g": names[::-1]}, folder=folder)
        assert again.content.attempts.n_sharing == 0
        order = np.r_[np.arange(400), 401, 400]
        X, y = [X[k] for k in order], [y[k] for k in order]
        with pytest.raises(InputError, match="were judged before"):  # the wrong copy is now of the group "b"
            load(folder).certify(X, y, max_error=0.2, groups={"g": names}, folder=folder)

    def test_a_planned_second_look_is_judged_with_what_is_left(self, folder, world):
        """With more rows than the first."""
        X, y = world.of(World.FRESH)
        clf = load(folder)
        with pytest.raises(NotCertifiedError):
            clf.certify(X[:150], spoilt(y[:150]), max_error=MAX_ERROR, confidence=0.97, folder=folder)
        made = clf.certify(X, y, max_error=MAX_ERROR, confidence=0.95, folder=folder)
        said, guarantee = made.content.attempts, made.content.guarantee
        assert (said.n_sharing, said.spent, said.level) == (1, pytest.approx(0.03), pytest.approx(0.02))
        assert guarantee.confidence == 0.95
        accepted, wrong = guarantee.n_accepted, guarantee.n_wrong
        rows = rows_of([0.9] * accepted, np.arange(accepted) >= wrong)
        assert guarantee.error_bound == pytest.approx(guarantee_before(rows, 0.8, 0.5, 0.98).error_bound)

    def test_without_a_folder_the_classifier_remembers(self, fitted, world, tmp_path):
        """And writes it down when it is saved; a copy of the folder remembers, too."""
        import shutil

        X, y = world.of(World.FRESH)
        clf = LLMClassifier.from_pipeline(fitted.pipeline_)
        with pytest.raises(NotCertifiedError):
            clf.certify(X, spoilt(y), max_error=MAX_ERROR)
        with pytest.raises(InputError, match="were judged before"):
            clf.certify(X, y, max_error=MAX_ERROR)
        clf.save(tmp_path / "one")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        load(tmp_path / "two").save(tmp_path / "three")
        for name in ("one", "two", "three"):
            with pytest.raises(InputError, match="were judged before"):
                load(tmp_path / name).certify(X, y, max_error=MAX_ERROR)

    def test_another_classifier_in_the_same_folder_does_not_begin_anew(self, folder, world):
        """One threshold after another on the same rows is what is to be told."""
        X, y = world.of(World.FRESH)
        load(folder).certify(X, y, max_error=MAX_ERROR, folder=folder)
        clf = load(folder)
        clf.threshold_ = replace(clf.threshold_, threshold=0.7)
        with pytest.warns(UserWarning, match="is removed"):
            clf.save(folder)
        assert certificate_of(folder) is None
        with pytest.raises(InputError, match="were judged before"):
            load(folder).certify(X, y, max_error=MAX_ERROR, folder=folder)

    def test_a_record_that_was_changed_is_told(self, folder, world):
        """By verify, and by the next attempt: the certificate knows of what was judged until it was made."""
        X, y = world.of(World.FRESH)
        with pytest.raises(NotCertifiedError):
            load(folder).certify(X[:100], spoilt(y[:100]), max_error=MAX_ERROR, folder=folder)
        load(folder).certify(X[100:], y[100:], max_error=MAX_ERROR, folder=folder)
        file = folder / "certificate-attempts.json"
        whole = file.read_text()
        values = json.loads(whole)
        values["attempts"][0]["rows"] = values["attempts"][0]["rows"][:50]
        for text in (json.dumps(values), json.dumps({**values, "attempts": values["attempts"][1:]}), "{}", "[", None):
            file.unlink() if text is None else file.write_text(text)
            found = verify(folder)
            assert (found.outcome, found.exit_code) == ("broken", 7)
            assert "certificate-attempts.json" in found.message
            with pytest.raises(CertificateError, match="certificate-attempts.json"):
                load(folder).certify(X[:100], y[:100], max_error=MAX_ERROR, folder=folder)
        file.write_text(whole)
        assert verify(folder).exit_code in (0, 3)


class TestAtOnce:
    def test_two_classifiers_do_not_both_have_the_whole_confidence(self, folder, fitted, world, monkeypatch):
        """Both know of no other attempt when they ask the model; the one that comes second is refused."""
        X, y = world.of(World.FRESH)
        barrier, asked = threading.Barrier(2), set()
        score = type(world.backend).score

        def once_both_ask(backend, requests):
            if len(asked) < 2 and threading.get_ident() not in asked:
                asked.add(threading.get_ident())
                barrier.wait(60)
            return score(backend, requests)

        monkeypatch.setattr(type(world.backend), "score", once_both_ask)

        def certify(rows: slice):
            clf = LLMClassifier.from_pipeline(fitted.pipeline_)
            try:
                return clf.certify(X[rows], y[rows], max_error=MAX_ERROR, folder=folder)
            except (InputError, NotCertifiedError) as error:
                return error

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(certify, [slice(0, 400), slice(0, 390)]))
        refused = [one for one in found if isinstance(one, InputError)]
        assert len(refused) == 1
        assert "others certified here on some of them" in str(refused[0])
        assert "they have left nothing, and this attempt was judged with 0.05" in str(refused[0])
        assert len(AttemptRecord.read(folder)) == 1
        assert verify(folder).exit_code in (0, 3)
        assert not list(folder.glob(".*"))

    @pytest.mark.parametrize("is_outcome_known", [False, True])
    def test_nor_do_they_in_a_new_folder(self, fitted, world, tmp_path, is_outcome_known, monkeypatch):
        """Whether the other one is certified there before the outcome is known, or before it is written."""
        X, y = world.of(World.FRESH)
        clf, other = (LLMClassifier.from_pipeline(fitted.pipeline_) for _ in range(2))
        score, made = type(world.backend).score, []

        def meanwhile(backend, requests):
            if not made and (not is_outcome_known or clf._attempts is not None):
                made.append("begun")
                made.append(other.certify(X[:390], y[:390], max_error=MAX_ERROR, folder=tmp_path / "clf"))
            return score(backend, requests)

        monkeypatch.setattr(type(world.backend), "score", meanwhile)
        with pytest.raises(InputError, match="others certified here on some of them"):
            clf.certify(X, y, max_error=MAX_ERROR, folder=tmp_path / "clf")
        assert certificate_of(tmp_path / "clf").id == made[1].id
        assert len(AttemptRecord.read(tmp_path / "clf")) == 1

    def test_attempts_of_many_processes_are_all_noted(self, folder):
        """None writes over what another one has noted since it read."""
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(3)
        processes = [context.Process(target=note_at_once, args=(folder, number, barrier)) for number in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert len(AttemptRecord.read(folder)) == 9

    def test_a_killed_process_blocks_nobody(self, folder):
        """Its lock file stays behind, and the next one notes its attempt."""
        context = multiprocessing.get_context("spawn")
        is_held = context.Event()
        killed = context.Process(target=hold, args=(folder, is_held))
        killed.start()
        assert is_held.wait(60)
        killed.kill()
        killed.join()
        assert list(folder.glob(".*-lock"))
        note(folder, 1)
        assert len(AttemptRecord.read(folder)) == 1
        assert not list(folder.glob(".*-lock"))

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone can become another user")
    def test_a_folder_that_cannot_be_written_needs_no_lock(self):
        """Who may only read there can change nothing, and is kept from nothing."""
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            process = multiprocessing.get_context("fork").Process(target=lock_as_nobody, args=(place,))
            process.start()
            process.join(60)
            assert process.exitcode == 0

    def test_a_folder_without_locks_is_told(self, folder, monkeypatch):
        """The attempt is noted all the same."""
        fcntl = pytest.importorskip("fcntl")

        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.warns(CertificateWarning, match=f"file system of '{folder}' has no locks"):
            note(folder, 1)
        assert len(AttemptRecord.read(folder)) == 1

    def test_what_lies_in_the_lock_files_place_is_told(self, folder):
        """Nothing goes on without the lock."""
        (folder / ".certificate-attempts.json-lock").symlink_to(folder / "classifier.json")
        with pytest.raises(CertificateError, match=r"cannot be locked.*remove '\.certificate-attempts\.json-lock'"):
            note(folder, 1)

    def test_another_classifier_saved_meanwhile_is_not_certified(self, fitted, world, tmp_path, monkeypatch):
        """Nobody writes a certificate beside a classifier that it is not about."""
        X, y = world.of(World.FRESH)
        clf, other = (LLMClassifier.from_pipeline(fitted.pipeline_) for _ in range(2))
        other.pipeline_ = replace(other.pipeline_, threshold=replace(other.pipeline_.threshold, threshold=0.875))
        score = type(world.backend).score

        def meanwhile(backend, requests):
            if not (tmp_path / "clf").exists():
                other.save(tmp_path / "clf")
            return score(backend, requests)

        monkeypatch.setattr(type(world.backend), "score", meanwhile)
        with pytest.raises(InputError, match="holds another classifier"):
            clf.certify(X, y, max_error=MAX_ERROR, folder=tmp_path / "clf")
        assert certificate_of(tmp_path / "clf") is None
        assert load(tmp_path / "clf").threshold_.threshold == 0.875

    def test_what_was_noted_elsewhere_does_not_count(self):
        """Nor what leaves as much as before."""
        mine, judgement = ids(0, 100), f"{9:064x}"
        judged_with = AttemptRecord().standing(mine, judgement, 0.05)
        record_of(attempt(ids(100, 200))).check_still_stands(judged_with, mine, judgement, 0.05)
        record_of(attempt(mine, 9)).check_still_stands(judged_with, mine, judgement, 0.05)
        for rows, level in ((mine, 0.01), (ids(98, 200), 0.05)):
            with pytest.raises(InputError, match="others certified here"):
                record_of(attempt(rows, level=level)).check_still_stands(judged_with, mine, judgement, 0.05)


def hold(folder: Path, is_held) -> None:
    """What a process does that is killed."""
    with record_lock([folder]):
        is_held.set()
        time.sleep(600)


def lock_as_nobody(place: str) -> None:
    """What somebody does who may read a folder alone."""
    os.setgid(65534)
    os.setuid(65534)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with record_lock([place]):
            assert not os.listdir(place)


def note(folder: Path, number: int) -> None:
    """What a process does that has judged rows of its own."""
    with record_lock([folder]):
        record = AttemptRecord.read(folder)
        time.sleep(0.05)
        record.added(attempt(ids(100 * number, 100 * number + 100), number)).write(folder)


def note_at_once(folder: Path, number: int, barrier) -> None:
    """What a process does that has three attempts, while others have some, too."""
    barrier.wait(60)
    for one in range(3):
        note(folder, 3 * number + one)
