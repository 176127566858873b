"""Templates in the shapes that models come with, written for these tests."""

# ruff: noqa: E501  (a template stands on one line)

from __future__ import annotations

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

CHATML_TEXT = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

INST = """\
{%- if messages[0].role == 'system' %}
    {%- set system = '<<SYS>>\\n' ~ messages[0].content.strip() ~ '\\n<</SYS>>\\n\\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system, turns = '', messages %}
{%- endif %}
{%- for turn in turns %}
    {%- if (turn.role == 'user') == (loop.index is divisibleby 2) %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- endif %}
    {%- if turn.role == 'user' %}
        {{- bos_token + '[INST] ' + (system if loop.first else '') + turn.content.strip() + ' [/INST]' }}
    {%- else %}
        {{- ' ' ~ turn['content'].strip() ~ ' ' ~ eos_token }}
    {%- endif %}
{%- endfor %}"""

HEADERS = """\
{% set ns = namespace(first=true) %}
{% for m in messages %}
    {%- set turn = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' %}
    {%- if ns.first %}
        {%- set turn = bos_token + turn %}
        {%- set ns.first = false %}
    {%- endif %}
    {{- turn }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

PIPES = """\
{% for message in messages %}
<|{{ message.role }}|>
{{ message.content + eos_token }}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}"""

BLOCKS = """\
{%- macro text(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for part in content if part.type == 'text' -%}{{- part.text -}}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {%- if message.role not in ['user', 'assistant', 'system'] -%}{%- continue -%}{%- endif -%}
    {%- set body %}{{ text(message.content) }}{% endset -%}
    <|im_start|>{{ {'assistant': 'model'}.get(message.role, message.role) }}
{% generation %}{{ body | trim }}{% endgeneration %}<|im_end|>
{% endfor -%}
{{- '<|im_start|>model\\n' if add_generation_prompt else '' -}}"""

THINKING = """\
{%- set last = messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | last -%}
{%- for message in messages %}
    {%- set content = message.content or '' %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>%s\\n' % message.role }}{{ content }}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n' ~ {'name': call.name, 'arguments': call.arguments} | tojson ~ '\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' ~ ('<think>\\n\\n</think>\\n\\n' if enable_thinking is false else '') }}
{%- endif %}"""

TOOLS = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson(indent=2) }}
{% endfor %}{{ tools | map(attribute='name') | join(', ') | upper }} {{ tools | length }}<|im_end|>
{% endif %}
{%- for m in messages %}{{ ['<|im_start|>', m.role, '\\n', m.content, '<|im_end|>'] | join }}
{% if not loop.last %}{{ loop.index0 }}{% endif %}{% endfor %}"""

GREETED = """\
{% for turn in messages %}
{% if loop.first and turn.role != 'system' %}
{{ '<|im_start|>' ~ 'system\\nYou help.' ~ '<|im_end|>\\n' }}
{%- endif %}
{{ '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

FOLDED = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set opening = messages[0]['content'] | trim + '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set opening = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (opening if loop.first else '') }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""

SEPARATED = """\
{%- for message in messages %}{{ '<|' + message['role'] + '|>' ~ message['content'] ~ '<|end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"""

LISTED = """\
{{- bos_token }}
{%- set questions = messages | selectattr('role', 'equalto', 'user') | list %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools is not none and message == questions[-1] %}
            {{- '[AVAILABLE_TOOLS] [' }}
            {%- for tool in tools %}{{- '{"type": "function", "function": ' }}{% for key, value in tool.items() if key != 'return' %}{{- '"' + key + '": ' + value | tojson }}{{ ', ' if not loop.last }}{% endfor %}{{- '}' }}{{ ', ' if not loop.last else ']' }}{% endfor %}
            {{- '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.role == 'assistant' %}{{- ' ' + message.content | trim + eos_token }}
    {%- endif %}
{%- endfor %}"""

CALLING = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {{- messages[0].content + '\\n\\n' if messages[0].role == 'system' else 'You help.\\n\\n' }}
    {{- "You may call:\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{% endfor %}
    {{- "\\n</tools>\\n\\nCall one so: <tool_call>{\\"name\\": NAME}</tool_call><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(searching=true, asked_at=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == 'user' and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.asked_at = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.asked_at %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""

ALL = {
    "chatml": CHATML, "chatml-text": CHATML_TEXT, "inst": INST, "headers": HEADERS, "pipes": PIPES,
    "blocks": BLOCKS, "thinking": THINKING, "tools": TOOLS,
    "greeted": GREETED, "folded": FOLDED, "separated": SEPARATED, "listed": LISTED, "calling": CALLING,
}  # fmt: skip

SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|user|>", "<|assistant|>", "<|system|>", "[INST]", "[/INST]",
    "<|end|>", "<start_of_turn>", "<end_of_turn>", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
]  # fmt: skip
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]

TALK = [
    {"role": "user", "content": " How are you?\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nFine, thanks."},
    {"role": "user", "content": "Say “héllo” 🦙"},
]
