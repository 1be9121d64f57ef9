"""The queue in front of the models: what goes together, what waits, and that nothing is lost or answered twice."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.serve.gathering import DIED, Gatherer
from llmclf.serve.limits import Limits
from llmclf.serve.questions import Answer, Ask
from llmclf.serve.refusals import RefusalError


class Model:
    """A process that answers when it is told to, each row with its own number."""

    def __init__(self):
        self.is_ready = True
        self.sent = {}
        self.order = []
        self.killed = 0
        self.gatherer = None

    def send(self, number, lane, asks):
        self.sent[number] = list(asks)
        self.order.append([one["row"] for one in asks])

    def kill(self):
        self.killed += 1

    def answer(self, number=None):
        number = next(iter(self.sent)) if number is None else number
        asks = self.sent.pop(number)
        self.gatherer.answered(number, [Answer((float(one["row"]), 0.0)) for one in asks])

    def die(self):
        self.sent = {}
        self.is_ready = False
        self.gatherer.process_changed(False)

    def revive(self):
        self.is_ready = True
        self.gatherer.process_changed(True)


class Passes(list):
    def passed(self, rows, seconds):
        self.append(rows)


def made(lanes=None, clock=None, **limits):
    model, passes = Model(), Passes()
    options = {} if clock is None else {"clock": clock}
    gatherer = Gatherer(lanes or {"0": 1}, Limits(**limits), passes, **options)
    gatherer.attach(model)
    model.gatherer = gatherer
    return gatherer, model, passes


def rows(*numbers):
    return [Ask("m", {"row": number}, (0, 1)) for number in numbers]


def said(answers):
    return [answer.probabilities[0] if answer.probabilities else answer.kind for answer in answers]


async def turn(n=3):
    for _ in range(n):
        await asyncio.sleep(0)


def test_an_idle_model_is_asked_at_once_and_a_busy_one_about_all_that_gathered():
    """The first row goes alone; what comes meanwhile goes together, in the order in which it came."""

    async def run():
        gatherer, model, passes = made()
        tasks = [asyncio.ensure_future(gatherer.answers("0", rows(i))) for i in range(5)]
        await turn()
        assert model.order == [[0]]
        model.answer()
        await turn()
        assert model.order == [[0], [1, 2, 3, 4]]
        model.answer()
        assert [said(one) for one in await asyncio.gather(*tasks)] == [[0.0], [1.0], [2.0], [3.0], [4.0]]
        assert passes == [1, 4]
        assert gatherer.waiting_rows == gatherer.passes == 0

    asyncio.run(run())


def test_requests_take_turns_so_that_a_large_one_does_not_hold_up_a_small_one():
    """A pass has one row of each request by turns."""

    async def run():
        gatherer, model, _ = made(pass_rows=4)
        tasks = [asyncio.ensure_future(gatherer.answers("0", rows(99)))]
        await turn()
        tasks += [asyncio.ensure_future(gatherer.answers("0", rows(*range(6))))]
        tasks += [asyncio.ensure_future(gatherer.answers("0", rows(10)))]
        await turn()
        model.answer()
        await turn()
        assert model.order[1] == [0, 10, 1, 2]
        model.answer()
        while model.sent or not all(task.done() for task in tasks):
            await asyncio.sleep(0.006)
            if model.sent:
                model.answer()
        assert said(tasks[1].result()) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]

    asyncio.run(run())


def test_the_next_pass_waits_a_moment_for_clients_that_were_just_answered():
    """After a pass of several requests a lone row waits for others, five milliseconds at most; after one of one it does not."""

    async def run():
        now = [0.0]
        gatherer, model, _ = made(clock=lambda: now[0])
        first = [asyncio.ensure_future(gatherer.answers("0", rows(i))) for i in range(3)]
        await turn()
        model.answer()
        await turn()
        model.answer()  # of rows 1 and 2 together
        await asyncio.gather(*first)
        late = asyncio.ensure_future(gatherer.answers("0", rows(5)))
        await turn()
        assert len(model.order) == 2
        other = asyncio.ensure_future(gatherer.answers("0", rows(6)))
        await turn()
        assert model.order[2] == [5, 6]  # as many as were answered: nobody else is expected
        model.answer()
        await asyncio.gather(late, other)
        now[0] = 1.0
        alone = asyncio.ensure_future(gatherer.answers("0", rows(7)))
        await turn()
        assert model.order[3] == [7]
        model.answer()
        await alone
        again = asyncio.ensure_future(gatherer.answers("0", rows(8)))
        await turn()
        assert model.order[4] == [8]
        model.answer()
        await again

    asyncio.run(run())


def test_a_full_queue_refuses_and_says_when_to_ask_again():
    """More rows than may wait are refused with 429, and nothing of them is asked."""

    async def run():
        gatherer, model, _ = made(waiting_rows=4)
        task = asyncio.ensure_future(gatherer.answers("0", rows(0)))
        await turn()
        others = [asyncio.ensure_future(gatherer.answers("0", rows(i, i))) for i in (1, 2)]
        await turn()
        with pytest.raises(RefusalError, match="4 rows wait for the model already, and at most 4 may") as caught:
            await gatherer.answers("0", rows(3))
        assert caught.value.status == 429
        assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
        while not all(one.done() for one in (task, *others)):
            model.answer()
            await asyncio.sleep(0.006)
        assert len(model.order) == 2

    asyncio.run(run())


def test_an_answer_that_takes_too_long_is_given_up_and_leaves_the_queue():
    """503 with the reason; the rows that were not sent are not sent any more."""

    async def run():
        gatherer, model, _ = made(answer_seconds=0.02)
        results = await asyncio.gather(*(gatherer.answers("0", rows(i)) for i in range(2)), return_exceptions=True)
        assert [one.status for one in results] == [503, 503]
        assert "no answer within 0.02 s" in str(results[0])
        assert gatherer.waiting_rows == 0
        model.answer()
        await turn()
        assert len(model.order) == 1

    asyncio.run(run())


def test_a_client_that_gives_up_takes_its_rows_out_of_the_queue():
    """A cancelled request leaves nothing behind, and the others are answered."""

    async def run():
        gatherer, model, _ = made()
        first = asyncio.ensure_future(gatherer.answers("0", rows(0)))
        await turn()
        gone = asyncio.ensure_future(gatherer.answers("0", rows(1, 2)))
        stays = asyncio.ensure_future(gatherer.answers("0", rows(3)))
        await turn()
        gone.cancel()
        await turn()
        assert gatherer.waiting_rows == 1
        model.answer()
        await turn()
        assert model.order[1] == [3]
        model.answer()
        assert said(await stays) == [3.0]
        await first

    asyncio.run(run())


def test_what_a_dying_process_was_asked_is_asked_again_row_by_row():
    """Each of its rows goes alone before anything else; a row over which the next one dies, too, is an error of its own."""

    async def run():
        gatherer, model, _ = made({"0": 1, "1": 1})
        task = asyncio.ensure_future(gatherer.answers("0", rows(1, 2, 3)))
        await turn()
        later = asyncio.ensure_future(gatherer.answers("1", rows(9)))
        await turn()
        assert model.order == [[1, 2, 3], [9]]
        model.die()
        await turn()
        assert not task.done()
        model.revive()
        assert model.order[2:] == [[1]]
        model.answer()
        assert model.order[3:] == [[2]]
        model.die()
        model.revive()
        assert model.order[4:] == [[3]]
        model.answer()
        assert model.order[5:] == [[9]]
        model.answer()
        assert said(await task) == [1.0, DIED.kind, 3.0]
        assert said(await later) == [9.0]
        fresh = asyncio.ensure_future(gatherer.answers("0", rows(4)))
        await turn()
        model.answer()
        assert said(await fresh) == [4.0]

    asyncio.run(run())


def test_a_pass_that_is_stuck_ends_the_process():
    """After the limit the process is killed, and the rows are asked again."""

    async def run():
        now = [0.0]
        gatherer, model, _ = made(clock=lambda: now[0], pass_seconds=10.0)
        task = asyncio.ensure_future(gatherer.answers("0", rows(1)))
        await turn()
        now[0] = 9.0
        assert not gatherer.check_passes()
        now[0] = 11.0
        assert gatherer.check_passes()
        assert model.killed == 1
        model.die()
        model.revive()
        model.answer()
        assert said(await task) == [1.0]

    asyncio.run(run())


def test_rows_wait_while_the_models_are_being_opened():
    """What is accepted before the process is ready is asked once it is."""

    async def run():
        gatherer, model, _ = made()
        model.is_ready = False
        task = asyncio.ensure_future(gatherer.answers("0", rows(1)))
        await turn()
        assert model.order == []
        model.revive()
        model.answer()
        assert said(await task) == [1.0]

    asyncio.run(run())


def test_an_answer_to_a_pass_that_nobody_knows_is_ignored():
    """As one that a process wrote in its last moment, after its rows were given to the next one."""

    async def run():
        gatherer, _, passes = made()
        gatherer.answered(77, [Answer()])
        assert passes == []
        assert await gatherer.answers("0", []) == []

    asyncio.run(run())


def test_rows_that_cannot_be_sent_hold_up_nobody():
    """They are errors, and the next ones go."""

    async def run():
        gatherer, model, _ = made()
        send = model.send

        def fails(number, lane, asks):
            raise ValueError("no JSON")

        model.send = fails
        assert said(await gatherer.answers("0", rows(1))) == ["model_failed"]
        model.send = send
        task = asyncio.ensure_future(gatherer.answers("0", rows(2)))
        await turn()
        model.answer()
        assert said(await task) == [2.0]

    asyncio.run(run())


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["0", "1"]), st.integers(1, 5)),
        st.tuples(st.just("answer"), st.integers(0, 3)),
        st.tuples(st.just("die")),
        st.tuples(st.just("revive")),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_size=40,
)


@given(ACTIONS)
@settings(max_examples=150)
def test_whatever_happens_every_request_ends_once_with_its_own_rows(actions):
    """Arrivals, answers in any order, deaths and clients that leave: each request ends with one answer a row, in their order."""

    async def run():
        gatherer, model, _ = made({"0": 1, "1": 3}, pass_rows=4, waiting_rows=1000)
        tasks, next_row = [], 0
        for action, *rest in actions:
            if action == "ask":
                lane, n = rest
                own = list(range(next_row, next_row + n))
                next_row += n
                tasks.append((own, asyncio.ensure_future(gatherer.answers(lane, rows(*own)))))
            elif action == "answer" and model.sent and model.is_ready:
                model.answer(list(model.sent)[rest[0] % len(model.sent)])
            elif action == "die" and model.is_ready:
                model.die()
            elif action == "revive" and not model.is_ready:
                model.revive()
            elif action == "cancel" and tasks:
                tasks[rest[0] % len(tasks)][1].cancel()
            await turn()
        if not model.is_ready:
            model.revive()
        for _ in range(2 * next_row + 2):
            if model.sent:
                model.answer()
            elif gatherer.waiting_rows:
                await asyncio.sleep(0.006)
            await turn()
        assert gatherer.waiting_rows == gatherer.passes == 0
        for own, task in tasks:
            assert task.done()
            if not task.cancelled():
                assert all(one in (float(row), DIED.kind) for row, one in zip(own, said(task.result()), strict=True))

    asyncio.run(run())
