"""A folder beside the output that keeps what is done: a run that was broken off goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import EdgeqError, UsageError
from edgeq.formats import SCHEMES, Parts

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

PLAN = "plan.json"


class Work:
    """What a plan, a JSON object, has done so far. The folder belongs to that plan alone: one that holds
    another's is refused, since what it holds may have taken hours.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]):
        self.path = path
        text = json.dumps(plan, indent=1, sort_keys=True)
        kept = path / PLAN
        try:
            path.mkdir(exist_ok=True)
            self.resumed = kept.exists()
            if not self.resumed and any(other.name != f"{PLAN}.part" for other in path.iterdir()):
                raise UsageError(f"{path} is there and holds something else: another output is needed")
            if self.resumed and kept.read_bytes() != text.encode():
                raise UsageError(
                    f"{path} holds what another quantization has done so far: go on with that by its own "
                    "arguments, or remove the folder"
                )
            if not self.resumed:
                self._write(PLAN, text.encode())
        except OSError as error:
            with contextlib.suppress(OSError):
                path.rmdir()  # where nothing is in it
            raise EdgeqError(f"{path} cannot be used: {error.strerror or error}") from None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else works in the folder meanwhile: UsageError where somebody does. Afterwards it is gone
        if it holds nothing but the plan.
        """
        with _locked(self.path):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    if {other.name for other in self.path.iterdir()} == {PLAN}:
                        self.remove()

    def _write(self, name: str, data: bytes) -> None:
        part = self.path / f"{name}.part"
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path / name)
        except BaseException:  # on a full disk its bytes are better free
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def save(self, name: str, parts: Parts, scheme: str, facts: Mapping[str, Any]) -> None:
        """A tensor's parts, and what is to be told of them."""
        arrays = [np.ascontiguousarray(parts[part.name]) for part in SCHEMES[scheme].arrays]
        body = b"".join(array.tobytes() for array in arrays)
        head = {"scheme": scheme, "shapes": [list(array.shape) for array in arrays], "facts": dict(facts)}
        head["sha256"] = hashlib.sha256(body).hexdigest()
        raw = json.dumps(head).encode()
        try:
            self._write(name, len(raw).to_bytes(8, "little") + raw + body)
        except OSError as error:
            raise EdgeqError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def load(self, name: str, scheme: str) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]] | None:
        """A tensor's parts and facts as they were saved; None where they were not, or not whole."""
        try:
            data = (self.path / name).read_bytes()
        except OSError:
            return None
        try:
            end = 8 + int.from_bytes(data[:8], "little")
            head = json.loads(data[8:end])
            body = data[end:]
            if head["scheme"] != scheme or head["sha256"] != hashlib.sha256(body).hexdigest():
                return None
            found, at = {}, 0
            for part, shape in zip(SCHEMES[scheme].arrays, head["shapes"], strict=True):
                count = int(np.prod(shape))
                array = np.frombuffer(body, part.dtype, count, at).reshape(shape)
                found[part.name], at = array, at + array.nbytes
            return found, head["facts"]
        except (ValueError, KeyError, TypeError):
            return None

    def keep(self, name: str, value: Any) -> None:
        """A JSON value."""
        try:
            self._write(f"{name}.json", json.dumps(value).encode())
        except OSError as error:
            raise EdgeqError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def note(self, name: str) -> Any:
        """A value as it was kept; None where it was not."""
        try:
            return json.loads((self.path / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """The folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A folder that is this process's alone, which the system lets go of however it ends; where there are no
    such locks, it is anybody's.
    """
    if fcntl is None:
        yield
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise EdgeqError(f"{path} cannot be used: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is at work in {path}: another output is needed") from None
        except OSError:
            pass
        yield
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
