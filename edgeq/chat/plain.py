"""A chat template for models that have none: plain lines, which models without chat training can follow."""

from __future__ import annotations

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% else %}{{ 'User' if message['role'] == 'user' else 'Assistant' }}: {{ message['content'] | trim }}\n"
    "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
# template -> the strings that end an answer, since no token of the model does
STOPS: dict[str, tuple[str, ...]] = {PLAIN_TEMPLATE: ("\nUser:",)}
