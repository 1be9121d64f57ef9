"""Chats as a model's template writes them: families of templates, and every fault of one as an error with its cure."""

from __future__ import annotations

import itertools

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmclf.backends.tokens.chat_rendering import ChatRenderer, open_thought
from llmclf.errors import PromptError, RowError
from llmclf.prompts.rendered import Span, Turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% set c = m.content.split('</think>')[-1].lstrip('\n') %}"
    "<|im_start|>assistant\n{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ c }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA3 = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n{{ system }}<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# The instruction is moved to the last turn of the user.
MISTRAL = (
    "<s>{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if loop.last or messages[-1].role == 'assistant' and loop.revindex == 2 %}{{ system }}{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "<bos>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
R1 = (
    "{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% elif m.role == 'assistant' %}"
    "<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
MAGISTRAL = CHATML.replace("assistant\n{% endif %}", "assistant\n[THINK]{% endif %}")


class Encoder:
    """A chat template as transformers renders it, on a given day."""

    def __init__(self, template: str, day: str = "01 Jan 2026", clock=None) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["strftime_now"] = clock or (lambda _: day)
        environment.globals["raise_exception"] = self._raise
        self._compile = lambda: environment.from_string(template)

    def chat(self, messages):
        return self._compile().render(messages=messages, add_generation_prompt=True, enable_thinking=False)

    def answered_chat(self, messages):
        return self._compile().render(messages=messages, add_generation_prompt=False, enable_thinking=False)

    @staticmethod
    def _raise(message):
        raise jinja2.TemplateError(message)


def conversation(*, system: bool = True, text: str = "A fine film.", shots: bool = True) -> list[Turn]:
    turns = [Turn("system", (Span("Choose.", False),))] if system else []
    if shots:
        turns += [
            Turn("user", (Span("Review: ", False), Span("Awful.", True))),
            Turn("assistant", (Span("negative", True),)),
        ]
    return [*turns, Turn("user", (Span("Review: ", False), Span(text, True)))]


@pytest.mark.parametrize(
    ("template", "has_system"),
    [(CHATML, True), (QWEN3, True), (LLAMA3, True), (MISTRAL, True), (GEMMA, False)],
    ids=["chatml", "qwen3", "llama3", "mistral", "gemma"],
)
@pytest.mark.parametrize("text", ["A fine film.", "Fine.\n", " \n Fine \n\n", "<|im_end|>", "{{ 7 * 7 }}", "x\n\ny"])
def test_families_of_templates_are_written_as_they_write(template, has_system, text):
    """The spans join to the template's own text, and data is data; white space at a turn's end may be trimmed or kept."""
    encoder = Encoder(template)
    turns = conversation(system=has_system, text=text)
    spans = ChatRenderer(encoder).spans(turns)
    assert "".join(span.text for span in spans) == encoder.chat([{"role": t.role, "content": t.text} for t in turns])
    assert [span.text for span in spans if span.is_data] == ["Awful.", "negative", text.rstrip()]


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (
            GEMMA,
            r"System role not supported\); it takes no system turn, so write the instruction into the prompt's template",
        ),
        (R1, "opens a thought before the answer \\('<think>'\\)"),
        (MAGISTRAL, r"opens a thought before the answer \('\[THINK\]'\)"),
        (HARMONY, r"stops before the answer begins: it writes '<\|channel\|>final<\|message\|>'"),
        (
            HARMONY.replace("assistant{% endif %}", "assistant<|channel|>analysis<|message|>{% endif %}"),
            "opens a thought",
        ),
        (
            CHATML.replace("m.content }}", "m.content | lower }}"),
            r"changes, drops or moves the words of turn 1 \(system\)",
        ),
        (CHATML.replace("m.content }}", "m.content[:12] }}"), "changes, drops or moves the words"),
        (CHATML.replace("m.content }}", "m.content | replace('.', '') }}"), "changes, drops or moves the words"),
        (CHATML.replace("m.content }}", "m.content | tojson }}"), "changes, drops or moves the words"),
        (CHATML.replace("in messages", "in messages | reverse"), "changes, drops or moves the words"),
        (CHATML.replace("in messages", "in messages[-1:]"), "changes, drops or moves the words"),
        ("{% for m in messages %}{{ m.content }", "TemplateSyntaxError"),
        ("{{ messages[0].nothing.more }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages[0] + 1 }}", "TypeError"),
    ],
)
def test_every_fault_is_one_error(template, fault):
    """It names the fault and the cure, and no traceback of another library gets out."""
    with pytest.raises(PromptError, match=rf"(?s)model's chat template.*{fault}") as caught:
        ChatRenderer(Encoder(template)).spans(conversation())
    assert not isinstance(caught.value, RowError)
    assert "chat=False" in str(caught.value) or "instruction" in str(caught.value)


