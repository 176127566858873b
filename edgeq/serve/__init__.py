"""A model behind HTTP, in the dialects that programs speak already.

One process has one event loop, which reads requests and writes answers, and one thread that steps the model
(`worker`). A dialect (`openai`, `completions`) turns its requests into those of `request`, and what comes of
them into its own bytes; nothing else knows a dialect. Requests are hostile input: all that can fail is
decided before the first byte of an answer.

Needs the extra edgeq[serve]; modules below import it, and this one does not.
"""

from __future__ import annotations

from importlib.util import find_spec

from edgeq.errors import UsageError

LIBRARIES = ("starlette", "uvicorn", "h11", "msgspec")


def check_extra() -> None:
    """UsageError where the libraries of the extra are not there."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UsageError(f"the server needs {missing[0]}, which is not installed: pip install 'edgeq[serve]'")
