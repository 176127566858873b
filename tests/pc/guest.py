#!/usr/bin/python3
"""The first process of an emulated PC: runs the programs that the host asks for over the second serial line.

Both ways go lines of JSON. The first says that the PC is up. Then come requests, {"words": […],
"environment": {…}}, and for each an answer, {"code": …, "out": …, "err": …}. The kernel's messages go to
the first serial line. It needs Python's library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import termios
import tty
from typing import Any

LINE = "/dev/ttyS1"
MOUNTS = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/tmp": "tmpfs"}


def main() -> None:
    for place, kind in MOUNTS.items():
        subprocess.run(["/bin/mount", "-t", kind, kind, place], check=True)
    serve(LINE)


def serve(name: str) -> None:
    """Answer on a terminal until it hangs up."""
    terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(terminal)
    settings = termios.tcgetattr(terminal)
    settings[4] = settings[5] = termios.B115200
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
    say(terminal, {"up": True})
    pending = b""
    while received := os.read(terminal, 4096):
        *requests, pending = (pending + received).split(b"\n")
        for request in requests:
            say(terminal, answer(json.loads(request)))


def say(terminal: int, what: dict[str, Any]) -> None:
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(terminal, data) :]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        request["words"], env=request["environment"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


if __name__ == "__main__":
    main()
