"""A terminal that keeps what is written to it, in place of stdout or stderr."""

from __future__ import annotations

import io


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    def take(self) -> str:
        """What was written since the last look."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


def seen(text: str) -> str:
    """What a text looks like on a terminal that obeys newlines and backspaces; spaces at the ends of lines
    are not to be seen."""
    lines, at = [""], 0
    for letter in text:
        line = lines[-1]
        if letter == "\n":
            lines, at = [*lines, ""], 0
        elif letter == "\b":
            at = max(0, at - 1)
        else:
            lines[-1], at = line[:at] + letter + line[at + 1 :], at + 1
    return "\n".join(line.rstrip(" ") for line in lines)
