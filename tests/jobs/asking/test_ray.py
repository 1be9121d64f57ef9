"""Labelling jobs on Ray: several nodes on this machine, one of them removed in the middle."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time

import numpy as np
import pandas as pd
import pytest
from faults import FakeServer, Status, backend_for, rows_asked
from sklearn.preprocessing import FunctionTransformer

from llmclf import LLMClassifier, Prompt
from llmclf.backends import RowScores
from llmclf.errors import InputError, JobError
from llmclf.jobs import label_table
from llmclf.jobs.asking import ray as asking_by_ray
from llmclf.jobs.asking.ray import RayAsking, _Mailbox
from llmclf.tables.files import read_table, write_table

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("no_waiting"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
CONCURRENCY = 3
KEY = "LLMCLF_TEST_RAY_KEY"


@pytest.fixture(scope="module")
def cluster():
    """Three nodes: a driver's without room for actors, and two with it."""
    import os

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ[KEY] = "of-a-server"  # which the nodes inherit
    import ray
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    running.workers = [running.add_node(num_cpus=2, resources={"worker": 2}) for _ in range(2)]
    ray.init(address=running.address, log_to_driver=False, logging_level="ERROR")
    yield running
    ray.shutdown()
    running.shutdown()


def job(server: FakeServer, **options) -> dict:
    return {
        "text_column": "text",
        "labels": ["good", "bad"],
        "prompt": Prompt("Review: {{ text }}", chat=True),
        "model": backend_for(server, concurrency=CONCURRENCY, **options),
        "id_column": "id",
    }


def table(n: int) -> pd.DataFrame:
    return pd.DataFrame({"id": range(n), "text": [f"<review {i}>" for i in range(n)]})


def test_a_lost_node_changes_nothing_and_repeats_no_finished_call(cluster, tmp_path):
    """Two nodes, one removed in the middle: the file of one process, row for row; repeated is at most what was under way."""
    n = 600
    write_table(table(n), tmp_path / "in.parquet")
    with FakeServer("openai_chat", latency=0.03) as server:
        label_table(tmp_path / "in.parquet", tmp_path / "one.parquet", **job(server))
        server.requests.clear()

        def remove() -> None:
            while sum(rows_asked(server).values()) < 150:
                time.sleep(0.01)
            cluster.remove_node(cluster.workers.pop(), allow_graceful=False)

        killer = threading.Thread(target=remove)
        killer.start()
        asking = RayAsking("auto", actors=4, page=50)
        result = label_table(tmp_path / "in.parquet", tmp_path / "ray.parquet", asking=asking, **job(server))
        killer.join()
        calls = rows_asked(server)
    assert read_table(tmp_path / "ray.parquet").equals(read_table(tmp_path / "one.parquet"))
    assert len(calls) == n
    assert sum(calls.values()) - n <= 2 * CONCURRENCY  # a node holds two actors
    assert result.summary.labelled == n
    assert result.summary.usage["requests"] >= n


def test_what_the_journal_holds_is_not_asked_by_the_actors(cluster, tmp_path):
    """A job begun in one process goes on with Ray, and the other way round."""
    out = tmp_path / "out.csv"
    is_ill = True
    fault = lambda request: Status(401) if is_ill and "<review 90>" in json.dumps(request.body) else None  # noqa: E731
    with FakeServer("openai_chat", fault) as server:
        with pytest.raises(JobError, match="401"):
            label_table(table(200), out, **job(server))
        known = len(rows_asked(server))
        assert 80 <= known < 120
        with pytest.raises(JobError, match=r"the actors stopped: .*401.*continue with resume"):
            label_table(table(200), out, resume=True, asking=RayAsking("auto", actors=2, page=20), **job(server))
        is_ill = False
        result = label_table(table(200), out, resume=True, asking=RayAsking("auto", actors=2, page=20), **job(server))
        assert result.summary.labelled == 200
        # The row that was refused, and whatever was under way beside it.
        assert sum(rows_asked(server).values()) - 200 <= 2 + 3 * CONCURRENCY
        n_requests = len(server.requests)
        label_table(table(200), out, resume=True, **job(server))
        assert len(server.requests) == n_requests
    assert len(read_table(out)) == 200


