"""Python: pieces of the pages as programs."""

# ruff: noqa: E501  (a step stands on few lines)

from __future__ import annotations

from tests.stranger.pages import PAGES
from tests.stranger.script import NOTHING, Snippet, Step

README, USAGE, PYTHON, OPTIONS, PI = PAGES
IMPORT = "import edgeq\n"

STEPS = (
    Step("a chat model as docs/python.md has it", README, "edgeq convert model-Q4_K_M.gguf -o model.edgeq", (NOTHING,),
         (r"\Amodel\.edgeq: 3\d\d kB, keep",), but={"Q4_K_M": "Q8_0"}, also="--force"),
    Snippet("a program", README, (IMPORT,), (r"\A.{10,}",)),
    Snippet("an answer in pieces, and a chat", PYTHON, (IMPORT,), (r"\A.{10,}",)),
    Snippet("to load what is not converted", PYTHON, (IMPORT, 'model = edgeq.load("model-Q8_0.gguf", tell=print)'),
            (r"^.*converting model-Q8_0\.gguf to keep, once, into ", r"^<edgeq\.Model .*: llama, layers 5, context 512, kv q8")),
    Snippet("what an answer took", PYTHON, (IMPORT, 'model = edgeq.load("model.edgeq")\nanswer'),
            (r"(eos|length) Usage\(",)),
    Snippet("a conversation", PYTHON,
            (IMPORT, 'model = edgeq.load("model.edgeq")\nanswer', "# or model.conversation(system=...)"),
            (r"<edgeq\.Conversation: 2 messages, \d+ of 512 tokens>",)),
    Snippet("what is told of a model that is not there", PYTHON, (IMPORT, "from edgeq.errors import EdgeqError"),
            (r"^.*there is no file or directory missing\.edgeq: ",)),
    Snippet("to convert and to check", PYTHON, (IMPORT, "from edgeq.formats import open_model, verify"),
            (r"^.*llama 5 \(64, 64\)$", r"^\[\]$")),
)  # fmt: skip
