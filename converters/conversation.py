"""What of a checkpoint is about conversations, checked: its chat template, and tokens that begin and end."""

from __future__ import annotations

from typing import Any

from edgeq.errors import FormatError

CHAT_TEMPLATE_BYTES_MAX = 256 << 10
TOKEN_IDS_MAX = 4096  # in one word


def checked_template(template: str | None) -> str | None:
    """A chat template, None for an empty one; FormatError when it is too large or no text."""
    if template is not None:
        size = len(template.encode("utf-8", "surrogatepass"))
        if size > CHAT_TEMPLATE_BYTES_MAX:
            raise FormatError(
                f"the chat template has {size} bytes; at most {CHAT_TEMPLATE_BYTES_MAX} are allowed"
            )
        if any("\ud800" <= character <= "\udfff" for character in template):
            raise FormatError("the chat template has half a surrogate pair, which is no character")
    return template or None


def token_ids(value: Any, key: str, vocab_size: int) -> list[int]:
    """The ids of the vocabulary that a word names, be it one number, a list or null.

    Other whole numbers name no token: -1 and 2^32 - 1 stand for "none", and no id past the end is ever drawn.
    FormatError for what is no number.
    """
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if len(ids) > TOKEN_IDS_MAX or any(type(i) is not int for i in ids):
        raise FormatError(f"{key} is {value!r:.80}, but token ids are needed")
    return [i for i in ids if 0 <= i < vocab_size]
