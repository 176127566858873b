"""What a file is that is not the one wanted: its kind by its first bytes, in words, and what to give instead.

Only bytes are looked at, for a download's name says what was asked for and not what came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES = 64  # that the kinds are known by
RIGHT = "name an .edgeq file, a .gguf file or a checkpoint's directory"
AGAIN = "download the file itself again"
UNSAFE = "which can run code and is never loaded"
LOADED = "get the model as safetensors or as GGUF"


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    start: re.Pattern[bytes]  # of its first HEAD_BYTES, all of them where it is a pattern to the end
    what: str  # with its article
    instead: str  # what would be right


def _kind(start: bytes, what: str, instead: str = RIGHT) -> Kind:
    return Kind(re.compile(start, re.DOTALL), what, instead)


SAFETENSORS = _kind(
    rb".{4}\0{4}\{",
    "a safetensors file, one of a checkpoint",
    "name the directory that holds it and config.json",
)

TEXTS = (
    _kind(rb'\s*(\{\s*["}]|\[\s*[\[{"\d])', "a JSON text"),
    _kind(rb"[\t\n\r -~]{6,}\Z", "a text"),
)

# The first that fits counts, so what is sure comes before what is likely.
KINDS = (
    _kind(rb"GGUF", "a GGUF file", "`edgeq convert` makes an .edgeq file of it"),
    _kind(rb"EDGEQ\0\r\n", "an .edgeq file", "it is converted already and can be run as it is"),
    _kind(rb"edgeqpk", "a pack of edgeq's kernels"),
    _kind(rb"(tjgg|lmgg|fmgg|algg)", "a file of GGML from before GGUF", "get the model as GGUF"),
    _kind(rb"version https://git-lfs", "a Git LFS pointer, which stands for a file that was not fetched",
          "run `git lfs pull` where it was cloned, or download the file itself"),
    _kind(rb"\s*<((?i:!doctype|html|head)|!--|\?xml)", "an HTML page, as a server sends in place of a file",
          AGAIN),
    _kind(rb'.{4}\0{4}\{\s*"__metadata__":\s*\{"format":\s*"edgeq s',
          "statistics that `edgeq calibrate` kept", "they go with `edgeq quantize --stats`; " + RIGHT),
    _kind(rb'.{4}\0{4}\{\s*"__metadata__":\s*\{"format":\s*"edgeq r',
          "a reference that `edgeq eval` kept", "it goes with `edgeq eval kld --reference`; " + RIGHT),
    SAFETENSORS,
    _kind(rb"PK\x03\x04.{26}[^/]{1,30}/(data\.pkl|byteorder|\.format|version)", f"a PyTorch pickle, {UNSAFE}",
          LOADED),
    _kind(rb"\x80[\x02-\x05][\x8a\x8c\x95}\]c(XKJMNG]", f"a Python pickle, {UNSAFE}", LOADED),
    _kind(rb"PK\x03\x04", "a ZIP archive", "unpack it, and name what is inside"),
    _kind(rb"(\x1f\x8b|\xfd7zXZ|\x28\xb5\x2f\xfd|BZh|7z\xbc\xaf)", "a compressed file",
          "unpack it, and name what is inside"),
    _kind(rb"\x89PNG", "a PNG image"),
    _kind(rb"\xff\xd8\xff", "a JPEG image"),
    _kind(rb"%PDF", "a PDF document"),
    _kind(rb"\x89HDF", "an HDF5 file, as Keras keeps models", LOADED),
    _kind(rb".{4}TFL3", "a TensorFlow Lite model", LOADED),
    _kind(rb"\x08[\x01-\x20][\x12\x1a:B]", "an ONNX model, by its looks",
          LOADED),
    _kind(rb"\x93NUMPY", "a NumPy array"),
    _kind(rb"(\x7fELF|MZ)", "a program"),
    _kind(rb"\0{16}", "a file that begins with zeros, as one whose download was not finished", AGAIN),
    *TEXTS,
)  # fmt: skip


def kind_of(head: bytes) -> Kind | None:
    """The kind of a file by its first HEAD_BYTES; None for one that no row knows."""
    return next((kind for kind in KINDS if kind.start.match(head[:HEAD_BYTES])), None)


def refusal(head: bytes, wanted: str, magic: bytes) -> str:
    """The sentence for a file that begins with `head` where `wanted` is needed, which begins with `magic`."""
    kind = kind_of(head)
    if kind is not None:
        return f"not {wanted} but {kind.what}: {kind.instead}"
    starts = head[: len(magic)].hex(" ")
    if not starts:
        return f"not {wanted}: it starts with nothing, for it is empty; {RIGHT}"
    return f"not {wanted}: it starts with {starts}, not {magic.hex(' ')}; {RIGHT}"
