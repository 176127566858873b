"""llama.cpp's options for speculative decoding, where edgeq guesses too."""

from __future__ import annotations

from edgeq.cli.foreign.rows import Table, ignored, other, same

ALIKE = "the draft model is computed as the model is"
KINDS = ("ngram-simple", "ngram-cache", "ngram-mod", "ngram-map-k", "ngram-map-k4v")

DRAFTS = (
    same("--draft", "16", "a number is --draft-max; edgeq's own values are `prompt` and a model"),
    other("-md --model-draft --spec-draft-model", "DRAFT", "--draft {}"),
    other("-hfd -hfrd --hf-repo-draft --spec-draft-hf", "DRAFT", "--draft {}"),
    same("--draft-max", "12"),
    other("--draft-n --spec-draft-n-max", "12", "--draft-max {}"),
    same("--draft-min", "1"),
    other("--draft-n-min --spec-draft-n-min", "1", "--draft-min {}"),
    same("--draft-p-min", "0.8"),
    other("--spec-draft-p-min", "0.8", "--draft-p-min {}"),
    other(
        "--spec-type",
        "ngram-simple",
        None,
        "edgeq's one way to guess from the text",
        values={"none": "", **dict.fromkeys(KINDS, "--draft prompt")},
    ),
    ignored("--draft-p-split --spec-draft-p-split", "0.1", "a draft has no branches"),
    ignored("-ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl", "99", ALIKE),
    ignored("-devd --device-draft --spec-draft-device", "none", ALIKE),
    ignored("-td --threads-draft --spec-draft-threads", "2", ALIKE),
    ignored("-tbd --threads-batch-draft --spec-draft-threads-batch", "2", ALIKE),
    ignored("-ctkd --cache-type-k-draft --spec-draft-type-k", "f16", ALIKE),
    ignored("-ctvd --cache-type-v-draft --spec-draft-type-v", "f16", ALIKE),
)

TABLE = Table("llama.cpp, speculative decoding", ("run", "chat", "serve"), DRAFTS)