def test_actors_share_the_limits(cluster):
    """Each has its part of rpm and budget, so that the sum holds; what cannot be shared is refused.

    The driver's caller has said where to ask and which key to send: an actor asks for no word again.
    """
    with FakeServer("openai_chat", key="of-a-server") as server:
        with pytest.raises(InputError, match="rpm=3 cannot be shared by 4 actors"):
            label_table(table(9), asking=RayAsking("auto", actors=4), **job(server, rpm=3, api_key_env=KEY))
        assert not server.requests
        price = {"input": 1000.0, "output": 1000.0}
        asked = job(server, price=price, max_cost=1.0, api_key_env=KEY)
        with pytest.raises(JobError, match="max_cost=0.5 is reached"):
            label_table(table(90), asking=RayAsking("auto", actors=2, page=5), **asked)


@pytest.mark.parametrize("end", ["failure", "success"])
def test_no_actor_outlives_its_job(cluster, tmp_path, end):
    """However a job ends, the machines are free again, even while somebody holds its exception."""
    fault = lambda request: Status(401) if end == "failure" and "<review 7>" in json.dumps(request.body) else None  # noqa: E731
    asking = RayAsking("auto", actors=2, page=5)
    raised = None
    with FakeServer("openai_chat", fault) as server:
        try:
            label_table(table(40), tmp_path / "out.csv", asking=asking, **job(server))
        except JobError as error:
            raised = error
    assert (raised is not None) == (end == "failure")
    import ray

    limit = time.monotonic() + 60
    while ray.cluster_resources()["CPU"] > ray.available_resources().get("CPU", 0):
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_actors_may_take_the_whole_cluster(cluster, tmp_path):
    """Nothing else of the pipeline needs a processor of its own."""
    import ray

    n_cpus = int(ray.cluster_resources()["CPU"])
    with FakeServer("openai_chat") as server:
        asking = RayAsking("auto", actors=n_cpus, page=2)
        result = label_table(table(4 * n_cpus), tmp_path / "out.csv", asking=asking, **job(server))
    assert result.summary.labelled == 4 * n_cpus


def test_a_cluster_without_room_is_said(cluster, tmp_path, monkeypatch):
    """No machine here has a GPU: whoever waits for an actor learns what it was waiting for."""
    monkeypatch.setattr(asking_by_ray, "_PATIENCE_S", 5.0)
    asking = RayAsking("auto", actors=2, num_gpus=0.5)
    with (
        FakeServer("openai_chat") as server,
        pytest.raises(
            JobError, match=r"no actor could be placed .* num_cpus=1 and num_gpus=0.5 .* nothing was answered yet"
        ),
    ):
        label_table(table(9), tmp_path / "out.csv", asking=asking, **job(server))


def test_an_actor_that_is_started_again_has_the_rest_of_its_share(tmp_path):
    """What its earlier lives have cost is known where the answers are taken in; other actors' costs are their own."""

    async def go() -> list[float]:
        box = _Mailbox(str(tmp_path / "plan"), 9, 3)
        puts = []
        for n, (name, cost) in enumerate({"a.1": 0.25, "a.2": 0.5, "ab.1": 4.0}.items(), start=1):
            answer = (n, b"key", RowScores(((-0.5,),)))
            puts.append(asyncio.create_task(box.put([answer], name, {"cost": cost / 2})))
            puts.append(asyncio.create_task(box.put([], name, {"cost": cost})))
        await asyncio.sleep(0)
        await box.take()
        waiting = asyncio.create_task(box.take())
        await asyncio.gather(*puts)
        waiting.cancel()
        return [await box.spent(actor) for actor in ("a", "ab", "b")]

    assert asyncio.run(go()) == [0.75, 4.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "ray://x:1"}, "address="),
        ({"actors": 0}, "actors=0"),
        ({"num_gpus": -1}, "num_gpus=-1"),
        ({"page": True}, "page=True"),
    ],
)
def test_options_are_checked(options, message):
    """Each error names the value."""
    with pytest.raises(InputError, match=message):
        RayAsking(**options)


