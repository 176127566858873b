"""The table of parsers: for each its sound inputs, its mutator, and what is done with an input.

A parser holds when it takes an input or refuses it with an error of edgeq's own, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz import checkpoints, edgeq_files, gguf_files, others, prefixes, vocabularies

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Parser:
    """A row of the table."""

    name: str
    seeds: Callable[[], list[bytes]]  # sound inputs, the same on every machine
    mutant: Callable[[Random, bytes, bytes], bytes]  # of one input, with parts that another lends
    read: Callable[[bytes, Path], None]  # with a folder for files, which one process has for itself
    count: int = 500  # inputs of a short run
    weight: float = 1  # share of a long run's inputs, where none is named

    def kept(self) -> list[bytes]:
        """The inputs of the corpus: each once showed something."""
        place = CORPUS / self.name
        return [path.read_bytes() for path in sorted(place.iterdir())] if place.is_dir() else []


def _json(name: str, file: str, seeds: Callable[[], list[bytes]], weight: float = 1) -> Parser:
    return Parser(name, seeds, checkpoints.json_mutant, checkpoints.reader(name, file), 300, weight)


def _tokenizer(name: str, file: str, seeds: Callable[[], list[bytes]]) -> Parser:
    return Parser(name, seeds, checkpoints.json_mutant, checkpoints.tokenizer_reader(name, file), 200, 0.2)


def _value(*values: object) -> Callable[[], list[bytes]]:
    import json

    return lambda: [json.dumps(value).encode() for value in values]


PARSERS = {
    parser.name: parser
    for parser in (
        Parser("edgeq", edgeq_files.seeds, edgeq_files.mutant, edgeq_files.read, 1000, 10),
        Parser("edgeq-run", edgeq_files.run_seeds, edgeq_files.mutant, edgeq_files.run, 600, 0.05),
        Parser("gguf", gguf_files.seeds, gguf_files.mutant, gguf_files.read, 1000, 8),
        Parser("gguf-vocabulary", gguf_files.vocabulary_seeds, gguf_files.mutant, gguf_files.read_vocabulary,
        300, 0.5),
        Parser("safetensors", checkpoints.safetensors_seeds, checkpoints.safetensors_mutant,
               checkpoints.read_weights, 500, 6),
        _json("index", "model.safetensors.index.json", checkpoints.index_seeds),
        _json("config", "config.json", checkpoints.configs),
        _json("generation-config", "generation_config.json", _value(checkpoints.GENERATION)),
        _tokenizer("tokenizer-json", "tokenizer.json", vocabularies.tokenizer_jsons),
        _tokenizer("tokenizer-config", "tokenizer_config.json", _value(vocabularies.settings())),
        _tokenizer("special-tokens", "special_tokens_map.json",
                   _value({"bos_token": "<s>", "additional_special_tokens": ["<think>", {"content": "x"}]})),
        _tokenizer("added-tokens", "added_tokens.json", _value({"<|x|>": 17, "<|y|>": 18, "z": 20})),
        Parser("sentencepiece", checkpoints.pieces_seeds, checkpoints.pieces_mutant,
               checkpoints.tokenizer_reader("sentencepiece", "tokenizer.model"), 300, 0.3),
        Parser("template", others.template_seeds, others.template_mutant, others.read_template, 200, 0.2),
        Parser("pack", others.pack_seeds, others.pack_mutant, others.read_pack, 300, 4),
        Parser("prefix", prefixes.seeds, prefixes.mutant, prefixes.read, 300, 2),
        Parser("recipe", others.recipe_seeds, others.recipe_mutant, others.read_recipe, 300, 2),
        Parser("calibration-text", others.texts_seeds, checkpoints.json_mutant, others.read_texts, 300, 2),
        Parser("moments", others.stats_seeds, others.stats_mutant, others.read_stats, 300, 2),
        Parser("conversation", others.conversation_seeds, checkpoints.json_mutant, others.read_conversation,
               300, 2),
        Parser("tuned", others.tuned_seeds, checkpoints.json_mutant, others.read_tuned, 300, 2),
    )
}  # fmt: skip
