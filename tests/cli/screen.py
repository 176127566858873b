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
