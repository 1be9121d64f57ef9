"""Folders of saved classifiers with arrays: whole or not at all, replaced in one step, and never trusted."""

from __future__ import annotations

import json
import os
import pickle
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from llmclf.errors import StoreError
from llmclf.saved_folder import read_folder, write_folder

LARGE = np.random.default_rng(0).normal(size=(50, 100))


def test_round_trip(tmp_path):
    """Large arrays lie in files of their own, small ones in the JSON; both are what they were."""
    values = {"a": LARGE, "b": [{"c": LARGE.T, "d": np.arange(3.0)}], "e": "text"}
    write_folder(tmp_path / "saved", values)
    assert len(list(tmp_path.glob("saved/*.npy"))) == 2
    found = read_folder(tmp_path / "saved")
    assert (found["a"] == LARGE).all()
    assert (found["b"][0]["c"] == LARGE.T).all()
    assert found["b"][0]["d"] == [0.0, 1.0, 2.0]
    assert found["e"] == "text"


@given(numpy_strategies.arrays(np.float64, st.tuples(st.integers(1001, 1100)), elements=st.floats(-1e300, 1e300)))
def test_numbers_are_exact(tmp_path_factory, array):
    """To the last bit."""
    folder = tmp_path_factory.mktemp("saved")
    write_folder(folder, {"a": array})
    assert read_folder(folder)["a"].tobytes() == array.tobytes()


def test_another_classifier_replaces_the_arrays(tmp_path):
    """Files that no classifier names any more are removed; those that it shares stay."""
    write_folder(tmp_path, {"a": LARGE, "b": LARGE + 1})
    before = set(os.listdir(tmp_path))
    write_folder(tmp_path, {"a": LARGE})
    assert set(os.listdir(tmp_path)) < before
    assert (read_folder(tmp_path)["a"] == LARGE).all()
    write_folder(tmp_path, {})
    assert os.listdir(tmp_path) == ["classifier.json"]


def test_a_save_that_was_killed_can_be_repeated(tmp_path):
    """Arrays without a classifier are no foreign files; anything else is."""
    write_folder(tmp_path, {"a": LARGE})
    (tmp_path / "classifier.json").unlink()
    write_folder(tmp_path, {"a": LARGE})
    (tmp_path / "classifier.json").unlink()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(StoreError, match="is not a saved classifier"):
        write_folder(tmp_path, {"a": LARGE})


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(tmp_path, constant):
    """save never writes these, though Python's JSON reads them."""
    (tmp_path / "classifier.json").write_text(f'{{"a": [1.0, {constant}]}}')
    with pytest.raises(
        StoreError, match=rf"classifier\.json' is damaged.*{constant}, which is not a finite number.*once more"
    ):
        read_folder(tmp_path)


def written(folder, data):
    """A folder whose array file holds `data`, under the name that its hash gives it."""
    name = f"{sha256(data).hexdigest()[:32]}.npy"
    (folder / name).write_bytes(data)
    (folder / "classifier.json").write_text(json.dumps({"a": {"\0array": name}}))


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an array",
        header(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + pickle.dumps([print]),
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n") + bytes(8),
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n") + bytes(8),
        header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n") + bytes(8),
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n") + np.float64(np.nan).tobytes(),
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': __import__('os'), }\n") + bytes(8),
        header(b"{'descr': '<f8', 'fortran_order': True, 'shape': (2, 2), }\n") + bytes(32),
        header(b"{'descr': '>f8', 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        header(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        header(b"{'descr': (), 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        header(b"{'descr': [], 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        header(b"{'descr': [('a', 5)], 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        header(b"{'descr': {}, 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        header(b"{[]: 1}\n") + bytes(8),
        header(b"((((((" + b"\n"),
        header(b"{'descr': '<f8', 'fortran_order': 0, 'shape': (1,), }\n") + bytes(8),
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (True,), }\n") + bytes(7),
        header(b"\xff\n") + bytes(8),
        b"\x93NUMPY\x01\x00\xff\xff{}",
        b"\x93NUMPY",
        b"\x93NUMPY\x03\x00" + bytes(20),
    ],
)
def test_what_is_no_array_is_refused(tmp_path, data):
    """No objects, no sizes that the bytes do not hold, no numbers that are none."""
    written(tmp_path, data)
    with pytest.raises(StoreError, match=r"\.npy"):
        read_folder(tmp_path)


@given(st.data())
def test_a_damaged_header_is_one_error(tmp_path_factory, data):
    """Whichever bytes of it are others, under a name that fits them; or it says the same."""
    folder = tmp_path_factory.mktemp("saved")
    write_folder(folder, {"a": np.arange(1001.0)})
    whole = bytearray(next(folder.glob("*.npy")).read_bytes())
    for place in data.draw(st.lists(st.integers(0, 127), min_size=1, max_size=3)):
        whole[place] = data.draw(st.sampled_from(b"()[]{},':0158<>|OUf -\\\n\0\xff"))
    written(folder, bytes(whole))
    try:
        found = read_folder(folder)["a"]
    except StoreError as error:
        assert ".npy" in str(error)
        assert "fit and save the classifier once more" in str(error)
    else:
        assert found.size == 1001


@pytest.mark.parametrize("name", ["../x.npy", "/etc/passwd", "a.npy", 3, None, ["x"]])
def test_names_do_not_leave_the_folder(tmp_path, name):
    """A name is a hash and nothing else."""
    (tmp_path / "classifier.json").write_text(json.dumps({"a": {"\0array": name}}))
    with pytest.raises(StoreError, match="is not the name of an array"):
        read_folder(tmp_path)


def test_saving_again_mends_a_damaged_array(tmp_path):
    """An array that is not what its name says is written anew."""
    write_folder(tmp_path, {"a": LARGE})
    file = next(tmp_path.glob("*.npy"))
    file.write_bytes(file.read_bytes()[:-8])
    write_folder(tmp_path, {"a": LARGE})
    assert (read_folder(tmp_path)["a"] == LARGE).all()


def test_saving_never_writes_through_a_link(tmp_path):
    """A folder that came from somebody else may hold one that leads to any file of the user's."""
    victim, folder = tmp_path / "diary.txt", tmp_path / "clf"
    victim.write_text("mine")
    write_folder(folder, {"bias": np.zeros(2000)})
    for file in list(folder.iterdir()):
        file.unlink()
        file.symlink_to(victim)
    write_folder(folder, {"bias": np.zeros(2000)})
    assert victim.read_text() == "mine"
    assert not any(file.is_symlink() for file in folder.iterdir())