def test_a_template_of_one_turn_says_so():
    """One that knows neither system turns nor shots asks to leave both out."""
    template = (
        "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}Q: {{ messages[0].content }} A:"
    )
    with pytest.raises(PromptError, match="single turn of the user, so leave out instruction= and shots"):
        ChatRenderer(Encoder(template)).spans(conversation())
    assert ChatRenderer(Encoder(template)).spans(conversation(system=False, shots=False))


def test_the_date_is_part_of_the_frame_and_the_time_of_day_is_refused():
    """What a score depends on is the text of the day; a text that differs each time is none that a score can belong to."""
    roles = ["system", "user"]
    frames = {ChatRenderer(Encoder(LLAMA3, day)).frame(roles) for day in ("01 Jan 2026", "02 Jan 2026", "01 Jan 2026")}
    assert len(frames) == 2
    ticks = itertools.count()
    clock = Encoder(LLAMA3, clock=lambda _: f"{next(ticks)}")
    with pytest.raises(PromptError, match="another text each time"):
        ChatRenderer(clock).frame(roles)
    drawn = Encoder(CHATML + "{{ range(10 ** 4) | random }}")
    with pytest.raises(PromptError, match="another text each time"):
        ChatRenderer(drawn).frame(roles)


def test_a_row_that_a_template_treats_in_its_own_way_is_that_rows_error():
    """Other rows of the task can be scored."""
    template = CHATML.replace("{{ m.content }}", "{{ m.content if 'secret' not in m.content else 'no' }}")
    renderer = ChatRenderer(Encoder(template))
    assert renderer.spans(conversation())
    with pytest.raises(RowError, match="in this row the model's chat template changes"):
        renderer.spans(conversation(text="a secret"))
    assert renderer.spans(conversation(text="another"))


@pytest.mark.parametrize(
    ("tail", "opened"),
    [
        ("<|im_start|>assistant\n", None),
        ("<think>\n\n</think>\n\n", None),
        ("<think></think>", None),
        ("<think>", "<think>"),
        ("<thinking>\n", "<thinking>"),
        ("<|begin_of_thought|>", "<|begin_of_thought|>"),
        ("<|begin_of_thought|><|end_of_thought|>", None),
        ("<|START_THINKING|><|END_THINKING|>", None),
        ("<|START_THINKING|>", "<|START_THINKING|>"),
        ("<seed:think>", "<seed:think>"),
        ("<reasoning>", "<reasoning>"),
        ("[THINK]", "[THINK]"),
        ("[THINK][/THINK]", None),
        ("◁think▷", "◁think▷"),
        ("◁think▷◁/think▷", None),
        ("<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
        ("<|channel|>final<|message|>", None),
        ("<|channel>thought\n", "<|channel>thought"),
        ("<|channel>thought\n<channel|>", None),
    ],
)
def test_open_thoughts_are_known_by_their_tags(tail, opened):
    """Tags in the brackets of several families, and channels; a thought that is closed again is no fault."""
    assert open_thought(tail) == opened