def test_the_command_line_asks_by_actors(cluster, run, tmp_path):
    """`llmclf label --ray ADDRESS` writes what it writes without, and says in its last line what was done."""
    write_table(table(60), tmp_path / "in.parquet")
    with FakeServer("openai_chat") as server:
        command = [
            "label", tmp_path / "in.parquet", "--id-column", "id", "--text-column", "text", "--labels", "good,bad", "--chat",
            "--model", "openai:tiny", "--base-url", server.url, "--api-key-env", "", "--quiet",
        ]  # fmt: skip
        assert run(*command, "--output", tmp_path / "one.parquet").code == 0
        n_asked = sum(rows_asked(server).values())
        result = run(*command, "--output", tmp_path / "ray.parquet", "--ray", cluster.address, "--actors", 2)
        assert (result.code, sum(rows_asked(server).values())) == (0, 2 * n_asked), result.err
    assert "labelled 60 of 60 rows" in result.out
    assert read_table(tmp_path / "ray.parquet").equals(read_table(tmp_path / "one.parquet"))


def told(n: int) -> tuple[list[str], list[str]]:
    """Texts whose words tell the class, and the classes."""
    y = ["good" if i % 2 else "bad" for i in range(n)]
    return [
        f"<review {i}> {'fine' if one == 'good' else 'dull'} {'long' if i % 3 else 'short'}" for i, one in enumerate(y)
    ], y


def test_heads_of_features_are_read_where_the_journal_is(cluster, tmp_path):
    """Words and a caller's transformer, one that nothing can pickle: two actors give what this process gives."""
    texts, y = told(60)
    prompt = Prompt("Review: {{ text }}", chat=True)
    lengths = FunctionTransformer(lambda X: np.array([[len(text)] for text in X]))
    rows = pd.DataFrame({"text": [*told(90)[0][50:], "<review 3> fine", "<review 3> fine"]})
    with FakeServer("openai_chat") as server:
        clf = LLMClassifier(backend_for(server), labels=["good", "bad"], prompt=prompt, features=["tfidf", lengths])
        clf.fit(texts, y)
        with pytest.raises(Exception, match="pickle"):
            pickle.dumps(clf)
        options = {"text_column": "text", "classifier": clf}
        asking = RayAsking("auto", actors=2, page=5)
        label_table(rows, tmp_path / "ray.parquet", asking=asking, **options)
        found = read_table(tmp_path / "ray.parquet")
        server.requests.clear()
        label_table(rows, tmp_path / "ray.parquet", resume=True, **options)  # goes on here, and has nothing to ask
        assert not rows_asked(server)
        expected = clf.predict_proba(rows["text"])
    np.testing.assert_allclose(found[["p_bad", "p_good"]].astype(float), expected, atol=1e-9, rtol=0)
    assert read_table(tmp_path / "ray.parquet").equals(found)


def test_states_come_from_the_actors(cluster, tmp_path, tiny_bpe):
    """Each actor's model shows them, the driver reads the heads of them, and no state is kept."""
    texts, y = told(40)
    clf = LLMClassifier(tiny_bpe, labels=["good", "bad"], features=["states", "tfidf"]).fit(texts, y)
    rows = pd.DataFrame({"text": told(60)[0][30:]})
    asking = RayAsking("auto", actors=2, page=8)
    found = label_table(rows, tmp_path / "out.parquet", text_column="text", classifier=clf, asking=asking)
    assert (found.summary.labelled, found.summary.failed) == (30, 0)
    proba = read_table(tmp_path / "out.parquet")[["p_bad", "p_good"]].astype(float)
    np.testing.assert_allclose(proba, clf.predict_proba(rows["text"]), atol=2e-4, rtol=0)
    assert np.abs(proba["p_good"] - 0.5).mean() > 0.1
