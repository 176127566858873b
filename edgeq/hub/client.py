"""Questions to the hub over its own client's session: with limits of time, a few tries, and one kind of
failure.

The client makes the session (proxies, certificates), the headers (the token) and the kinds of errors; bytes
are read here, since its downloads neither go on where they were cut nor end by a given time.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from edgeq.errors import EdgeqError, NetworkError, UsageError, shown

from .listing import COMMIT, Listing
from .names import Name
from .reasons import pause, reason

Result = TypeVar("Result")
HUB = "https://huggingface.co"
ANSWER_S = 7.0  # from asking to the answer's first byte, and between two parts of it
FACTS, BYTES = "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"  # the client's names for seconds to wait
WAIT_S_MAX = 86_400.0  # whatever they ask for: the system can wait for no more than some years
TRIES = 3  # without a byte between them; with ANSWER_S and the pauses: 24 s, so that the end comes within 30
CUTS_MAX = 100  # of one file, each after some bytes
LISTING_BYTES_MAX = 32 << 20
TRUE = ("1", "on", "yes", "true")  # the client's words


class Cut(ConnectionError):
    """The connection ended before the file did."""


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, else huggingface.co. UsageError where that is no address."""
    address = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    try:
        parts = urlsplit(address)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_one = False
    if not is_one:
        raise UsageError(f"HF_ENDPOINT is {shown(address)}, but must be an address such as {HUB}")
    return address


def host() -> str:
    """Whom `endpoint` names, for a person; not who asks, which an address can say, too."""
    return urlsplit(endpoint()).netloc.rpartition("@")[2]


def offline() -> bool:
    """Whether the environment forbids the network."""
    word = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return word.lower() in TRUE


def answer_seconds(variable: str = BYTES) -> float:
    """ANSWER_S, or what the person's own variable asks for."""
    word = os.environ.get(variable, "")
    return min(float(word), WAIT_S_MAX) if word.isascii() and word.isdecimal() and int(word) else ANSWER_S


def listing(name: Name) -> Listing:
    """The files of the repository at the name's revision; NetworkError says why they are not to be had."""
    url = f"{endpoint()}/api/models/{name.repository}/revision/{quote(name.revision, safe='')}"

    def ask() -> Listing:
        with opened(url, params={"blobs": "true"}, limit=FACTS) as response:
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if len(data) > LISTING_BYTES_MAX:
                    break  # and is no JSON
        try:
            found = Listing.from_hub(json.loads(data))
            if COMMIT.fullmatch(name.revision) and found.commit != name.revision:
                raise ValueError(f"another commit, {found.commit[:12]}")
            return found
        except (ValueError, RecursionError) as error:
            raise NetworkError(
                f"{str(name)!r}: {host()} does not answer as the hub does ({str(error)[:60]}); check "
                "HF_ENDPOINT, and whether this network wants a login of its own"
            ) from None

    with named(name):
        return insist(ask, lambda: 0)


def file_url(repository: str, commit: str, file: str) -> str:
    """Where a file's bytes are."""
    return f"{endpoint()}/{repository}/resolve/{commit}/{quote(file)}"


@contextmanager
def named(name: Name) -> Iterator[None]:
    """Whatever the client raises inside is NetworkError with the reason, and EdgeqError where there is no
    client; edgeq's own errors pass."""
    try:
        yield
    except EdgeqError:
        raise
    except ImportError:
        raise EdgeqError(
            f"{str(name)!r} is no local file or directory, and the hub client is missing or older than 1.0: "
            "pip install 'edgeq[hub]'"
        ) from None
    except Exception as error:  # the client, its HTTP library and the system each have their own kinds
        raise NetworkError(
            f"{str(name)!r} is no local file or directory, and it could not be fetched from the hub: "
            + reason(error, name.repository, name.revision, endpoint())
        ) from None


@contextmanager
def opened(
    url: str, *, start: int = 0, params: dict[str, str] | None = None, limit: str = BYTES
) -> Iterator[Any]:
    """The hub's answer, of which no byte is read yet, from byte `start` on where the hub can do that."""
    session, headers, check = client()
    headers["Accept-Encoding"] = "identity"  # sizes and ranges are those of the file
    if start:
        headers["Range"] = f"bytes={start}-"
    seconds = answer_seconds(limit)

    def ask() -> Any:
        response = session.send(
            session.build_request("GET", url, headers=headers, params=params, timeout=seconds), stream=True
        )
        try:
            check_encrypted(response)
            check(response)
        except BaseException:
            response.close()
            raise
        return response

    response = within(seconds, ask)
    try:
        yield response
    finally:
        response.close()


def check_encrypted(response: Any) -> None:
    """NetworkError where a question over https was sent on to an address without: what answers there may be
    anybody, and says which checksums are right."""
    schemes = [step.url.scheme for step in (*response.history, response)]
    if schemes[0] == "https" and "http" in schemes:
        raise NetworkError(
            f"{host()} sends on to {str(response.url.host)[:80]} without encryption, which edgeq does not "
            "follow; check whether this network wants a login of its own"
        )


def client() -> tuple[Any, dict[str, str], Callable[[Any], None]]:
    """(session, headers of every question, what raises for an answer that is none) of the hub's client;
    ImportError where it is missing or too old."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    from edgeq import __version__

    session = get_session()
    if not hasattr(session, "build_request"):
        raise ImportError("huggingface_hub is older than 1.0")
    return session, build_hf_headers(library_name="edgeq", library_version=__version__), hf_raise_for_status


def within(seconds: float, ask: Callable[[], Any]) -> Any:
    """What ask() gives; TimeoutError after so many seconds. Looking up a host has no limit of its own, and
    Ctrl-C does not end it, so both are waited for here while another thread asks; a late answer is closed."""
    answers: list[Any] = []
    errors: list[BaseException] = []
    done, left = threading.Event(), threading.Event()

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)
        done.set()
        if left.is_set() and answers:
            answers[0].close()

    threading.Thread(target=run, name="edgeq-hub", daemon=True).start()
    try:
        if not done.wait(seconds):
            raise TimeoutError(f"no answer in {seconds:.0f} s")
    except BaseException:
        left.set()
        if done.is_set() and answers:
            answers[0].close()
        raise
    if errors:
        raise errors[0]
    return answers[0]


def insist(attempt: Callable[[], Result], got: Callable[[], int]) -> Result:
    """What attempt() gives, tried again where what went wrong may pass. A try that brought bytes, of which
    got() is the number, is followed by TRIES more."""
    tries, cuts, before = 0, 0, got()
    while True:
        try:
            return attempt()
        except Exception as error:
            if got() > before:
                tries, cuts, before = 0, cuts + 1, got()
            tries += 1
            seconds = pause(error, tries)
            if seconds is None or seconds > answer_seconds() or tries >= TRIES or cuts > CUTS_MAX:
                raise
            time.sleep(seconds)
