"""Make samplers.npz: what llama.cpp's samplers leave of rows of logits, and with which probability.

usage: python -m tests.golden.samplers.make_samplers
       from the top; needs llama_cpp

The vocabulary, which DRY's sequence breakers are looked for in, is stories260K's. Each case is options of
edgeq's names; the samplers are put together in their order as llama.cpp's own programs do it. A case has
STEPS rows, one after the other: where llama.cpp draws (mirostat, adaptive-p), what it drew is kept, and is
the text's next token.

llama.cpp leaves what top-n-sigma cuts off among the candidates, with probability 0, and typical-p and dynamic
temperature then count it or compute with its infinity; so these never come behind it here.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

HERE = Path(__file__).parent
MODEL = HERE.parent / "llamacpp" / "stories260K-q8_0.gguf"
VOCAB, STEPS, CHAINS = 512, 3, 60
DEFAULTS: dict[str, Any] = {
    "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0, "repeat_last_n": 64,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": [], "typical_p": 1.0,
    "top_n_sigma": -1.0, "xtc_probability": 0.0, "xtc_threshold": 0.1, "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0, "dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2,
    "dry_penalty_last_n": 64, "dry_sequence_breakers": ["\n", ":", '"', "*"], "mirostat": 0,
    "mirostat_tau": 5.0, "mirostat_eta": 0.1, "adaptive_target": -1.0, "adaptive_decay": 0.9,
    "samplers": "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature",
}  # fmt: skip
OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
SINGLE: list[dict[str, Any]] = [
    {},
    OFF,
    {**OFF, "temperature": 0.35},
    {**OFF, "top_k": 7},
    {**OFF, "top_p": 0.7},
    {**OFF, "min_p": 0.02},
    {**OFF, "typical_p": 0.6},
    {**OFF, "typical_p": 0.95, "top_k": 100},
    {**OFF, "top_n_sigma": 1.3},
    {**OFF, "xtc_probability": 1.0, "xtc_threshold": 0.03},
    {**OFF, "repeat_penalty": 1.4, "presence_penalty": 0.3, "frequency_penalty": 0.2, "repeat_last_n": 20},
    {**OFF, "dry_multiplier": 1.5, "dry_sequence_breakers": ["none"]},
    {**OFF, "dry_multiplier": 0.8, "dry_allowed_length": 1, "dry_base": 1.3},
    {**OFF, "dry_multiplier": 2.0, "dry_sequence_breakers": [" the", "nd"], "dry_allowed_length": 1},
    {**OFF, "dynatemp_range": 0.6},
    {**OFF, "dynatemp_range": 0.6, "dynatemp_exponent": 2.5, "temperature": 0.9, "top_k": 50},
    {**OFF, "logit_bias": [[3, 4.0], [17, -5.0], [200, 2.5]]},
    {"mirostat": 1, "mirostat_tau": 3.0, "mirostat_eta": 0.3},
    {"mirostat": 1, "temperature": 1.3},
    {"mirostat": 2, "mirostat_tau": 2.0, "mirostat_eta": 0.2},
    {"mirostat": 2, "temperature": 1.2, "logit_bias": [[5, 3.0]]},
    {**OFF, "adaptive_target": 0.3},
    {"adaptive_target": 0.05, "adaptive_decay": 0.5, "temperature": 1.4, "top_k": 60},
]


def random_chain(rng: np.random.Generator) -> dict[str, Any]:
    """Options and an order as nobody would ask for them."""

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    order = rng.permutation(DEFAULTS["samplers"].split(";")).tolist()
    options = {
        "temperature": one(0.5, 0.8, 1.0, 1.6), "top_k": one(0, 5, 40, 200), "top_p": one(0.4, 0.9, 1.0),
        "min_p": one(0.0, 0.01, 0.1), "typical_p": one(1.0, 1.0, 0.5, 0.9),
        "top_n_sigma": one(-1.0, 1.0, 2.0), "xtc_probability": one(0.0, 1.0),
        "xtc_threshold": one(0.02, 0.1, 0.3), "repeat_penalty": one(1.0, 1.3),
        "frequency_penalty": one(0.0, 0.4), "dry_multiplier": one(0.0, 1.0), "dry_base": one(1.2, 1.75),
        "dynatemp_range": one(0.0, 0.3), "adaptive_target": one(-1.0, -1.0, 0.2),
        "logit_bias": one([], [[9, 3.0], [77, -2.0]]),
    }  # fmt: skip
    cut = order.index("top_n_sigma")
    behind = {"typ_p": options["typical_p"] < 1, "temperature": options["dynatemp_range"] > 0}
    if options["top_n_sigma"] > 0 and any(on and order.index(name) > cut for name, on in behind.items()):
        options["top_n_sigma"] = -1.0
    return {**options, "samplers": ";".join(order)}


class Vocabulary:
    """stories260K's, in llama.cpp."""

    def __init__(self) -> None:
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(MODEL).encode(), params)
        self.handle = llama_cpp.llama_model_get_vocab(self.model)


