"""Rows of a regression whose covariates depend on the class, kept once for each class or once for each row and class."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf.estimation.regressions.blocks import ClassBlock, PlainBlock
from llmclf.estimation.regressions.estimating_equations import LabelDesign

R, C = 30, 4


@pytest.fixture
def blocks():
    """A block of all classes, and plain blocks of one class each, of the same rows, weights and columns in another order."""
    rng = np.random.default_rng(0)
    fixed, by_class = rng.normal(size=(R, 3)), rng.normal(size=(C, 2))
    places, class_places = np.array([0, 2, 4]), np.array([3, 1])
    y, weight = rng.normal(size=(R, 1)), rng.normal(size=(R, C))
    plain = []
    for k in range(C):
        X = np.empty((R, 5))
        X[:, places], X[:, class_places] = fixed, by_class[k]
        plain.append(PlainBlock(X, y, weight[:, [k]]))
    return ClassBlock(fixed, by_class, places, class_places, y, weight), plain


def test_sums_over_classes_are_those_of_rows_for_each(blocks):
    """Every sum, each row's sum, with and without a matrix."""
    one, plain = blocks
    rng = np.random.default_rng(1)
    values, matrix = rng.normal(size=(R, C)), rng.normal(size=(2, 5))
    columns = [values[:, [k]] for k in range(C)]
    for name, more in (
        ("sums", ()),
        ("gram", ()),
        ("row_sums", ()),
        ("row_sums", (matrix,)),
        ("row_squares", (matrix,)),
        ("row_grams", ()),
    ):
        together = getattr(one, name)(values, *more)
        each = sum(getattr(block, name)(column, *more) for block, column in zip(plain, columns, strict=True))
        np.testing.assert_allclose(together, each, atol=1e-12, err_msg=name)


def test_what_rows_and_classes_have_each(blocks):
    """Linear predictors, and lengths under a symmetric matrix."""
    one, plain = blocks
    rng = np.random.default_rng(2)
    beta, root = rng.normal(size=5), rng.normal(size=(5, 5))
    np.testing.assert_allclose(one.eta(beta), np.hstack([block.eta(beta) for block in plain]))
    inverse = root @ root.T
    np.testing.assert_allclose(one.leverage(inverse), np.hstack([block.leverage(inverse) for block in plain]))


def test_classes_with_the_same_covariates_are_one():
    """A design of twenty classes of which one is the event has two kinds, each with the probabilities of its classes."""
    by_class = tuple(np.full((1, 1), float(k == 3)) for k in range(20))
    design = LabelDesign(np.ones((R, 2)), y=np.zeros(R), varying=np.array([1]), by_class=by_class)
    q = np.random.default_rng(3).dirichlet(np.ones(20), R)
    (block,) = design.expected(q, np.ones(R))
    assert block.by_class.tolist() == [[0.0], [1.0]]
    np.testing.assert_allclose(block.weight, np.column_stack([1 - q[:, 3], q[:, 3]]))


def test_covariates_that_depend_on_row_and_class_have_blocks_of_their_own():
    """Their expected sums are those of a design that has the same numbers by class."""
    rng = np.random.default_rng(4)
    X, y, q = rng.normal(size=(R, 3)), rng.normal(size=R), rng.dirichlet(np.ones(C), R)
    short = tuple(rng.normal(size=(1, 1)) for _ in range(C))
    long = tuple(np.repeat(one, R, axis=0) for one in short)
    sums = []
    for by_class in (short, long):
        design = LabelDesign(X, y=y, varying=np.array([1]), by_class=by_class)
        sums.append(sum(block.gram(block.weight) for block in design.expected(q, np.ones(R))))
    np.testing.assert_allclose(*sums)
