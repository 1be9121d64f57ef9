"""Certifying a classifier, verifying it later, and what makes a certificate void; with a real, if tiny, model."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from certificates.made import of_an_earlier_version
from certificates.worlds import MAX_ERROR, World, make_world
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmclf import LLMClassifier, load, open_backend, verify
from llmclf.calibration import SelectedThreshold
from llmclf.certificates import Certificate, certificate_of, certificate_status
from llmclf.certificates.issuing import pipeline_sha256
from llmclf.certificates.signatures import signature_of
from llmclf.errors import (
    CalibrationWarning,
    CertificateError,
    CertificateWarning,
    InputError,
    NotCertifiedError,
)
from llmclf.jobs import label_table
from llmclf.loading import load_pipeline
from llmclf.saved_folder import array_bytes, classifier_sha256


@pytest.fixture(scope="module")
def world(tiny_bpe) -> World:
    return make_world(tiny_bpe)


@pytest.fixture(scope="module")
def fitted(world) -> LLMClassifier:
    return world.fitted()


@pytest.fixture
def clf(fitted) -> LLMClassifier:
    return LLMClassifier.from_pipeline(fitted.pipeline_)


@pytest.fixture(scope="module")
def certified(fitted, world, tmp_path_factory) -> Path:
    """The folder of a certified classifier, not to be changed."""
    folder = tmp_path_factory.mktemp("certified") / "clf"
    clf = LLMClassifier.from_pipeline(fitted.pipeline_)
    clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR, folder=folder)
    return folder


@pytest.fixture
def folder(certified, tmp_path) -> Path:
    return Path(shutil.copytree(certified, tmp_path / "clf"))


class TestCertify:
    def test_it_says_what_was_judged(self, clf, world):
        """The numbers are those that predictions and labels give."""
        X, y = world.of(World.FRESH)
        third = [text.split()[0] for text in X]
        made = clf.certify(X, y, max_error=MAX_ERROR, groups={"first word": third})
        threshold = clf.threshold_.threshold
        confidence, right = clf.predict_proba(X).max(axis=1), clf.predict(X) == y
        accepted = confidence >= threshold
        guarantee, rows = made.content.guarantee, made.content.rows
        assert (guarantee.n_accepted, guarantee.n_wrong) == (accepted.sum(), (accepted & ~right).sum())
        assert made.threshold == threshold
        assert guarantee.threshold_from == "before"
        assert guarantee.error <= guarantee.error_bound <= MAX_ERROR == made.max_error
        assert made.coverage == accepted.mean()
        assert (rows.n, rows.n_unscored, rows.is_grouped, rows.is_uneven) == (400, 0, False, False)
        assert made.model_identity == world.backend.identity()
        assert made.classes == ("bad", "good")
        np.testing.assert_allclose(made.reference.probabilities, clf.predict_proba(X), atol=1e-6)
        np.testing.assert_array_equal(made.reference.accepted, accepted)
        np.testing.assert_array_equal(made.reference.correct, right)
        np.testing.assert_allclose(made.reference.label_mass, clf.label_mass(X), rtol=1e-3)
        words = {part.name for part in made.content.parts if part.partition == "first word"}
        assert words == set(third)
        assert len(made.content.parts) == made.content.n_statements == 2 + len(words)

    def test_without_a_folder_nothing_is_written(self, clf, world, tmp_path, monkeypatch):
        """And the certificate can be saved later, beside the classifier that it is about."""
        monkeypatch.chdir(tmp_path)
        made = clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR)
        assert list(tmp_path.iterdir()) == []
        clf.save("clf")
        made.save("clf")
        assert certificate_of("clf").id == made.id
        assert {file.suffix for file in Path("clf").iterdir()} == {".json", ".html", ".npy"}
        other = LLMClassifier.from_pipeline(replace(clf.pipeline_, threshold=None))
        other.save("other")
        with pytest.raises(CertificateError, match="not the one that was certified"):
            made.save("other")

    def test_the_classifier_in_memory_has_it_too(self, clf, world, tmp_path):
        """Until it is changed."""
        made = clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR, folder=tmp_path / "clf")
        assert certificate_status(clf.pipeline_).to_dict() == {"id": made.id, "status": "valid"}
        assert certificate_status(clf.fit(*world.of(World.FIT)).pipeline_).status == "none"

    def test_rows_that_taught_it_are_refused(self, clf, world, certified):
        """Those of the calibrator, of the threshold and of the prompt; also of a classifier that was loaded."""
        X, y = world.of(slice(199, 900))
        for classifier in (clf, load(certified)):
            with pytest.raises(InputError, match="the calibrator was fitted on 1, the threshold was chosen on 300"):
                classifier.certify(X, y, max_error=MAX_ERROR)
        with_shots = LLMClassifier(
            world.backend, labels=["bad", "good"], prompt="{{ text }}:", n_shots=2, random_state=0
        )
        with_shots.fit(*world.of(World.FIT))
        with_shots.threshold_ = clf.threshold_
        with pytest.raises(InputError, match="2 stand in the prompt as examples"):
            with_shots.certify(*world.of(slice(0, 900)), max_error=MAX_ERROR)

    def test_copies_of_examples_are_refused_whatever_their_case(self, clf, world):
        """Their texts are in the classifier, so that copies are known, too."""
        shown = LLMClassifier(world.backend, labels=["bad", "good"], prompt="{{ text }}:", n_shots=2, random_state=0)
        shown.fit(*world.of(World.FIT))
        shown.threshold_ = clf.threshold_
        X, y = world.of(World.FRESH)
        copies = [f" {row['text'].upper()} " for row, _ in shown.pipeline_.shots]
        with pytest.raises(InputError, match="2 stand in the prompt as examples"):
            shown.certify([*X, *copies], [*y, "bad", "good"], max_error=MAX_ERROR)

    def test_it_keeps_which_rows_belong_together(self, clf, world, tmp_path):
        """Whoever compares later rows with them needs it."""
        X, y = world.of(World.FRESH)
        pairs = np.arange(400) // 2
        clf.certify(X, y, max_error=MAX_ERROR, clusters=pairs, folder=tmp_path / "clf")
        np.testing.assert_array_equal(certificate_of(tmp_path / "clf").reference.groups, pairs)

    def test_missing_names_and_a_single_group_are_groups_too(self, clf, world):
        """No row is left out: what has no name is a group of its own."""
        X, y = world.of(World.FRESH)
        groups = {"all": ["one"] * 400, "odd": [None, "a", np.nan, ""] * 100}
        parts = clf.certify(X, y, max_error=MAX_ERROR, groups=groups).content.parts
        found = {(one.partition, one.name): one.n_rows for one in parts if one.partition in groups}
        assert found == {("all", "one"): 400, ("odd", "(missing)"): 200, ("odd", "a"): 100, ("odd", ""): 100}

    def test_too_few_rows_are_refused_before_the_model_is_asked(self, clf, world, monkeypatch):
        """The message says how many are needed; copies of a text do not help."""
        monkeypatch.setattr(type(clf.backend_), "score", None)
        X, y = world.of(World.FRESH)
        with pytest.raises(InputError, match="at least 19 are needed"):
            clf.certify(X[:18], y[:18], max_error=MAX_ERROR)
        with pytest.raises(InputError, match="18 groups"):
            clf.certify(X[:18] * 10, y[:18].tolist() * 10, max_error=MAX_ERROR)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"max_error": 0}, "max_error=0"),
            ({"max_error": 5}, "max_error=5"),
            ({"confidence": 95}, "confidence=95"),
            ({"threshold": 0.9}, "threshold=0.9; expected one of 'fitted', 'selected'"),
            ({"canary": "none"}, "canary='none'"),
            ({"expires": "yesterday"}, "expires='yesterday'"),
            ({"groups": {"g": ["a"]}}, "groups 'g' has shape"),
            ({"groups": []}, "groups 'slice' has shape (0,)"),
            (
                {"groups": {1: ["a"] * 400, "1": ["b"] * 400}},
                "groups has the names [1, '1'], of which some read the same",
            ),
            ({"groups": {"predicted class": ["a"] * 400}}, "groups has the name 'predicted class'"),
            ({"clusters": ["a"]}, "clusters has 1 entries"),
            ({"inclusion": [0.5]}, "inclusion has shape"),
            ({"key": "no/such/key"}, "the key 'no/such/key' does not exist"),
            ({"key_password_env": "HOME"}, "belongs to a key"),
        ],
    )
    def test_bad_arguments_are_refused_before_the_model_is_asked(self, clf, world, monkeypatch, options, words):
        """Each error names the argument."""
        monkeypatch.setattr(type(clf.backend_), "score", None)
        with pytest.raises(InputError) as caught:
            clf.certify(*world.of(World.FRESH), **{"max_error": MAX_ERROR, **options})
        assert words in str(caught.value)

    def test_a_classifier_without_a_threshold_has_nothing_to_judge(self, clf, world):
        """Nor has one whose threshold accepts no row."""
        clf.threshold_ = None
        with pytest.raises(InputError, match="has no threshold yet"):
            clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR)
        clf.threshold_ = SelectedThreshold(np.inf, 0.0, np.nan, np.nan, 0, 300, 0.05, 0.95)
        with pytest.raises(InputError, match="accepts no row"):
            clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR)

    def test_what_the_rows_do_not_show_is_not_certified(self, clf, world, tmp_path):
        """The error says what they show, and nothing is written."""
        X, y = world.of(World.FRESH)
        with pytest.raises(NotCertifiedError, match="no certificate: of 400 rows") as caught:
            clf.certify(X, np.random.default_rng(0).permutation(y), max_error=MAX_ERROR, folder=tmp_path / "clf")
        assert caught.value.reached["error_bound"] > MAX_ERROR
        assert not (tmp_path / "clf").exists()

    def test_a_threshold_can_be_selected_on_the_rows(self, world, tmp_path):
        """The classifier then has it, in the folder, too, and its rows count as seen from then on."""
        X, y = world.of(World.FRESH)
        clf = LLMClassifier(world.backend, labels=["bad", "good"], prompt="{{ text }}:", calibrator="vector")
        clf.fit(*world.of(World.FIT)).save(tmp_path / "clf")
        made = clf.certify(X, y, max_error=MAX_ERROR, threshold="selected", folder=tmp_path / "clf")
        assert made.content.guarantee.threshold_from == "these rows"
        assert any("chosen on the judged rows" in sentence for sentence in made.content.assumptions)
        read = load(tmp_path / "clf")
        assert read.threshold_.threshold == clf.threshold_.threshold == made.threshold
        assert certificate_status(read.pipeline_).to_dict() == {"id": made.id, "status": "valid"}
        with pytest.raises(InputError, match="the threshold was chosen on 400"):
            read.certify(X, y, max_error=MAX_ERROR)

    def test_a_threshold_that_cannot_be_selected_changes_nothing(self, clf, world):
        """The classifier keeps the one that it had."""
        before = clf.threshold_
        X, y = world.of(World.FRESH)
        with pytest.warns(CalibrationWarning, match="no threshold"), pytest.raises(NotCertifiedError):
            clf.certify(X, np.random.default_rng(0).permutation(y), max_error=0.05, threshold="selected")
        assert clf.threshold_ is before

    def test_a_folder_of_another_classifier_is_refused(self, clf, world, tmp_path, monkeypatch):
        """Before the model is asked; so is a folder that holds something else."""
        world.fitted(calibrator="temperature").save(tmp_path / "other")
        (tmp_path / "papers").mkdir()
        (tmp_path / "papers" / "thesis.txt").write_text("all of it")
        monkeypatch.setattr(type(clf.backend_), "score", None)
        with pytest.raises(InputError, match="holds another classifier"):
            clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR, folder=tmp_path / "other")
        with pytest.raises(OSError, match="is not a saved classifier"):
            clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR, folder=tmp_path / "papers")

    def test_tables_are_certified_too(self, world, tmp_path):
        """A group is a column by its name; the canary keeps what the classifier reads, and nothing else."""
        import pandas as pd

        frame = pd.DataFrame({"word": [text.split()[0] for text in world.texts[:300]], "number": range(300)})
        frame["channel"] = ["web", "mail", "fax"] * 100
        clf = LLMClassifier(world.backend, labels=["bad", "good"], prompt="{{ word }} {{ number }}:").fit(frame)
        y = clf.predict(frame)
        clf.fit_threshold(frame[:100], y[:100], max_error=0.1)
        made = clf.certify(frame[100:], y[100:], max_error=0.1, groups="channel", folder=tmp_path / "clf")
        assert [part.name for part in made.content.parts][2:] == ["fax", "mail", "web"]
        assert set(made.content.canary.rows[0]) == {"word", "number"}
        assert verify(tmp_path / "clf").exit_code in (0, 3)
        again = {"groups": "channel", "canary": "hashes"}
        hashed = clf.certify(frame[100:], y[100:], max_error=0.1, **again, folder=tmp_path / "clf")
        assert hashed.id != made.id
        assert verify(tmp_path / "clf", X=frame).exit_code in (0, 3)

    def test_rows_that_cannot_be_scored_are_never_accepted(self, clf, world):
        """They are among the judged ones, as NaN."""
        X, y = world.of(World.FRESH)
        clf.set_params(on_error="missing")
        with pytest.warns(CalibrationWarning, match="1 of these 401 rows could not be scored"):
            made = clf.certify([*X, " "], [*y, "bad"], max_error=MAX_ERROR)
        assert made.content.rows.n_unscored == 1
        assert not made.reference.accepted[-1]
        assert np.isnan(made.reference.probabilities[-1]).all()

    def test_the_canary_is_asked_of_the_model_and_not_of_a_cache(self, clf, world, tmp_path):
        """What a cache says may be what another machine has answered."""
        X, y = world.of(World.FRESH)
        clf.set_params(cache=tmp_path / "scores.db")
        clf.predict(X)
        asked = []
        score = type(clf.backend_).score

        def counting(self, requests):
            asked.extend(requests)
            return score(self, requests)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(clf.backend_), "score", counting)
            clf.certify(X, y, max_error=MAX_ERROR)
        assert len(asked) == 2 * 50


class TestVerify:
    def test_the_same_model_is_known_again(self, folder):
        """By the scores of fifty rows, from a fresh start."""
        found = verify(folder)
        assert (found.outcome, found.exit_code) in (("same", 0), ("within noise", 3))
        assert found.comparison.n_rows == 50
        assert found.comparison.score_difference < 1e-4
        assert found.certificate.id in found.message
        json.dumps(found.to_dict(), allow_nan=False)

    def test_without_a_certificate_there_is_nothing_to_verify(self, clf, tmp_path):
        """That is an outcome of its own."""
        clf.save(tmp_path / "clf")
        found = verify(tmp_path / "clf")
        assert (found.outcome, found.exit_code) == ("none", 9)

    def test_other_files_of_the_classifier_are_told(self, folder):
        """A prompt that somebody improved is another classifier."""
        file = folder / "classifier.json"
        file.write_text(file.read_text().replace("{{ text }}:", "{{ text }} :"))
        found = verify(folder)
        assert (found.outcome, found.exit_code) == ("changed", 6)
        assert "certify it again" in found.message

    def test_a_broken_certificate_is_told(self, folder):
        """Whatever the model says."""
        (folder / "certificate.json").write_text("{}")
        found = verify(folder)
        assert (found.outcome, found.exit_code) == ("broken", 7)

    def test_one_of_an_earlier_version_is_told(self, folder, world):
        """With the cure, which works: on the very same rows."""
        of_an_earlier_version(folder)
        found = verify(folder)
        assert (found.outcome, found.exit_code) == ("broken", 7)
        assert "format 1, of an earlier version of llmclf" in found.message
        assert "certify the classifier again" in found.message
        X, y = world.of(World.FRESH)
        made = load(folder).certify(X, y, max_error=MAX_ERROR, folder=folder)
        assert (made.content.format, verify(folder).exit_code) == (2, 0)

    def test_another_page_is_told(self, folder):
        """One that promises more is not what was signed; where another version wrote it, it is mentioned."""
        page = folder / "certificate.html"
        page.write_text(page.read_text().replace("at most 15.0 %", "at most 0.1 %"))
        found = verify(folder)
        assert (found.outcome, found.exit_code, found.comparison) == ("broken", 7, None)
        assert "certificate.html" in found.message
        made = certificate_of(folder)
        older = Certificate(made.content.model_copy(update={"llmclf": "0.0.1"}), made.reference)
        older.save(folder)
        page.write_text("<h1>Certificate</h1>")
        found = verify(folder)
        assert found.exit_code in (0, 3)
        assert "is not the page of the certificate" in found.message

    def test_a_certificate_about_other_classes_is_broken(self, folder):
        """Though it names the files of this classifier."""
        made = certificate_of(folder)
        classes = {"classes": ["bad", "fair", "good"], "words": [["bad"], ["fair"], ["good"]]}
        canary = made.content.canary
        wider = {name: [[*row, 0.0] for row in getattr(canary, name)] for name in ("scores", "probabilities")}
        content = made.content.model_copy(
            update={
                "classifier": made.content.classifier.model_copy(update=classes),
                "canary": canary.model_copy(update=wider),
            }
        )
        proba = np.pad(made.reference.probabilities, ((0, 0), (0, 1)))
        rows = replace(made.reference, probabilities=proba)
        reference = content.reference.model_copy(update={"sha256": sha256(array_bytes(rows.to_array())).hexdigest()})
        Certificate(content.model_copy(update={"reference": reference}), rows).save(folder)
        found = verify(folder)
        assert (found.outcome, found.exit_code) == ("broken", 7)
        assert "other classes" in found.message

    def test_a_signature_that_is_not_there_is_told(self, folder, tmp_path):
        """Where a key says that it should be."""
        from certificates.test_signatures import write_keys

        found = verify(folder, public_key=write_keys(tmp_path)[1])
        assert (found.outcome, found.exit_code) == ("signature", 8)

    def test_a_signed_certificate_is_verified_with_its_public_key(self, clf, world, tmp_path):
        """And says by whom it is signed."""
        from certificates.test_signatures import write_keys

        private, public = write_keys(tmp_path)
        made = clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR, folder=tmp_path / "clf", key=private)
        found = verify(tmp_path / "clf", public_key=public)
        assert found.exit_code in (0, 3)
        assert found.signed_by == made.signature.public_key

    def test_an_expired_certificate_is_told(self, clf, world, tmp_path):
        """Though the model is the same."""
        made = clf.certify(*world.of(World.FRESH), max_error=MAX_ERROR)
        clf.save(tmp_path / "clf")
        old = made.content.model_copy(update={"expires": "2020-01-01T00:00:00+00:00"})
        Certificate(old, made.reference).save(tmp_path / "clf")
        found = verify(tmp_path / "clf")
        assert (found.outcome, found.exit_code) == ("expired", 5)
        assert "2020-01-01" in found.message
        assert "the same model" in found.message

    def test_a_date_in_the_future_is_told(self, folder):
        """Some clock is wrong then; the model may be the same all the same."""
        made = certificate_of(folder)
        changed = {"issued": "2999-01-01T00:00:00+00:00", "expires": "2999-06-01T00:00:00+00:00"}
        Certificate(made.content.model_copy(update=changed), made.reference).save(folder)
        found = verify(folder)
        assert found.exit_code in (0, 3)
        assert "dated in the future (2999-01-01T00:00:00+00:00)" in found.message
        status = certificate_status(load(folder).pipeline_)
        assert (status.status, "some clock is wrong" in status.reason) == ("valid", True)

    def test_the_certificate_of_another_folder_is_told(self, folder, world, tmp_path):
        """Copied with all that belongs to it."""
        world.fitted(calibrator="temperature").save(tmp_path / "other")
        for file in folder.glob("certificate*"):
            shutil.copy(file, tmp_path / "other")
        found = verify(tmp_path / "other")
        assert (found.outcome, found.exit_code) == ("changed", 6)
        assert "the certificate is that of another folder" in found.message

    def test_another_model_is_told_from_the_certified_one(self, folder, model_folder, tmp_path):
        """Weights that differ by a thousandth, under the same name: by its scores and by the hash of its weights."""
        import torch
        from transformers import AutoModelForCausalLM

        place = Path(shutil.copytree(model_folder("byte_bpe"), tmp_path / "model"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = AutoModelForCausalLM.from_pretrained(place)
            with torch.no_grad():
                model.get_input_embeddings().weight.mul_(1.001)
            model.save_pretrained(place)
        made = certificate_of(folder)
        file, new = folder / "classifier.json", f"hf:{place}"
        file.write_text(file.read_text().replace(json.loads(file.read_text())["model"], new))
        classifier = made.content.classifier.model_copy(update={"sha256": classifier_sha256(folder)})
        then = {**made.content.model, "model": open_backend(new).identity()["model"]}
        Certificate(made.content.model_copy(update={"classifier": classifier, "model": then}), made.reference).save(
            folder
        )
        found = verify(folder)
        assert (found.outcome, found.exit_code) == ("another model", 4)
        assert "weights" in found.comparison.other_fact
        assert found.comparison.score_difference > found.comparison.score_tolerance

    def test_hashes_need_their_rows(self, clf, world, tmp_path):
        """The certificate then holds no text; the same rows are found among others, and other rows are refused."""
        X, y = world.of(World.FRESH)
        made = clf.certify(X, y, max_error=MAX_ERROR, canary="hashes", folder=tmp_path / "clf")
        written = (tmp_path / "clf" / "certificate.json").read_text()
        assert made.content.canary.rows is None
        assert not any(text in written for text in X)
        with pytest.raises(InputError, match="keeps only hashes of its 50 canary rows"):
            verify(tmp_path / "clf")
        with pytest.raises(InputError, match="of the 50 canary rows are not among the 100 rows"):
            verify(tmp_path / "clf", X=X[:100])
        assert verify(tmp_path / "clf", X=[*world.texts[:50], *X[::-1]]).exit_code in (0, 3)


class TestWhatMakesItVoid:
    def test_load_reads_a_classifier_with_a_broken_certificate(self, folder):
        """And whoever relies on the certificate is told."""
        (folder / "certificate.json").write_text("{}")
        clf = load(folder)
        status = certificate_status(clf.pipeline_)
        assert status.to_dict() == {"id": None, "status": "broken"}
        with pytest.warns(CertificateWarning, match="nothing is certified"):
            status.warn()

    def test_load_reads_a_classifier_with_a_certificate_of_an_earlier_version(self, folder):
        """And whoever relies on it is told which one it is, and the cure."""
        of_an_earlier_version(folder)
        status = certificate_status(load(folder).pipeline_)
        assert status.to_dict() == {"id": None, "status": "broken"}
        with pytest.warns(
            CertificateWarning, match=r"of format 1, of an earlier version .* certify the classifier again"
        ):
            status.warn()

    def test_a_signature_of_other_content_is_noticed_by_whoever_relies_on_it(self, folder):
        """Not only by `verify`: the hash of changed content is easily made anew, its signature is not."""
        made, key = certificate_of(folder), Ed25519PrivateKey.generate()
        replace(made, signature=signature_of(made.content, key)).save(folder)
        assert certificate_status(load(folder).pipeline_).status == "valid"
        other = made.content.model_copy(update={"assumptions": []})
        replace(made, signature=signature_of(other, key)).save(folder)
        status = certificate_status(load(folder).pipeline_)
        assert status.to_dict() == {"id": None, "status": "broken"}
        assert "signature" in status.reason

    def test_a_loaded_classifier_has_its_certificate_until_it_is_changed(self, folder, world):
        """Another threshold, other scores, and it is about another classifier."""
        made, clf = certificate_of(folder), load(folder)
        assert certificate_status(clf.pipeline_).to_dict() == {"id": made.id, "status": "valid"}
        assert certificate_status(clf.current_pipeline(), made.threshold).status == "valid"
        assert certificate_status(clf.current_pipeline(), 0.5).status == "broken"
        clf.threshold_ = replace(clf.threshold_, threshold=0.5)
        assert certificate_status(clf.current_pipeline()).status == "broken"
        other = load(folder).set_params(scoring="mean")
        with pytest.warns(CalibrationWarning):
            assert certificate_status(other.current_pipeline()).status == "broken"

    def test_saving_another_classifier_in_its_place_removes_it(self, folder, clf):
        """With a warning; saving the same one does not."""
        load(folder).save(folder)
        assert certificate_of(folder) is not None
        clf.threshold_ = replace(clf.threshold_, threshold=0.5)
        with pytest.warns(CertificateWarning, match="is removed"):
            clf.save(folder)
        assert certificate_of(folder) is None
        assert {file.name for file in folder.iterdir()} == {"classifier.json", "certificate-attempts.json"}

    def test_recalibrating_ends_it(self, folder, world):
        """The threshold goes, too."""
        clf = load(folder)
        with (
            pytest.warns(CertificateWarning, match="before this recalibration"),
            pytest.warns(CalibrationWarning, match="gone"),
        ):
            clf.recalibrate(*world.of(World.FRESH))
        assert clf.threshold_ is None
        assert certificate_status(clf.pipeline_).status == "none"
        with pytest.warns(CertificateWarning, match="is removed"):
            clf.save(folder)
        with pytest.raises(InputError, match="the calibrator was fitted on 400"):
            load(folder).fit_threshold(*world.of(World.FRESH), max_error=MAX_ERROR)

    @pytest.mark.parametrize(
        "options",
        [
            {"features": "tfidf"},
            {"features": ["states", "tfidf"], "calibrator": None},
            {"calibrator": "auto", "prior": "uniform"},
            {"bias": "batch", "calibrator": "isotonic"},
        ],
        ids=str,
    )
    def test_every_kind_of_classifier_is_known_again_after_a_load(self, world, tmp_path, options):
        """The hash of what was saved is that of what is read."""
        clf = LLMClassifier(world.backend, labels=["bad", "good"], prompt="{{ text }}:", **options).fit(
            *world.of(World.FIT)
        )
        clf.save(tmp_path / "clf")
        assert pipeline_sha256(load_pipeline(tmp_path / "clf")) == pipeline_sha256(clf.pipeline_)


class TestJobs:
    def rows(self, world):
        import pandas as pd

        return pd.DataFrame({"id": range(20), "text": world.texts[-20:]})

    def test_outputs_name_the_certificate(self, folder, world, tmp_path):
        """In each row, in the metadata of the file, in the summary, and in the line for people."""
        import pyarrow.parquet as pq

        result = label_table(
            self.rows(world), tmp_path / "out.parquet", id_column="id", text_column="text", classifier=folder,
            summary=tmp_path / "summary.json",
        )  # fmt: skip
        made = certificate_of(folder)
        assert pq.read_table(tmp_path / "out.parquet")["certificate"].to_pylist() == [made.id] * 20
        described = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"llmclf"])
        assert described["certificate"] == {"id": made.id, "status": "valid"}
        assert (result.summary.certificate, result.summary.certificate_status) == (made.id, "valid")
        assert json.loads((tmp_path / "summary.json").read_text())["certificate"] == made.id
        assert f"certificate {made.id} valid" in result.summary.line

    def test_a_broken_one_is_said(self, folder, world):
        """The job runs, with a warning, and its summary names none."""
        (folder / "certificate.json").write_text("{}")
        with pytest.warns(CertificateWarning, match="nothing is certified"):
            result = label_table(self.rows(world), text_column="text", classifier=load(folder))
        assert (result.summary.certificate, result.summary.certificate_status) == (None, "broken")

    def test_one_of_an_earlier_version_is_said(self, folder, world):
        """As one that is broken, by its format."""
        of_an_earlier_version(folder)
        with pytest.warns(CertificateWarning, match="of format 1, of an earlier version"):
            result = label_table(self.rows(world), text_column="text", classifier=folder)
        assert (result.summary.certificate, result.summary.certificate_status) == (None, "broken")

    def test_an_expired_one_is_said(self, folder, world):
        """By its id."""
        made = certificate_of(folder)
        old = made.content.model_copy(update={"expires": "2020-01-01T00:00:00+00:00"})
        Certificate(old, made.reference).save(folder)
        with pytest.warns(CertificateWarning, match="has expired"):
            result = label_table(self.rows(world), text_column="text", classifier=folder)
        assert (result.summary.certificate, result.summary.certificate_status) == (certificate_of(folder).id, "expired")

    def test_another_threshold_is_not_certified(self, folder, world):
        """The promise is about rows accepted from the certified confidence on."""
        with pytest.warns(CertificateWarning, match="nothing is promised of these"):
            result = label_table(self.rows(world), text_column="text", classifier=folder, threshold=0.5)
        assert result.summary.certificate_status == "broken"

    def test_without_one_nothing_is_said(self, clf, world):
        """Neither in the line nor by a warning."""
        result = label_table(self.rows(world), text_column="text", classifier=clf)
        assert result.summary.certificate_status == "none"
        assert "certificate" not in result.summary.line
