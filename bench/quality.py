"""How good files of equal size are: llama.cpp's quantizer beside edgeq's, on the same tokens of a text.

usage: python -m bench.quality MODEL... --calibration TEXT --text TEXT [--windows N] [--types Q8_0,...]

MODEL is a Hugging Face checkpoint or a GGUF file. It is decoded to float32, which is the reference and what
both sides quantize. llama.cpp's files are scored twice, by llama.cpp itself and by edgeq on their lossless
conversion; edgeq's by edgeq with its defaults, INT8 activations and INT8 cache. TEXT is a file or a part of
one, FILE:FIRST:END: characters, or entries of a .json list. The last line of stdout is one JSON object.
bench/README.md says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgeq
from bench import floats, llamacpp
from bench.files import default_directory, say
from bench.kept import Kept, code, digest, keep
from bench.peers import Worker, processor
from bench.quantized import CONVERTED, FLOAT, MATRIX, OURS, TYPES, Made, Workshop, described, weights
from edgeq.errors import EdgeqError
from edgeq.evaluate import Saved, divergences
from edgeq.evaluate.reference import Keeper, OfModel
from edgeq.evaluate.windows import LLAMA_CPP, Windows, cut

RUNS = ("evaluate", "kernels", "models", "ops", "runtime", "simd")  # parts of edgeq that settle its logits
PROMPT = 64  # tokens before decode
SAMPLES, SAMPLE = 50, 200  # of the scored text, and characters of each, that calibration must not hold
FIGURES = {  # in a row: in Divergence
    "kld": "kld_mean", "kld_se": "kld_standard_error", "kld_p99": "kld_p99", "same": "agreement",
    "same_se": "agreement_standard_error", "ppl_ratio": "perplexity_ratio",
    "ppl_ratio_se": "perplexity_ratio_standard_error",
}  # fmt: skip


@dataclass(frozen=True)
class Exam:
    """What every file of a model is asked: windows of a text, and what the float32 model says of them."""

    windows: Windows  # all of the text
    ids: list[int]  # of the windows that are scored, one after another
    reference: Kept

    @classmethod
    def of(cls, shop: Workshop, text: str, count: int | None, threads: int) -> Exam:
        """`count` windows spread evenly over the text, None for all."""
        with edgeq.load(shop.float.path, act="f32", kv="f32", threads=threads) as model:
            windows = cut(model, text, shop.context)
            rows = spread(windows.count, count)
            ids = windows.ids[rows].reshape(-1).tolist()
            key = digest("reference", shop.source.key, ids, windows.context)

            def write(part: Path) -> None:
                chosen = cut(model, ids, windows.context)
                with Keeper(part, chosen, model.vocab_size, shop.source.path.name) as keeper:
                    for said in OfModel(model, LLAMA_CPP).said(chosen):
                        keeper.keep(said)
                    keeper.commit()

            path = shop.folder / f"reference-{windows.text_sha256[:8]}-{len(rows)}.safetensors"
            return cls(windows, ids, keep(path, key, write))

    def score(self, name: str, runtime: str, path: Path, numbers: str, threads: int) -> dict[str, Any]:
        """A Divergence as JSON; beside it every token's figures are kept. numbers: a key of the weights.

        RuntimeError or EdgeqError where it cannot be run, ImportError without llama.cpp's library.
        """
        by = llamacpp.version() if runtime == "llama.cpp" else code(RUNS)
        key = digest("score", numbers, self.reference.key, by)
        folder = self.reference.path.parent / "scores" / self.reference.path.stem

        def write(part: Path) -> dict[str, Any]:
            context = self.windows.context
            with (
                llamacpp.LlamaCpp(path, context, threads)
                if runtime == "llama.cpp"
                else edgeq.load(path, threads=threads)
            ) as model:
                (found,) = divergences([model], Saved(self.reference.path), self.ids, context=context)
            np.save(part, found.rows)
            return found.figures.to_json()

        return keep(folder / f"{name}.{runtime}.npy", key, write).note


def spread(count: int, wanted: int | None) -> list[int]:
    """`wanted` of the numbers below `count`, evenly; all where that is more."""
    wanted = min(wanted or count, count)
    return [i * count // wanted for i in range(wanted)]


def equals(numbers: dict[str, str]) -> dict[str, str]:
    """{row: an earlier row that has the same weights}, of the rows' keys of their weights."""
    first: dict[str, str] = {}
    found = {name: first.setdefault(key, name) for name, key in numbers.items()}
    return {name: other for name, other in found.items() if other != name}