def sampler_of(name: str, o: dict[str, Any], vocabulary: Vocabulary) -> Any:
    """llama.cpp's sampler of that name."""
    if name == "dry":
        words = [word.encode() for word in o["dry_sequence_breakers"] if word != "none"]
        breakers = (ctypes.c_char_p * max(1, len(words)))(*words)
        return llama_cpp.llama_sampler_init_dry(
            vocabulary.handle, o["dry_multiplier"], o["dry_base"], o["dry_allowed_length"],
            o["dry_penalty_last_n"], breakers, len(words),
        )  # fmt: skip
    penalties = o["repeat_last_n"], o["repeat_penalty"], o["frequency_penalty"], o["presence_penalty"]
    return {
        "penalties": lambda: llama_cpp.llama_sampler_init_penalties(VOCAB, *penalties),
        "top_n_sigma": lambda: llama_cpp.llama_sampler_init_top_n_sigma(o["top_n_sigma"]),
        "top_k": lambda: llama_cpp.llama_sampler_init_top_k(o["top_k"]),
        "typ_p": lambda: llama_cpp.llama_sampler_init_typical(o["typical_p"], 0),
        "top_p": lambda: llama_cpp.llama_sampler_init_top_p(o["top_p"], 0),
        "min_p": lambda: llama_cpp.llama_sampler_init_min_p(o["min_p"], 0),
        "xtc": lambda: llama_cpp.llama_sampler_init_xtc(o["xtc_probability"], o["xtc_threshold"], 0, 1),
        "temperature": lambda: llama_cpp.llama_sampler_init_temp_ext(
            o["temperature"], o["dynatemp_range"], o["dynatemp_exponent"]
        ),
    }[name]()


def chain_of(o: dict[str, Any], vocabulary: Vocabulary) -> tuple[Any, bool]:
    """The samplers in their order, and whether the last of them draws."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    samplers = []
    if o["logit_bias"]:
        biases = [llama_cpp.llama_logit_bias(id, bias) for id, bias in o["logit_bias"]]
        pairs = (llama_cpp.llama_logit_bias * len(biases))(*biases)
        samplers.append(llama_cpp.llama_sampler_init_logit_bias(VOCAB, len(pairs), pairs))
    order = ["temperature"] if o["mirostat"] else o["samplers"].split(";")
    samplers += [sampler_of(name, o, vocabulary) for name in order]
    tau, eta = o["mirostat_tau"], o["mirostat_eta"]
    if o["mirostat"] == 1:
        samplers.append(llama_cpp.llama_sampler_init_mirostat(VOCAB, 1, tau, eta, 100))
    elif o["mirostat"] == 2:
        samplers.append(llama_cpp.llama_sampler_init_mirostat_v2(1, tau, eta))
    elif o["adaptive_target"] >= 0:
        target, decay = o["adaptive_target"], o["adaptive_decay"]
        samplers.append(llama_cpp.llama_sampler_init_adaptive_p(target, decay, 1))
    for sampler in samplers:
        llama_cpp.llama_sampler_chain_add(chain, sampler)
    return chain, bool(o["mirostat"]) or o["adaptive_target"] >= 0


def applied(chain: Any, logits: np.ndarray[Any, Any]) -> tuple[list[int], list[float], int]:
    """Ids that are left, their probabilities (a softmax of their logits in float64), and which was drawn."""
    entries = [llama_cpp.llama_token_data(id, float(x), 0.0) for id, x in enumerate(logits)]
    data = (llama_cpp.llama_token_data * VOCAB)(*entries)
    array = llama_cpp.llama_token_data_array(data=data, size=VOCAB, selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
    left = {int(array.data[n].id): float(array.data[n].logit) for n in range(array.size)}
    left = {id: logit for id, logit in left.items() if logit != -np.inf}
    values = np.array(list(left.values()), np.float64)
    weights = np.exp(values - values.max())
    drawn = int(array.data[array.selected].id) if array.selected >= 0 else -1
    return list(left), (weights / weights.sum()).tolist(), drawn


def rows(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """STEPS rows of logits without equals: peaked, flat, in between."""
    shapes = rng.normal(size=(STEPS, VOCAB)) * np.array([[3.0], [0.7], [1.6]])
    return shapes.astype(np.float32)


def text(rng: np.random.Generator) -> list[int]:
    """60 ids with repetitions; its end has been there before."""
    ids = rng.choice(rng.integers(260, VOCAB, 12), 60).tolist()
    return [int(id) for id in [*ids[:50], *ids[10:15], *ids[30:34], *ids[10:14]]]


def main() -> None:
    rng = np.random.default_rng(5)
    vocabulary = Vocabulary()
    cases = [*SINGLE, *(random_chain(rng) for _ in range(CHAINS))]
    logits, texts = rows(rng), text(rng)
    found: list[dict[str, Any]] = []
    ids_left: list[int] = []
    probabilities: list[float] = []
    for options in cases:
        chain, draws = chain_of({**DEFAULTS, **options}, vocabulary)
        for id in texts:
            llama_cpp.llama_sampler_accept(chain, id)
        counts, drawn = [], []
        for row in logits:
            ids, probability, token = applied(chain, row)
            counts.append(len(ids))
            drawn.append(token)
            ids_left += ids
            probabilities += probability
            if draws:
                llama_cpp.llama_sampler_accept(chain, token)
        found.append({"options": options, "left": counts, "drawn": drawn})
        llama_cpp.llama_sampler_free(chain)
    np.savez_compressed(
        HERE / "samplers.npz",
        cases=np.array(json.dumps(found)),
        logits=logits,
        text=np.array(texts, np.int32),
        ids=np.array(ids_left, np.int16),
        probabilities=np.array(probabilities, np.float32),
    )


if __name__ == "__main__":
    main()
