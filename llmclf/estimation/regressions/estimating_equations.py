r"""The estimating equations of a linear or logistic regression in which a label is seen on some rows and predicted on all.

With :math:`\psi_i(\beta) = x_i (y_i - \mu(x_i'\beta))` of a row, of which x or y depends on its label, and its expectation
:math:`m_i(\beta) = \sum_k q_{ik} \psi_{ik}(\beta)` under the probabilities q of its label, the coefficients solve

.. math:: \lambda \sum_{i \le N} \omega_i m_i(\beta) + \sum_{i \in s} d_i (\psi_i(\beta) - \lambda m_i(\beta)) = 0,

where :math:`\omega` are the shares of all N rows and d those of the labelled rows s. With :math:`\lambda = 0` this is the
regression on the hand labels alone. With 1 and the label as outcome, it is the regression of the doubly robust pseudo-outcome
:math:`q_i + d_i / \omega_i (y_i - q_i)` on all rows (Egami et al. 2023, "Using imperfect surrogates for downstream inference").
In between it is prediction-powered (Angelopoulos, Duchi & Zrnic 2023, "PPI++: Efficient prediction-powered inference").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from scipy.special import expit

from ...arrays import Floats, Integers
from .blocks import Block, ClassBlock, PlainBlock

_STEPS, _HALVINGS = 100, 20
_LONGEST_STEP, _LARGEST = 5.0, 1e3  # of the log-odds, as a root mean square
_FLAT, _FLAT_ENOUGH = 1e-12, 1e-8  # of the equations, whose weights sum to 1
_FLAT_SLOPE = 1e-8  # of the derivative, relative to that of the linear equations by hand alone


class NoSolutionError(Exception):
    """The estimating equations have no solution, as where the mean of a pseudo-outcome lies outside [0, 1]."""


@dataclass(frozen=True, eq=False)
class LabelDesign:
    """A regression whose outcome, or some of whose covariates, depend on the label of the row.

    Attributes
    ----------
    X : ndarray (N, p)
        The covariates; what stands in the columns `varying` does not matter.
    y : ndarray (N,) or None
        The outcome; None if the label is the outcome.
    values : ndarray (K,) or (N, K), or None
        The outcome that each class stands for, everywhere or in each row; None if the label is a covariate.
    varying : ndarray of int (v,)
        The columns that depend on the label.
    by_class : tuple of K ndarrays (N or 1, v)
        What stands in these columns for each class.
    """

    X: Floats
    y: Floats | None = None
    values: Floats | None = None
    varying: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    by_class: tuple[Floats, ...] = ()

    @cached_property
    def _different(self) -> dict[int, list[int]]:
        """One class of each kind of covariates that labels make, and all the classes of its kind."""
        kinds: dict[int, list[int]] = {}
        for k, columns in enumerate(self.by_class):
            known = next((one for one in kinds if np.array_equal(self.by_class[one], columns)), k)
            kinds.setdefault(known, []).append(k)
        return kinds

    @cached_property
    def _fixed(self) -> tuple[Floats, Integers]:
        """The columns (N, f) that do not depend on the label, and their places."""
        places = np.setdiff1d(np.arange(self.X.shape[1]), self.varying)
        return np.ascontiguousarray(self.X[:, places]), places

    def of_class(self, k: int, rows: Integers | None = None) -> Floats:
        """The covariates (r, p) of rows, all of them by default, if their label were class `k`."""
        X = self.X.copy() if rows is None else self.X[rows]
        columns = self.by_class[k]
        X[:, self.varying] = columns if rows is None or len(columns) == 1 else columns[rows]
        return X

    def of_rows(self, rows: Integers | None) -> Floats:
        """The outcomes (1 or r, K) of the classes."""
        assert self.values is not None
        if self.values.ndim == 1:
            return self.values[None, :]
        return self.values if rows is None else self.values[rows]

    def observed(self, codes: Integers, rows: Integers) -> tuple[Floats, Floats]:
        """Covariates (n, p) and outcome (n,) of rows whose labels are seen."""
        if self.values is not None:
            return self.X[rows], self.values[codes] if self.values.ndim == 1 else self.values[rows, codes]
        assert self.y is not None
        X = self.X[rows]
        for k, columns in enumerate(self.by_class):
            of_class = codes == k
            X[np.ix_(of_class, self.varying)] = columns if len(columns) == 1 else columns[rows[of_class]]
        return X, self.y[rows]

    def expected(self, q: Floats, weight: Floats, rows: Integers | None = None) -> Iterator[Block]:
        """Blocks whose scores add up to the expectation over the labels, with probabilities `q` (r, K)."""
        if self.values is not None:
            outcomes = (q * self.of_rows(rows)).sum(axis=1)
            yield PlainBlock(self.X if rows is None else self.X[rows], outcomes[:, None], weight[:, None])
            return
        assert self.y is not None
        y = (self.y if rows is None else self.y[rows])[:, None]
        if all(len(columns) == 1 for columns in self.by_class):
            kinds = np.concatenate([self.by_class[k] for k in self._different])
            fixed, places = self._fixed
            together = (
                q
                if len(kinds) == q.shape[1]
                else np.column_stack([q[:, alike].sum(axis=1) for alike in self._different.values()])
            )
            yield ClassBlock(
                fixed if rows is None else fixed[rows], kinds, places, self.varying, y, weight[:, None] * together
            )
            return
        for k, alike in self._different.items():
            yield PlainBlock(self.of_class(k, rows), y, (weight * q[:, alike].sum(axis=1))[:, None])


@dataclass(frozen=True, eq=False)
class EstimatingEquations:
    """The equations of one regression.

    Attributes
    ----------
    design : LabelDesign
    is_logistic : bool
    q_all : ndarray (N, K)
        The probabilities of all rows, in the mean over the folds.
    q_seen : ndarray (n, K)
        Those of the labelled rows, by a recalibration that did not see the row.
    codes, rows : ndarray of int (n,)
    shares : ndarray (N,)
        Of all rows; they sum to 1.
    design_shares : ndarray (n,)
        Of the labelled rows.
    """

    design: LabelDesign
    is_logistic: bool
    q_all: Floats
    q_seen: Floats
    codes: Integers
    rows: Integers
    shares: Floats
    design_shares: Floats

    def blocks(self, tuning: float) -> Iterator[Block]:
        """All parts of the equations, with the weights that they have in it."""
        X, y = self.design.observed(self.codes, self.rows)
        yield PlainBlock(X, y[:, None], self.design_shares[:, None])
        if tuning:
            yield from self.design.expected(self.q_seen, -tuning * self.design_shares, self.rows)
            yield from self.design.expected(self.q_all, tuning * self.shares)

    def solve(self, tuning: float, spread: Floats | None = None, start: Floats | None = None) -> Floats:
        """The coefficients (p,).

        Parameters
        ----------
        tuning : float
            Lambda, in [0, 1].
        spread : ndarray (p, p), optional
            For the bias reduction of a logistic regression (Firth 1993, "Bias reduction of maximum likelihood estimates"): a
            matrix A for which ``A @ inverse_slope @ A.T`` is the covariance of the estimate, from which its bias comes. The root
            of 1 / n times the unit matrix for n labels alone, which is Firth's; None: without the reduction.
        start : ndarray (p,), optional

        Raises
        ------
        NoSolutionError
            There is none, or none is found.
        """
        if not self.is_logistic:
            slope, score = self._linear(tuning)
            self._check_slope(slope)
            return _step(slope, score)
        beta = np.zeros(self.design.X.shape[1]) if start is None else start.copy()
        score, slope = self._score(tuning, beta, spread)
        for _ in range(_STEPS):
            size = self._size(score)
            self._check_slope(slope)
            if size < _FLAT:
                return beta
            step = _step(slope, score)
            step *= min(1.0, _LONGEST_STEP / max(self._length(step), 1e-300))
            for halvings in range(_HALVINGS):
                candidate = beta + step / 2.0**halvings
                new_score, new_slope = self._score(tuning, candidate, spread)
                if self._size(new_score) < size:
                    break
            else:
                if size < _FLAT_ENOUGH:
                    return beta
                raise NoSolutionError
            beta, score, slope = candidate, new_score, new_slope
            if self._length(beta) > _LARGEST:
                raise NoSolutionError
        raise NoSolutionError

    @cached_property
    def _root(self) -> Floats:
        """The root (p, p) of the products of the labelled rows' covariates, which makes lengths independent of their units."""
        try:
            return np.asarray(np.linalg.cholesky(self._linear_by_hand[0]), dtype=np.float64)
        except np.linalg.LinAlgError:
            raise NoSolutionError from None

    def _size(self, score: Floats) -> float:
        return float(np.abs(np.linalg.solve(self._root, score)).max())

    def _length(self, beta: Floats) -> float:
        """The root of the mean square, over the labelled rows, of what the coefficients add up to."""
        return float(np.linalg.norm(self._root.T @ beta))

    def _check_slope(self, slope: Floats) -> None:
        """Stop where the coefficients grow without end, or few labels make the derivative of the equations change its sign.

        Raises
        ------
        NoSolutionError
        """
        by_hand = self._linear_by_hand[0]
        if np.linalg.eigvals(_step(by_hand, slope)).real.min() < _FLAT_SLOPE:
            raise NoSolutionError

    def _linear(self, tuning: float) -> tuple[Floats, Floats]:
        """The derivative (p, p) and the constant (p,) of linear equations."""
        slope, score = self._linear_by_hand
        if tuning:
            slope, score = slope + tuning * self._linear_predicted[0], score + tuning * self._linear_predicted[1]
        return slope, score

    @cached_property
    def _linear_by_hand(self) -> tuple[Floats, Floats]:
        return _products(self.blocks(0.0))

    @cached_property
    def _linear_predicted(self) -> tuple[Floats, Floats]:
        seen = self.design.expected(self.q_seen, -self.design_shares, self.rows)
        return _products(chain(seen, self.design.expected(self.q_all, self.shares)))

    def _score(self, tuning: float, beta: Floats, spread: Floats | None) -> tuple[Floats, Floats]:
        """The value (p,) of the equations, and minus their derivative (p, p)."""
        score, slope = np.zeros(beta.size), np.zeros((beta.size, beta.size))
        blocks = list(self.blocks(tuning))
        means = [expit(block.eta(beta)) for block in blocks]
        for block, mu in zip(blocks, means, strict=True):
            score += block.sums(block.weight * (block.y - mu))
            slope += block.gram(block.weight * mu * (1.0 - mu))
        if spread is not None:
            inverse = _inverse(slope)
            covariance = spread @ ((inverse + inverse.T) / 2.0) @ spread.T
            for block, mu in zip(blocks, means, strict=True):
                leverage = block.leverage(covariance) * mu * (1.0 - mu)
                score += block.sums(block.weight * leverage * (0.5 - mu))
        return score, slope

    def slope(self, tuning: float, beta: Floats) -> Floats:
        """Minus the derivative (p, p) of the equations."""
        return self._score(tuning, beta, None)[1] if self.is_logistic else self._linear(tuning)[0]

    def inverse_slope(self, tuning: float, beta: Floats) -> Floats:
        """The inverse (p, p) of `slope`.

        Raises
        ------
        NoSolutionError
            There is none.
        """
        return _inverse(self.slope(tuning, beta))

    def mean(self, eta: Floats) -> Floats:
        mu: Floats = expit(eta) if self.is_logistic else eta
        return mu

    def seen_scores(self, beta: Floats) -> tuple[Floats, Floats]:
        """The scores (n, p) of the labelled rows, and their expectations (n, p)."""
        X, y = self.design.observed(self.codes, self.rows)
        psi = X * (y - self.mean(X @ beta))[:, None]
        return psi, self._expected_scores(beta, self.q_seen, self.rows)

    def expected_squares(self, beta: Floats, inverse: Floats) -> Floats:
        """The expected squares (n, p) of the labelled rows' scores, after multiplication with a matrix (p, p)."""
        if self.design.values is not None:
            X = self.design.X[self.rows]
            away = self.design.of_rows(self.rows) - self.mean(X @ beta)[:, None]
            squares: Floats = (X @ inverse.T) ** 2 * (self.q_seen * away**2).sum(axis=1)[:, None]
            return squares
        blocks = self.design.expected(self.q_seen, np.ones(len(self.rows)), self.rows)
        return np.asarray(sum(b.row_squares(b.weight * (b.y - self.mean(b.eta(beta))) ** 2, inverse) for b in blocks))

    def all_scores(self, beta: Floats, matrix: Floats | None = None) -> Floats:
        """The expected scores of all rows (N, p), or (N, m) if they are multiplied with a matrix (m, p)."""
        return self._expected_scores(beta, self.q_all, None, matrix)

    def _expected_scores(self, beta: Floats, q: Floats, rows: Integers | None, matrix: Floats | None = None) -> Floats:
        blocks = self.design.expected(q, np.ones(len(q)), rows)
        return np.asarray(sum(b.row_sums(b.weight * (b.y - self.mean(b.eta(beta))), matrix) for b in blocks))

    def seen_slopes(self, tuning: float, beta: Floats) -> Floats:
        """Minus the derivatives (n, p, p) of the labelled rows' parts of the equations, by their shares."""
        X, y = self.design.observed(self.codes, self.rows)
        result = self._slopes(PlainBlock(X, y[:, None], self.design_shares[:, None]), beta)
        if tuning:
            for block in self.design.expected(self.q_seen, -tuning * self.design_shares, self.rows):
                result += self._slopes(block, beta)
        return result

    def _slopes(self, block: Block, beta: Floats) -> Floats:
        if not self.is_logistic:
            return block.row_grams(block.weight)
        mu = expit(block.eta(beta))
        return block.row_grams(block.weight * mu * (1.0 - mu))


def _products(blocks: Iterable[Block]) -> tuple[Floats, Floats]:
    """The weighted products of the covariates with themselves (p, p) and with the outcome (p,)."""
    slopes, scores = zip(
        *((block.gram(block.weight), block.sums(block.weight * block.y)) for block in blocks), strict=True
    )
    return np.sum(slopes, axis=0), np.sum(scores, axis=0)


def _step(slope: Floats, score: Floats) -> Floats:
    try:
        step = np.asarray(np.linalg.solve(slope, score), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise NoSolutionError from None
    if not np.isfinite(step).all():
        raise NoSolutionError
    return step


def _inverse(slope: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.inv(slope), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise NoSolutionError from None
