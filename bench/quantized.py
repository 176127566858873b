"""Quantized files of one model, by llama.cpp's commands and by edgeq's, with what each took to make.

A row of `OURS` is a command line of edgeq: {source} is the float32 GGUF that llama.cpp quantizes too,
{calibration} the text, {out} the file to write, and {bytes:NAME} the size of another row's file.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

from bench import floats
from bench.files import say
from bench.kept import Kept, code, content, digest, keep, run, spelled
from bench.quantize import ROOT
from bench.timed import timed
from edgeq.formats import open_model
from edgeq.formats.gguf import open_gguf

TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_M", "IQ3_S", "Q2_K")
FLOAT = "float32"  # the row of the model that is quantized: what each runtime adds alone
MATRIX = "+im"  # ends the name of a file made with an importance matrix
CONVERTED = ("e8", "e6", "e5", "e4", "e3", "e2", "q8", "q4")
OURS = {name: f"convert {{source}} -o {{out}} -q --scheme {name}" for name in CONVERTED}
# Rows of `edgeq quantize`, which --ours asks for by name.
OURS |= {
    f"{quality}-{scheme}": f"quantize {{source}} -o {{out}} -q --quality {quality} --scheme {scheme}"
    + ("" if quality == "fast" else " -f {calibration}")
    for quality in ("fast", "good", "best")
    for scheme in ("e8", "e6", "e5", "e4", "e3", "e2")
}
# The steps of `good` one after another, and the presets with embedding and head of 6 bits.
STEPS = ("search", "importance", "gptq", "descent")
OURS |= {
    f"{step}-{scheme}": "quantize {source} -o {out} -q -f {calibration} --method "
    f"{','.join(STEPS[: number + 1])} --scheme {scheme}"
    for number, step in enumerate(STEPS)
    for scheme in ("e4", "e3")
}
OURS |= {
    f"{quality}-e4-h6": f"quantize {{source}} -o {{out}} -q -f {{calibration}} --quality {quality} "
    "--scheme e4 --embed-scheme e6 --output-scheme e6"
    for quality in ("fast", "good", "best")
}
OURS |= {
    f"{quality}-as-{peer}": f"quantize {{source}} -o {{out}} -q --quality {quality} "
    f"--target-size {{bytes:{peer}}} -f {{calibration}}"
    for quality in ("good", "best")
    for peer in (f"Q4_K_M{MATRIX}", f"IQ4_XS{MATRIX}", f"IQ3_S{MATRIX}", f"Q2_K{MATRIX}")
}
KEEP = "convert {source} -o {out} -q --scheme keep"
MAKES = (
    "formats",
    "converters",
    "rounding",
    "calibrate",
    "quantize",
)  # parts of edgeq that settle what a file holds
DEMO = ROOT / "edgeq" / "demo" / "stories260K"  # compiles the kernels before a command is timed
DEMO_CHARS = 20_000  # of the calibration text, there


@dataclass(frozen=True)
class Made:
    """A file and its model as edgeq runs it: itself, or the lossless conversion of a GGUF file."""

    file: Kept
    edgeq: Kept | None
    calibration: dict[str, Any] = field(default_factory=dict)  # the importance matrix's note
    why: str = ""  # there is no conversion

    def cost(self) -> dict[str, float | None]:
        """Seconds, CPU seconds and MB at the peak to make it, the importance matrix included; None where no
        command made it.
        """
        notes = [note for note in (self.file.note, self.calibration) if note]
        if not notes:
            return dict.fromkeys(("seconds", "cpu_s", "peak_rss_mb"))
        return {
            "seconds": round(sum(note["seconds"] for note in notes), 3),
            "cpu_s": round(sum(note["cpu_s"] for note in notes), 3),
            "peak_rss_mb": max(note["peak_rss_mb"] for note in notes),
        }


class Workshop:
    """Makes the files of one model in a folder of its own, each only where it is not there yet.

    bin: where llama.cpp's commands are, None for PATH.
    """

    def __init__(self, model: Path, directory: Path, calibration: str, bin: Path | None, threads: int):
        name = model.name.removesuffix(".gguf")
        self.folder, self.bin, self.threads = directory / name, bin, threads
        self.source = keep(
            self.folder / "float32.gguf",
            digest("float32", content(model)),
            lambda part: floats.write(model, part),
        )
        text = floats.spellable(calibration, self.source.path)
        self.calibration = keep(
            self.folder / "calibration.txt", digest(text), lambda part: write_text(part, text)
        )
        self.float = self.converted(self.source)
        with open_model(self.float.path) as file:
            self.context = min(512, int(file.config["max_position_embeddings"]))

    def converted(self, gguf: Kept) -> Kept:
        """The lossless conversion of a GGUF file."""
        path = gguf.path.with_suffix(".keep.edgeq")
        return run(path, [sys.executable, "-m", "edgeq"], KEEP, {"source": gguf}, code(MAKES))

    def tool(self, name: str) -> tuple[list[str], str]:
        """(one of llama.cpp's commands, a key of its build); RuntimeError where it is missing."""
        command = shutil.which(name, path=None if self.bin is None else str(self.bin))
        if command is None:
            raise RuntimeError(f"the command {name} is not installed: see --llama-bin")
        beside = shutil.which("llama-imatrix", path=str(Path(command).parent))  # it alone tells its version
        told = subprocess.run([beside, "--version"], capture_output=True, text=True) if beside else None
        return [command], digest(name, told and (told.stderr + told.stdout).partition("\n")[0])

    def matrix(self) -> Kept:
        """The importance matrix of the calibration text."""
        program, by = self.tool("llama-imatrix")
        places = {"source": self.source, "calibration": self.calibration}
        options = f"-c {self.context} -t {self.threads} --no-ppl"
        template = f"-m {{source}} -f {{calibration}} -o {{out}} {options}"
        return run(self.folder / "imatrix.gguf", program, template, places, by)

    def theirs(self, name: str) -> Made:
        """A file of llama.cpp's quantizer: TYPE or TYPE+im."""
        program, by = self.tool("llama-quantize")
        kind, with_matrix, _ = name.partition(MATRIX)
        places, options, note = {"source": self.source}, "", {}
        if with_matrix:
            places["matrix"], options = self.matrix(), "--imatrix {matrix} "
            note = places["matrix"].note
        template = f"{options}{{source}} {{out}} {kind} {self.threads}"
        made = run(self.folder / f"{name}.gguf", program, template, places, by)
        try:
            return Made(made, self.converted(made), note)
        except RuntimeError as error:
            return Made(made, None, note, str(error))

    def ours(self, name: str, made: dict[str, Made]) -> Made:
        """A file of a row of `OURS`; RuntimeError also where it needs a row that is not in `made`."""
        places = {"source": self.source, "calibration": self.calibration}
        numbers = {f"bytes:{other}": row.file.path.stat().st_size for other, row in made.items()}
        program, template = [sys.executable, "-m", "edgeq"], OURS[name]

        def warm() -> None:
            with tempfile.TemporaryDirectory() as folder:
                text, out = Path(folder) / "text.txt", Path(folder) / "out.edgeq"
                write_text(text, self.calibration.path.read_text(encoding="utf-8")[:DEMO_CHARS])
                try:
                    timed([*program, *spelled(template, {
                        "source": DEMO, "calibration": text, "out": out, **numbers})])  # fmt: skip
                except RuntimeError as error:
                    say(f"  {name} on the demo's model: {error}")

        try:
            path = self.folder / f"{name}.edgeq"
            kept = run(path, program, template, {**places, **numbers}, code(MAKES), warm)
        except KeyError as missing:
            raise RuntimeError(f"it needs the row {missing.args[0].removeprefix('bytes:')}") from None
        return Made(kept, kept)

    def one(self, name: str, made: dict[str, Made]) -> Made:
        """The file of a row, after those of `made`."""
        if name == FLOAT:
            return Made(self.source, self.float)
        return self.ours(name, made) if name in OURS else self.theirs(name)

    def all(self, names: Iterable[str]) -> tuple[dict[str, Made], dict[str, str]]:
        """(the files of these rows, why each of the others is left out)."""
        made: dict[str, Made] = {}
        left_out: dict[str, str] = {}
        for name in names:
            try:
                made[name] = self.one(name, made)
            except RuntimeError as error:
                left_out[name] = str(error)
                say(f"{name} is left out: {error}")
        return made, left_out


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def described(path: Path) -> dict[str, Any]:
    """What a .gguf or .edgeq file holds: bytes, bits of a weight of the blocks' matrices with scales and
    padding, how many of them have which type, the type of the output head.
    """
    tensors: list[tuple[str, str, tuple[int, ...], int]]
    if path.suffix == ".gguf":
        with open_gguf(path) as gguf:
            tensors = [(t.name, t.type, t.shape, t.nbytes) for t in gguf.tensors.values()]
    else:
        with open_model(path) as file:
            tensors = [(t.name, t.scheme.name, t.shape, t.nbytes) for t in file.tensors.values()]
    matrices = [row for row in tensors if len(row[2]) == 2]
    body = [row for row in matrices if row[0].startswith(("blk.", "blocks."))]
    kinds = {name: kind for name, kind, _, _ in matrices}
    heads = ("output.weight", "output", "token_embd.weight", "embed")
    return {
        "bytes": path.stat().st_size,
        "body_bits": round(8 * sum(row[3] for row in body) / sum(prod(row[2]) for row in body), 4),
        "types": dict(Counter(row[1] for row in body).most_common()),
        "head": next(kinds[name] for name in heads if name in kinds),
    }


def weights(made: Made) -> str:
    """A key of all numbers of the model, whatever else its file says."""
    if made.edgeq is None:
        with open_gguf(made.file.path) as gguf:
            rows = [(t.name, t.type, t.shape, sha256(t.data).hexdigest()) for t in gguf.tensors.values()]
    else:
        with open_model(made.edgeq.path) as file:
            numbers = [t for t in file.tensors.values() if t.scheme.name != "bytes"]
            rows = [(t.name, t.scheme.name, t.shape, t.xxh3) for t in numbers]
    return digest(*sorted(rows))
