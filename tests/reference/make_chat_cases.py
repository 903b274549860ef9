#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes chat/cases.json: what transformers makes of the templates in chat/templates and of small pieces of Jinja.

    python make_chat_cases.py            # writes chat/cases.json anew
    python make_chat_cases.py --check    # recomputes and compares

The clock stands still at NOW. The templates are our own: they have the structure of those that models are published
with, not their words.
"""
import datetime
import itertools
import json
import pathlib
import re
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils

from chat_pieces import EXPRESSIONS, PIECES, VARIABLES

HERE = pathlib.Path(__file__).resolve().parent / "chat"
NOW = datetime.datetime(2026, 7, 26, 13, 5, 9)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class StandingClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(*NOW.timetuple()[:6])


chat_template_utils.datetime = StandingClock

SYSTEM = {"role": "system", "content": " Be brief.\n"}
USER = {"role": "user", "content": "What is 2 + 2?"}
ASSISTANT = {"role": "assistant", "content": "It is 4.\n"}
MORE = {"role": "user", "content": "  And é中 + 😀 \"quoted\" <b>?\t"}
THINKING = {"role": "assistant", "content": "<think>\nHm, 4?\n</think>\n\nFour."}
REASONING = {"role": "assistant", "content": "Four.", "reasoning": "Two and two."}
PARTS = {"role": "user", "content": [{"type": "text", "text": " What is this? "}, {"type": "image"}]}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "abcdef123", "type": "function", "function": {
    "name": "weather", "arguments": {"town": "Zürich", "days": 2, "at": [1.5, None, True]}}}]}
RESULT = {"role": "tool", "tool_call_id": "abcdef123", "name": "weather", "content": "sunny,\n\"21\" degrees & dry all day long"}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Says how it's going to be <outside>", "parameters": {
    "type": "object", "properties": {"town": {"type": "string", "description": "é"}, "days": {"type": "integer"}},
    "required": ["town"]}}}]
DOCUMENTS = [{"title": "One", "text": "first \"text\""}, {"title": "Two", "text": "second\ntext"}]

CONVERSATIONS = {
    "one": ([USER], {}),
    "answered": ([USER, ASSISTANT], {}),
    "system": ([SYSTEM, USER], {}),
    "long": ([SYSTEM, USER, ASSISTANT, MORE, ASSISTANT, USER, ASSISTANT], {}),
    "wrong-turns": ([USER, USER, ASSISTANT], {}),
    "thinking": ([USER, THINKING, MORE, THINKING], {}),
    "reasoning": ([USER, REASONING], {"enable_thinking": False}),
    "parts": ([PARTS], {}),
    "tools": ([SYSTEM, USER, CALL, RESULT, ASSISTANT, MORE], {"tools": TOOLS}),
    "tools-only": ([USER, CALL, RESULT, ASSISTANT], {}),
    "documents": ([USER], {"documents": DOCUMENTS}),
    "none": ([], {}),
}


def outcome(function):
    try:
        return {"text": function()}
    except Exception as error:  # whatever a template or Python raises is an error of the template here
        return {"error": type(error).__name__}


def byte_spans(text, spans):
    return [[len(text[:begin].encode()), len(text[:end].encode())] for begin, end in spans]


def write(template, messages, extra, prompt):
    texts, spans = chat_template_utils.render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=prompt, return_assistant_tokens_mask=True,
        **{"tools": None, "documents": None, **TOKENS, **extra})
    return texts[0], byte_spans(texts[0], spans[0] if spans else [])


def template_cases():
    for path in sorted((HERE / "templates").glob("*.jinja")):
        template = path.read_text()
        for (name, (messages, extra)), prompt in itertools.product(CONVERSATIONS.items(), (False, True)):
            case = {"template": path.name, "conversation": name, "prompt": prompt}
            try:
                case["text"], spans = write(template, messages, extra, prompt)
                if spans:
                    case["spans"] = spans
            except Exception as error:
                case["error"] = type(error).__name__
            yield case


def piece_cases():
    for source in [f"{{{{ {expression} }}}}" for expression in EXPRESSIONS] + PIECES:
        variables = json.loads(json.dumps(VARIABLES))
        yield {"source": source,
               **outcome(lambda: chat_template_utils._compile_jinja_template(source).render(**variables))}


def document():
    return {
        "made_with": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "now": NOW.isoformat(),
        "tokens": TOKENS,
        "conversations": {name: {"messages": m, "extra": e} for name, (m, e) in CONVERSATIONS.items()},
        "templates": list(template_cases()),
        "variables": VARIABLES,
        "pieces": [case for case in piece_cases() if not re.search(r" at 0x[0-9a-f]", case.get("text", ""))],
    }


def main():
    text = json.dumps(document(), indent=0, ensure_ascii=False) + "\n"
    path = HERE / "cases.json"
    if "--check" in sys.argv:
        if path.read_text() != text:
            sys.exit("chat/cases.json differs from what is computed now")
        print("the same")
    else:
        path.write_text(text)


main()
