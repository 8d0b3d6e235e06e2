"""Chat templates that know no system role: the system text goes into the first user message. Taught in notebook 03.

Gemma 2's template stops with "System role not supported", and a few others drop the system text without a word.
"""

from __future__ import annotations

from typing import Any

_MARK = "{#- the system text goes into the first user message -#}"
# Assigning inside `if` changes the name for the rest of the template: in Jinja only loops and macros have a scope.
_FOLD = (
    _MARK
    + """
{%- if messages and messages[0]['role'] == 'system' and messages[0]['content'] is string -%}
    {%- if messages | length > 1 and messages[1]['role'] == 'user' and messages[1]['content'] is string -%}
        {%- set folded = messages[0]['content'] + '\\n\\n' + messages[1]['content'] -%}
        {%- set messages = [{'role': 'user', 'content': folded}] + messages[2:] -%}
    {%- else -%}
        {%- set messages = [{'role': 'user', 'content': messages[0]['content']}] + messages[1:] -%}
    {%- endif -%}
{%- endif -%}
"""
)
_SYSTEM = {"role": "system", "content": "SYSTEM-TEXT"}
_USER = {"role": "user", "content": "USER-TEXT"}


def accept_system(template: str) -> str:
    """Return the template so that it takes a system message; one that does so already comes back unchanged.

    Tried, not guessed from the text: a template needs the change where it renders a user message, but fails on a
    system message before it or leaves the system text out. Applying it twice changes nothing more.
    """
    if template.startswith(_MARK) or _USER["content"] not in _render(template, [_USER]):
        return template
    if _SYSTEM["content"] in _render(template, [_SYSTEM, _USER]):
        return template
    return _FOLD + template


def fix_tokenizer(tokenizer: Any) -> Any:
    """Give a tokenizer a template that takes a system message, and padding on the left, for writing. Returns it."""
    if isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = accept_system(tokenizer.chat_template)
    tokenizer.padding_side = "left"
    return tokenizer


def _render(template: str, messages: list[dict[str, str]]) -> str:
    """Return the text as Transformers renders it, or nothing where the template refuses the messages."""
    from jinja2.exceptions import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered: Any = render_jinja_template(
            conversations=[messages], chat_template=template, bos_token="<s>", eos_token="</s>"
        )
    except TemplateError:
        return ""
    return rendered[0][0]
