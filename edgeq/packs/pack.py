"""A pack: kernels of one tier in one file, linked, ready to be mapped and called.

offset | size | meaning
---    | ---  | ---
0      | 8    | MAGIC, which ends with the format's version
8      | 32   | SHA-256 of all that follows
40     | 4    | bytes of the header, little-endian
44     |      | the header: JSON with the fields of `Pack`; then zeros up to a PAGE
       |      | the image: machine code and constants

A pack is code, so it is read from places alone that nobody else can write; the checksum finds damage, and
whatever differs from what is expected is refused in one sentence.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, replace

from edgeq.errors import EdgeqError
from edgeq.simd.link import PAGE
from edgeq.simd.target import Target

MAGIC = b"edgeqpk\x01"
PRELUDE = struct.Struct("<8s32sI")
HEADER_BYTES_MAX = 256 << 10  # of the JSON: a hundred times what all kernels of a tier need
BYTES_MAX = 64 << 20  # of a pack: hundreds of times what all kernels of a tier take


class PackError(EdgeqError):
    """A pack that cannot be used."""


@dataclass(frozen=True)
class Pack:
    """A tier's kernels."""

    target: Target
    sources: str  # the digest of what they were compiled from
    compiler: str  # what compiled them
    kernels: dict[str, int]  # where each stands in the image
    image: bytes | memoryview
    image_at: int = 0  # where the image stands in the file

    def encoded(self) -> bytes:
        """The file's bytes."""
        fields = dict(
            isa=self.target.isa,
            machine=self.target.machine,
            system=self.target.system,
            sources=self.sources,
            compiler=self.compiler,
            kernels=self.kernels,
        )
        header = json.dumps(fields).encode()
        rest = struct.pack("<I", len(header)) + header
        rest += bytes(-(len(rest) + PRELUDE.size - 4) % PAGE)
        digest = hashlib.sha256(rest)
        digest.update(self.image)
        return MAGIC + digest.digest() + rest + self.image

    def joined(self, other: Pack) -> Pack:
        """This pack's kernels and another's."""
        start = -(-len(self.image) // PAGE) * PAGE
        image = bytes(self.image) + bytes(start - len(self.image)) + bytes(other.image)
        moved = {name: start + at for name, at in other.kernels.items()}
        return replace(other, kernels=self.kernels | moved, image=image)


def decoded(blob: memoryview) -> Pack:
    """The pack in a file's bytes; PackError where they are not what `encoded` made."""
    if len(blob) < PRELUDE.size:
        raise PackError("it is cut short")
    magic, digest, length = PRELUDE.unpack_from(blob)
    if magic != MAGIC:
        same = magic[:-1] == MAGIC[:-1]
        raise PackError("another version of edgeq wrote it" if same else "it is no pack of kernels")
    if hashlib.sha256(blob[PRELUDE.size - 4 :]).digest() != digest:
        raise PackError("it is damaged: its checksum does not match")
    if length > HEADER_BYTES_MAX:
        raise PackError("its header is wrong")
    start = -(-(PRELUDE.size + length) // PAGE) * PAGE
    try:
        header = json.loads(bytes(blob[PRELUDE.size : PRELUDE.size + length]))
        words = {name: header[name] for name in ("isa", "machine", "system", "sources", "compiler")}
        kernels = header["kernels"]
        if not all(isinstance(word, str) for word in words.values()) or start > len(blob):
            raise ValueError
        if not all(type(at) is int and 0 <= at < len(blob) - start for at in kernels.values()):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise PackError("its header is wrong") from None
    target = Target(words["isa"], words["machine"], words["system"])
    return Pack(target, words["sources"], words["compiler"], kernels, blob[start:], start)
