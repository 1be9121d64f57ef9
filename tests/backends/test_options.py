"""Options of backends: written once as fields, seen wherever a user meets them."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from llmclf.backends import DecisionsBackend, LocalBackend, OpenAIBackend, SystemOneBackend, open_backend
from llmclf.backends.embeddings import LocalEmbedder, ServerEmbedder
from llmclf.backends.http.options import RequestOptions, ServerOptions
from llmclf.backends.http.server_handle import SERVERS, server
from llmclf.backends.options import option, options_of
from llmclf.errors import InputError, RenamedWarning, UnknownOptionError

URL = "http://localhost:9/v1"
BACKENDS = {"openai": OpenAIBackend, "systemone": SystemOneBackend, "decisions": DecisionsBackend, "hf": LocalBackend}
HANDLES = {**BACKENDS, "served embedder": ServerEmbedder, "local embedder": LocalEmbedder}


@pytest.mark.parametrize("kind", HANDLES.values(), ids=HANDLES)
def test_signature_and_help_have_every_option(kind):
    """With its default, and with what it means."""
    parameters = inspect.signature(kind).parameters
    text = inspect.getdoc(kind)
    assert list(parameters) == ["name", *(field.name for field in options_of(kind))]
    for field in options_of(kind):
        assert parameters[field.name].default == field.default
        assert text.count(f"\n{field.name} : ") == 1
        assert field.option.help


@pytest.mark.parametrize("kind", HANDLES.values(), ids=HANDLES)
def test_every_option_has_a_help_that_is_a_sentence(kind):
    """It stands in the help of Python and of the command line."""
    for field in options_of(kind):
        assert field.option.help[0].isupper() or field.option.help[0] == '"', field.name
        assert field.option.help.endswith("."), field.name


def test_description_is_what_differs_from_the_defaults():
    """None and the default itself say nothing; what only passes by is no part of what scores depend on."""
    plain = OpenAIBackend("openai:x", base_url=URL)
    same = OpenAIBackend("openai:x", base_url=URL, timeout=60.0, concurrency=None, max_retries=5, top_calls=None)
    assert (plain, hash(plain), repr(plain)) == (same, hash(same), repr(same))
    assert (same.timeout, same.concurrency, same.options) == (60.0, 32, {"base_url": URL})
    other = OpenAIBackend("openai:x", base_url=URL, rpm=3, top_calls=2)
    assert other.description == {"model": "openai:x", "base_url": URL, "top_calls": 2}
    assert other != plain
    assert eval(repr(other)) == other


def test_handles_are_frozen_and_share_what_is_open():
    """A copy is the handle itself, a changed one begins anew, and a table that the caller changes later changes nothing."""
    price = {"input": 1.0, "output": 2.0}
    backend = OpenAIBackend("openai:x", base_url=URL, price=price)
    price["input"] = 7.0
    assert backend.price == {"input": 1.0, "output": 2.0}
    with pytest.raises(FrozenInstanceError):
        backend.rpm = 3
    assert copy.copy(backend) is copy.deepcopy(backend) is backend
    usage = backend.usage
    assert OpenAIBackend("openai:x", base_url=URL, price=backend.price).usage is usage
    assert pickle.loads(pickle.dumps(backend)) == backend
    changed = replace(backend, rpm=3)
    assert changed.options == {**backend.options, "rpm": 3}
    assert changed.usage is not usage


def test_server_options_are_the_requests_options():
    """What a client is told comes from the handle's own fields, none by a name of its own."""
    given = {"timeout": 3.0, "max_retries": 0, "concurrency": 2, "rpm": 5, "tpm": 7}
    backend = OpenAIBackend("openai:x", base_url=URL, **given)
    assert backend.server_options == ServerOptions(URL, **given)
    assert [field.name for field in options_of(ServerOptions)] == [field.name for field in options_of(RequestOptions)]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("openai:x", {"concurency": 3}, "does not have the option 'concurency'; did you mean 'concurrency'"),
        ("systemone:x", {"tokenizer": "a"}, "'systemone:x' does not have the option 'tokenizer'"),
        ("smollm2", {"base_url": URL}, r"'base_url' \(LocalBackend has .*, memory\)"),
    ],
)
def test_unknown_option_is_named(model, options, message):
    """With the nearest name, and all that there are; as an InputError, and as the TypeError that Python itself would give."""
    with pytest.raises(UnknownOptionError, match=message) as caught:
        open_backend(model, **options)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("extra", [5, [1], {"a": {1}}, {"prompt": "x"}])
def test_extra_is_a_table_of_json_values(extra):
    """Whatever else is given is refused with a message."""
    with pytest.raises(InputError, match="extra"):
        OpenAIBackend("openai:x", base_url=URL, extra=extra)


def test_a_servers_model_is_a_name():
    """`model` was the name on servers and the live object on local models; it is the name for one more version."""
    for scheme, kind in BACKENDS.items():
        if scheme != "hf":
            backend = kind(f"{scheme}:org/x:7b", base_url=URL)
            assert backend.model_name == "org/x:7b"
            with pytest.warns(FutureWarning, match="is now called model_name"):
                assert backend.model == "org/x:7b"


def test_a_local_model_may_still_be_given_as_model():
    """The constructor reads its parameter's earlier name with a warning at the caller's line, and refuses both names at once."""
    with pytest.warns(RenamedWarning, match=r"LocalBackend\(model=\) is now called name=") as caught:
        backend = LocalBackend(model="smollm2", batch_tokens=64)
    assert caught[0].filename == __file__
    assert backend == LocalBackend("smollm2", batch_tokens=64) == LocalBackend(name="smollm2", batch_tokens=64)
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert replace(backend, batch_tokens=None) == LocalBackend("smollm2")
    for args, given in ((("smollm2",), {}), ((), {"name": "smollm2"})):
        with pytest.raises(InputError, match="both are given; leave model= out"):
            LocalBackend(*args, model="smollm2", **given)


def test_a_scheme_belongs_to_one_class():
    """A second class is refused; the same class may come again, as it does when a module is loaded anew."""
    with pytest.raises(InputError, match="'openai' belongs to OpenAIBackend; give Other another one"):

        @server
        @dataclass(frozen=True, eq=False, repr=False, kw_only=True)
        class Other(OpenAIBackend):
            """Another."""

            size: int = option(1, help="A size.")

    assert SERVERS["openai"] is OpenAIBackend
    assert server(OpenAIBackend) is OpenAIBackend
