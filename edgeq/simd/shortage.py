"""Whether a lack of memory ended something: libraries, and the system's loader, say so in many ways."""

from __future__ import annotations

import errno
import signal
import sys

WORDS = (
    "MemoryError",
    "bad_alloc",
    "out of memory",
    "annot allocate memory",  # of C's library, with or without a capital
    "failed to map segment",  # of the loader, for a shared library
    "Unable to allocate",
    "not enough memory",
)
SCARCE = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)  # memory, processes, descriptors
KILLED = ("SIGKILL", "SIGABRT")  # by the system when memory ends; by LLVM and by C++ when they get none
LIMITED = ("SIGSEGV", "SIGBUS")  # a stack or a page that could not be had, where there is a limit


def told(text: str) -> bool:
    """Whether the text of an error tells of it."""
    return any(word in text for word in WORDS)


def behind(error: BaseException) -> BaseException | None:
    """The exception that tells of it: this one, or one that led to it."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in seen:
        if isinstance(each, MemoryError) or told(str(each)):
            return each
        if isinstance(each, OSError) and each.errno in SCARCE:
            return each
        if isinstance(each, SystemError) and limited():  # of Python's own code, which forgot to say
            return each
        seen.append(each)
        each = each.__cause__ or each.__context__
    return None


def limited() -> bool:
    """Whether this process and those that it starts may take only so much memory."""
    if sys.platform == "win32":
        return False
    import resource

    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds)


def ending(code: int) -> tuple[bool, str]:
    """Of a process's return code: (whether it probably lacked memory, how it ended in words)."""
    if code >= 0:
        return False, f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return name in KILLED or (name in LIMITED and limited()), f"was ended by {name}"
