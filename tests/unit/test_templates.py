"""Gemma 2 refuses a system message and Mistral's first template does too: both must still hear it."""

import pytest

from lekhai_helpers.prepare.embedded import CHAT_TEMPLATE
from lekhai_helpers.prepare.templates import accept_system, fix_tokenizer

# As published with gemma-2-9b-it.
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
# As published with Mistral-7B-Instruct-v0.1: no word of "system", it is refused by the alternation of roles.
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
DROPS = (
    "{% for m in messages %}{% if m['role'] != 'system' %}[{{ m['role'] }}]{{ m['content'] }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = {"role": "system", "content": "শুধু একটি টেবিল লিখুন"}
USER = {"role": "user", "content": "চায়ের বিজ্ঞাপন"}
ANSWER = {"role": "assistant", "content": "| ছবি | কথা |"}


def render(template, messages, add_generation_prompt=False):
    chat = pytest.importorskip("transformers.utils.chat_template_utils")
    rendered, _ = chat.render_jinja_template(
        conversations=[messages],
        chat_template=template,
        add_generation_prompt=add_generation_prompt,
        bos_token="<bos>",
        eos_token="<eos>",
    )
    return rendered[0]


def test_gemma_2_refuses_a_system_message_as_published():
    from jinja2.exceptions import TemplateError

    with pytest.raises(TemplateError, match="System role not supported"):
        render(GEMMA_2, [SYSTEM, USER])


def test_gemma_2_hears_the_system_text_in_the_first_user_message():
    assert render(accept_system(GEMMA_2), [SYSTEM, USER, ANSWER]) == (
        "<bos><start_of_turn>user\nশুধু একটি টেবিল লিখুন\n\nচায়ের বিজ্ঞাপন<end_of_turn>\n"
        "<start_of_turn>model\n| ছবি | কথা |<end_of_turn>\n"
    )


@pytest.mark.parametrize("template", [GEMMA_2, MISTRAL, DROPS])
def test_the_system_text_appears_once(template):
    assert render(accept_system(template), [SYSTEM, USER, ANSWER]).count(SYSTEM["content"]) == 1


@pytest.mark.parametrize("template", [GEMMA_2, MISTRAL, DROPS])
@pytest.mark.parametrize("messages", [[USER], [USER, ANSWER], [USER, ANSWER, USER]])
def test_a_chat_without_system_message_is_rendered_as_before(template, messages):
    assert render(accept_system(template), messages) == render(template, messages)


@pytest.mark.parametrize("template", [GEMMA_2, MISTRAL, CHATML, CHAT_TEMPLATE])
def test_the_rendered_prompt_begins_the_rendered_whole(template):
    """The trainer finds the answer by this: where it does not hold, prompt tokens are learned."""
    changed = accept_system(template)
    prompt = render(changed, [SYSTEM, USER], add_generation_prompt=True)
    assert render(changed, [SYSTEM, USER, ANSWER]).startswith(prompt)


@pytest.mark.parametrize("template", [CHATML, CHAT_TEMPLATE])
def test_a_template_that_takes_a_system_message_is_left_alone(template):
    assert accept_system(template) == template


@pytest.mark.parametrize("template", [GEMMA_2, MISTRAL, DROPS])
def test_twice_is_as_once(template):
    assert accept_system(accept_system(template)) == accept_system(template) != template


def test_a_system_message_alone_becomes_a_user_message():
    assert render(accept_system(GEMMA_2), [SYSTEM]) == f"<bos><start_of_turn>user\n{SYSTEM['content']}<end_of_turn>\n"


def test_a_fault_of_the_chat_is_still_refused():
    from jinja2.exceptions import TemplateError

    with pytest.raises(TemplateError, match="must alternate"):
        render(accept_system(GEMMA_2), [SYSTEM, USER, USER])


def test_a_template_that_cannot_render_at_all_is_left_alone():
    assert accept_system("{{ raise_exception('no') }}") == "{{ raise_exception('no') }}"


def test_a_tokenizer_gets_the_template_and_pads_on_the_left():
    class Tokenizer:
        chat_template = GEMMA_2
        padding_side = "right"

    fixed = fix_tokenizer(Tokenizer())
    assert (fixed.chat_template, fixed.padding_side) == (accept_system(GEMMA_2), "left")


def test_a_tokenizer_without_template_is_only_padded():
    class Tokenizer:
        chat_template = None
        padding_side = "right"

    fixed = fix_tokenizer(Tokenizer())
    assert (fixed.chat_template, fixed.padding_side) == (None, "left")
