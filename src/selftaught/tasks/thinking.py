"""Separate thinking from the answer: text between thinking tags does not belong to the answer."""

from __future__ import annotations

import re

_TAG = (
    r"\|?(?:[\w:]{0,20}(?:think|thought|reason|reflect|scratchpad|monologue|rationale)\w{0,20}|analysis|draft|work|brainstorm|internal\w{0,20}|cot\w{0,8})"
    r"(?:\s[^<>]{0,30})?\|?>"
)
_OPEN = re.compile(
    rf"<{_TAG}|\[(?:THINK|REASONING|unused16)\]|\u25c1think\u25b7|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<unused94>|<\|channel>thought|<\|channel\|>(?:analysis|commentary)(?:[^<]|<\|constrain\|>){0,80}<\|message\|>",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"</{_TAG}|\[/(?:THINK|REASONING)\]|\[unused17\]|\u25c1/think\u25b7|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<unused95>|<channel\|>|<\|channel\|>final(?:<\|constrain\|>[^<]{0,40})?<\|message\|>",
    re.IGNORECASE,
)


def without_thinking(text: str) -> str:
    """`text` after the last end of thinking; "" if it ends while thinking.

    A closing tag without an opening one counts, since some chat templates open the thinking themselves. Tags: `<think>`
    and its usual variants, `[THINK]` (Magistral), gpt-oss's channels, and a few more.
    """
    if "<" not in text and "[" not in text and "\u25c1" not in text:
        return text
    opened = max((m.end() for m in _OPEN.finditer(text)), default=0)
    closed = max((m.end() for m in _CLOSE.finditer(text)), default=0)
    return "" if opened > closed else text[closed:]


def thinking_alone(text: str, finish_reason: str) -> bool:
    """Whether the whole sample is thinking, truncated before an answer or hidden."""
    return not without_thinking(text).strip() and (bool(text.strip()) or finish_reason == "length")
