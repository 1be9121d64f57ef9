"""The token trie's plan and layout, as laws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.local.trie_batches import Budget, groups, in_parts, lay_out, plan, read_on_alone
from llmclf.backends.local.trie_blocks import tiles
from llmclf.backends.requests import needs_terminator
from llmclf.backends.tokens.codec import TokenRow
from llmclf.backends.tokens.label_trie import label_trie, n_inner_nodes

tokens = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)
completions = st.lists(tokens, min_size=1, max_size=6, unique=True).map(tuple)
contexts = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
rows = st.lists(st.builds(TokenRow, contexts, completions), min_size=1)


@st.composite
def known_rows(draw) -> list[TokenRow]:
    """Rows of some prompts, each of which begins with what it is known to begin with, or with a token less or more of it."""
    some = []
    for known in draw(st.lists(contexts, min_size=1, max_size=3)):
        for own in draw(st.lists(contexts, min_size=1, max_size=6)):
            n_common = min(len(known) + draw(st.integers(-1, 0)), len(known) + len(own) - 1)
            some.append(TokenRow((*known, *own), draw(completions), n_common=max(0, n_common)))
    return draw(st.permutations(some))


def all_share(some: list[TokenRow]) -> int:
    """How many tokens all contexts begin with; every row keeps one."""
    limit = min(len(row.context) for row in some) - 1
    return next((n for n in range(limit, 0, -1) if len({row.context[:n] for row in some}) == 1), 0)


@given(completions)
def test_a_trie_holds_every_inner_prefix_once(labels):
    """Nodes are the distinct proper prefixes; following a label's columns spells the label."""
    trie = label_trie(labels)
    assert n_inner_nodes(labels) == trie.n_nodes == len({label[:j] for label in labels for j in range(1, len(label))})
    for label, columns, targets in zip(labels, trie.columns, trie.targets, strict=True):
        assert tuple(targets) == label
        assert columns[0] == 0
        assert [trie.tokens[c - 1] for c in columns[1:]] == list(label[:-1])
        assert [trie.depths[c - 1] for c in columns[1:]] == list(range(1, len(label)))


@given(completions)
def test_a_node_sees_itself_and_its_ancestors(labels):
    """A node at depth d sees exactly d nodes, all of them on its own path."""
    trie = label_trie(labels)
    np.testing.assert_array_equal(trie.visible.sum(axis=1), trie.depths)
    for columns in trie.columns:
        path = columns[1:] - 1
        for j, node in enumerate(path):
            assert set(np.flatnonzero(trie.visible[node])) == set(path[: j + 1])


@given(st.one_of(rows, known_rows()), st.integers(0, 12))
def test_groups_hold_every_row_once_and_share_what_they_say(some, least):
    """Rows of a group begin with the same tokens, keep one of their own, and no step but the known one saves too little."""
    found = groups(some, least)
    assert sorted(i for group in found for i in group.places) == list(range(len(some)))
    users: dict[tuple, int] = {}
    for group in found:
        assert group.steps[0] <= min(some[i].n_common for i in group.places)
        assert list(group.steps) == sorted(set(group.steps))
        (prefix,) = {some[i].context[: group.steps[-1]] for i in group.places}
        assert all(len(some[i].context) > len(prefix) for i in group.places)
        for place, (before, step) in enumerate(pairwise(group.steps)):
            key = (group.steps[: place + 2], prefix[:step], step - before)
            users[key] = users.get(key, 0) + len(group.places)
    assert all((n - 1) * n_new >= max(1, least) for (_, _, n_new), n in users.items())


@given(known_rows(), st.integers(0, 12))
def test_what_is_known_to_stand_before_a_row_is_the_first_step(some, least):
    """Of every group, whatever the other rows of the call are; but for some tokens that straddle a row's first character."""
    for group in groups(some, least):
        for place in group.places:
            assert 0 <= some[place].n_common - group.steps[0] <= 3


@given(rows)
def test_groups_that_may_save_anything_leave_nothing_to_save(some):
    """Without a least saving, rows that share a further token are together: every distinct inner prefix is computed once."""
    found = groups(some, 1)
    computed = {some[i].context[:n] for group in found for i in group.places for n in range(1, group.steps[-1] + 1)}
    rest = sum(len(some[i].context) - group.steps[-1] for group in found for i in group.places)
    # A row's last token is its own even where another row has the same one there.
    inner = {row.context[:n] for row in some for n in range(1, len(row.context))}
    assert len(computed) + rest == len(inner) + len(some)


@given(rows, st.integers(1, 8))
def test_parts_hold_every_completion_once_and_few_nodes(some, most):
    """A part has more nodes than it may only if it is one completion; and parts of a row share at most a path."""
    parts = in_parts(some, most)
    for place, row in enumerate(some):
        of_row = [(which, part) for owner, which, part in parts if owner == place]
        assert sorted(i for which, _ in of_row for i in which) == list(range(len(row.targets)))
        for which, part in of_row:
            assert part.targets == tuple(row.targets[i] for i in which)
            assert part.context == row.context
            assert label_trie(part.targets).n_nodes <= most or len(which) == 1
        depth = max(map(len, row.targets)) - 1
        n_nodes = sum(label_trie(part.targets).n_nodes for _, part in of_row)
        assert n_nodes <= label_trie(row.targets).n_nodes + depth * (len(of_row) - 1)