def files_of(row: Made) -> Iterator[tuple[str, Path]]:
    """(runtime, what it runs)."""
    if row.file is not row.edgeq:
        yield "llama.cpp", row.file.path
    if row.edgeq is not None:
        yield "edgeq", row.edgeq.path


def decode_tps(runtime: str, path: Path, tokens: int, threads: int) -> float:
    """Tokens a second, the better of two turns."""
    options = {"model": str(path), "threads": threads, "context": PROMPT + tokens}
    with Worker(runtime.replace(".", ""), options) as worker:
        turns = [worker.ask(do="decode", prompt=PROMPT, tokens=tokens)["seconds"] for _ in range(2)]
    return round(tokens / min(turns), 2)


def measure(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """All of one model: protocol and rows, by bytes."""
    calibration, text = floats.text_of(given.calibration), floats.text_of(given.text)[: given.chars]
    apart(calibration, text)
    shop = Workshop(model, given.dir, calibration, given.llama_bin, given.threads)
    made, left_out = shop.all([FLOAT, *given.types, *given.ours])
    exam = Exam.of(shop, text, given.windows, given.threads)
    numbers = {name: weights(row) for name, row in made.items()}
    same, rows, figures = equals(numbers), [], {}
    for name, row in made.items():
        if row.why:
            left_out[f"{name}, edgeq"] = row.why
        if name in same:
            continue
        for runtime, path in files_of(row):
            say(f"{shop.folder.name}: {name}, {runtime}")
            try:
                figures = exam.score(name, runtime, path, numbers[name], given.threads)
            except (EdgeqError, RuntimeError, ImportError) as error:
                left_out[f"{name}, {runtime}"] = str(error)
                continue
            rows.append({
                "name": name, "runtime": runtime, **described(row.file.path),
                "edgeq_bytes": row.edgeq.path.stat().st_size if row.edgeq else None,
                **{short: figures[long] for short, long in FIGURES.items()}, **row.cost(),
                "decode_tps": decode_tps(runtime, path, given.decode, given.threads)
                if given.decode else None,
            })  # fmt: skip
    about = {key: figures.get(key) for key in ("tokens", "windows", "context", "protocol", "reference_floor")}
    return {
        "model": shop.folder.name,
        **about,
        "windows_of_text": exam.windows.count,
        "text_sha256": exam.windows.text_sha256,
        "text": Path(given.text).name,
        "calibration": Path(given.calibration).name,
        "calibration_chars": len(calibration),
        "imatrix_s": next((row.calibration["seconds"] for row in made.values() if row.calibration), None),
        "rows": sorted(rows, key=lambda row: (row["bytes"], row["name"], row["runtime"])),
        "same": same,
        "left_out": left_out,
    }


def apart(calibration: str, text: str) -> None:
    """ValueError where the text that is scored is in the one that is calibrated on."""
    step = max(1, len(text) // SAMPLES)
    if any(text[at : at + SAMPLE] in calibration for at in range(0, len(text), step)):
        raise ValueError("the text that is scored is part of the calibration text: take another part")


def kinds(types: dict[str, int]) -> str:
    """What the blocks' matrices are, as in "166 Q5_0, 16 Q4_K"; one type alone without its number."""
    return next(iter(types)) if len(types) == 1 else ", ".join(f"{n} {kind}" for kind, n in types.items())


COLUMNS: tuple[tuple[str, str, Callable[[dict[str, Any]], Any]], ...] = (  # title, format, figure
    ("file", "<16", lambda r: r["name"]),
    ("run by", "<9", lambda r: r["runtime"]),
    ("bits", "5.2f", lambda r: r["body_bits"]),
    ("MB", "8.3f", lambda r: r["bytes"] / 1e6),
    ("1000 KLD", "9.3f", lambda r: 1e3 * r["kld"]),
    ("±", "6.3f", lambda r: 1e3 * r["kld_se"]),
    ("1000 p99", "8.2f", lambda r: 1e3 * r["kld_p99"]),
    ("same top", "8.2%", lambda r: r["same"]),
    ("ppl ratio", "9.4f", lambda r: r["ppl_ratio"]),
    ("s", "7.1f", lambda r: r["seconds"]),
    ("CPU s", "7.1f", lambda r: r["cpu_s"]),
    ("peak MB", "7.0f", lambda r: r["peak_rss_mb"]),
    ("t/s", "7.1f", lambda r: r["decode_tps"]),
    ("head", "<5", lambda r: r["head"]),
    ("blocks", "<", lambda r: kinds(r["types"])),
)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people; a column that no row has a figure for is left out."""
    lines = [[title for title, _, _ in COLUMNS]]
    for row in rows:
        figures = [(figure(row), spec) for _, spec, figure in COLUMNS]
        lines.append(["–" if value is None else format(value, spec).strip() for value, spec in figures])
    columns = []
    for (_, spec, _), cells in zip(COLUMNS, zip(*lines, strict=True), strict=True):
        if set(cells[1:]) != {"–"}:
            width = max(map(len, cells))
            columns.append([f"{cell:{'<' if '<' in spec else '>'}{width}}" for cell in cells])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def report(found: dict[str, Any]) -> str:
    """One model's table and what its figures mean nothing without."""
    lines = [
        f"{found['model']}: {found['tokens']} tokens in {found['windows']} of "
        f"{found['windows_of_text']} windows, spread evenly; {found['protocol']}",
        f"text {found['text']}, SHA-256 {found['text_sha256']}",
        f"calibration {found['calibration']}, {found['calibration_chars']} characters",
        table(found["rows"]),
        *(f"{name}: the same weights as {other}, one result" for name, other in found["same"].items()),
        *(f"{name} is left out: {reason}" for name, reason in found["left_out"].items()),
    ]
    return "\n".join(lines)


def listed(parser: argparse.ArgumentParser, given: str, known: tuple[str, ...]) -> list[str]:
    """The names of a list with commas; exits where one is unknown."""
    names = [name for name in given.split(",") if name]
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"{', '.join(unknown)}: known are {', '.join(known)}")
    return names


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("models", nargs="+", type=Path, metavar="MODEL")
    add("--calibration", required=True, metavar="TEXT", help="for the importance matrix, and for edgeq")
    add("--text", required=True, metavar="TEXT", help="is scored; no part of the calibration text")
    add("--chars", type=int, metavar="N", help="take only the first characters of the scored text")
    add("--windows", type=int, metavar="N", help="score so many windows, spread evenly [all]")
    add("--types", default=",".join(TYPES), help="llama.cpp's types; with +im only with an importance matrix")
    add("--imatrix", default="both", choices=["both", "yes", "no"], help="for types without +im")
    add("--ours", default=",".join(CONVERTED), help=f"of {', '.join(OURS)}")
    add("--decode", type=int, default=0, metavar="N", help="time N tokens of decode, too")
    add("--threads", type=int, default=1)
    add("--llama-bin", type=Path, metavar="DIR", help="where llama-quantize and llama-imatrix are [PATH]")
    add("--dir", type=Path, help="where files are kept [the user's cache]")
    add("--json", action="store_true", help="print the JSON object alone")
    given = parser.parse_args()
    names = listed(parser, given.types, (*TYPES, *(name + MATRIX for name in TYPES)))
    endings = {"both": ("", MATRIX), "yes": (MATRIX,), "no": ("",)}[given.imatrix]
    given.types = [name + end for name in names for end in (("",) if name.endswith(MATRIX) else endings)]
    given.ours = listed(parser, given.ours, tuple(OURS))
    given.dir = (given.dir or default_directory() / "quality").absolute()
    return given


def main() -> None:
    given = parse()
    try:
        found = [measure(model.absolute(), given) for model in given.models]
    except (OSError, ValueError, EdgeqError) as error:
        sys.exit(f"error: {error}")
    if not given.json:
        print("\n\n".join(map(report, found)))
    facts = {"machine": platform.machine(), "processor": processor(), "cores": os.cpu_count()}
    print(json.dumps({**facts, "threads": given.threads, "models": found}))


if __name__ == "__main__":
    main()