@given(rows, st.integers(1, 6))
def test_rows_that_are_too_long_are_read_on_alone(some, longest):
    """Every row is in one group, which leaves it few tokens of its own; a long one is left its last, and shares only its like."""
    before = {i: group for group in groups(some, 3) for i in group.places}
    found = read_on_alone(groups(some, 3), some, longest)
    assert sorted(i for group in found for i in group.places) == list(range(len(some)))
    for group in found:
        for i in group.places:
            n_tokens = len(some[i].context)
            if n_tokens - before[i].steps[-1] > longest:
                assert group.steps == (*before[i].steps, n_tokens - 1)
                assert {some[j].context for j in group.places} == {some[i].context}
            else:
                assert group.steps == before[i].steps


@given(rows, st.builds(Budget, st.integers(1, 60), st.integers(1, 60)))
def test_a_plan_holds_every_row_once_and_keeps_the_budget(some, budget):
    """Only a batch of one row may exceed a budget, and the next row of a batch would not have fitted."""
    n_prefix = all_share(some)
    batches = plan(some, range(len(some)), n_prefix, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(some)))

    def size(batch):
        laid_out = lay_out(some, batch, n_prefix)
        return np.array([laid_out.tokens.size, laid_out.predicted.size])

    assert all((size(batch) <= budget).all() or len(batch) == 1 for batch in batches)
    for batch, following in pairwise(batches):
        assert (size(batch) + size(following[:1]) > budget).any()


@given(rows, st.sampled_from([1, 2, 5, 64, None]))
def test_a_layout_lets_every_column_see_its_own_past_alone(some, longest):
    """Columns spell each row's context and nodes; what a column sees is what precedes it in its own sequence, each once."""
    n_prefix = all_share(some)
    batch = lay_out(some, range(len(some)), n_prefix, longest)
    sees = seen(batch.tiles, len(batch.tokens))
    predicted = iter(batch.predicted.tolist())
    for b, row in enumerate(some):
        own, start = row.context[n_prefix:], batch.starts[b]
        assert batch.n_texts[b] == len(own)
        for i in range(len(own)):
            assert sees[start + i] == list(range(start, start + i + 1))
        of_row = [next(predicted) for _ in range(batch.tries[b].n_nodes + 1)]
        for target, columns in zip(row.targets, batch.tries[b].columns, strict=True):
            for j, column in enumerate(columns):
                path = sees[of_row[column]]
                assert batch.tokens[path].tolist() == [*own, *target[:j]]
                assert batch.positions[path].tolist() == list(range(n_prefix, n_prefix + len(own) + j))
    assert next(predicted, None) is None


def seen(tiles, n_columns: int) -> list[list[int]]:
    """What each column sees, in order. A repeated query sees something, too: one that sees nothing would be NaN."""
    found: list[list[int]] = []
    for tile in tiles:
        assert tile.mask.any(axis=2).all()
        columns = [
            (query, sorted(tile.keys[b][tile.mask[b, i]].tolist()))
            for b, block in enumerate(tile.queries.tolist())
            for i, query in enumerate(block)
        ]
        real = range(len(columns)) if tile.real is None else tile.real.tolist()
        for i in real:
            assert columns[i][0] == len(found)
            found.append(columns[i][1])
    assert len(found) == n_columns
    return found


@given(rows, st.sampled_from([1, 3, 64]), st.integers(0, 9000))
def test_blocks_are_short_and_hold_one_row(some, longest, n_prefix):
    """No block is longer than it may be, and a block's keys, the repeated ones among them, are of its queries' row."""
    batch = lay_out(some, range(len(some)), 0, longest)
    owners = np.repeat(np.arange(len(some)), np.diff([*batch.starts, len(batch.tokens)]))
    for tile in tiles(batch.n_texts, batch.tries, n_prefix, longest):
        assert tile.queries.shape[1] <= longest
        for queries, keys in zip(tile.queries, tile.keys, strict=True):
            assert len({*owners[queries].tolist(), *owners[keys].tolist()}) == 1


@given(completions)
def test_a_terminator_is_needed_just_when_one_label_begins_with_another(labels):
    """As found by comparing all pairs."""
    nested = any(a != b and b[: len(a)] == a for a in labels for b in labels)
    assert needs_terminator(labels) == nested


@pytest.mark.parametrize("labels", [((1,), (1,)), ((1, 2), (1, 2))])
def test_equal_labels_need_more_than_a_terminator_too(labels):
    """Equal sequences count as nested."""
    assert needs_terminator(labels)
