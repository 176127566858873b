"""What a model does to text and time: bench, eval, compare, quantize and what belongs to them."""

# ruff: noqa: E501  (a step stands on few lines)

from __future__ import annotations

from tests.stranger.pages import PAGES
from tests.stranger.script import COMPILED, NOTHING, Step

README, USAGE, PYTHON, OPTIONS, PI = PAGES
KLD = "edgeq eval kld model-q4.edgeq --reference model-f32.edgeq -f wiki.test.raw"
GATE = f"{KLD} --gate 'kld < 0.01 and same > 90%'"

STEPS = (
    Step("how fast it is", README, "edgeq bench qwen3.edgeq -p 256 -n 64 -t 1,2",
         (r"\Aqwen3\.edgeq, 186 kB, kv q8, act int8$", r"^ +1 +[\d.]+/s", r"^ +2 +[\d.]+/s"), (NOTHING,)),
    Step("how fast it is with two threads", PI, "edgeq bench smollm2.edgeq -p 64 -n 16 -t 1,2",
         (r"prompt 64 +generate 16",), (NOTHING,)),
    Step("vectors of texts", README, 'edgeq embed embedding.edgeq "A cat sleeps." "A dog barks."',
         (r"64 numbers$", r"^similarity +1 +2$"), (COMPILED,)),
    Step("which document answers", USAGE, 'edgeq rerank reranker.edgeq "Who sleeps?" "A cat sleeps." "A dog barks."',
         (r"\Ascore +document$", r"^0\.\d+ +1 +A cat sleeps\.$"), (COMPILED,)),
    Step("how well it predicts", README, "edgeq eval ppl qwen3.edgeq -f text.txt",
         (r"\Aperplexity \d\.\d{4} ± ", r"^tokens scored: \d+ in \d+ windows of 512$"), (r"\Amodel qwen3\.edgeq: weights q4",)),
    Step("how far it is from the original", README, "edgeq eval kld qwen3.edgeq --reference Qwen/Qwen3-0.6B -f text.txt",
         (r"^mean KLD \(nats\) +0\.\d+ ± ",), (r"reference Qwen/Qwen3-0\.6B: weights f32",)),
    Step("a file without rounding", USAGE, "edgeq convert model-dir -o model-f32.edgeq --scheme f32", (NOTHING,),
         (r"\Amodel-f32\.edgeq: 1\.07 MB, f32",)),
    Step("a file with", USAGE, "edgeq convert model-dir -o model-q4.edgeq --scheme q4", (NOTHING,),
         (r"\Amodel-q4\.edgeq: 186 kB, q4",)),
    Step("a gate that does not let it through", USAGE, GATE, (r"^mean KLD",),
         (r"^edgeq: error: the gate is not passed: kld is 0\.\d+, not < 0\.01; same is 0\.\d+, not > 0\.9$",), 1),
    Step("a gate that does", USAGE, GATE, (r"^same likeliest token +\d\d\.\d\d%",), but={"0.01": "1", "90%": "50%"}),
    Step("which of several endings is right", USAGE, "edgeq eval choice model-q4.edgeq -f hellaswag_val.jsonl --limit 400",
         (r"100",)),
    Step("what rounding did", USAGE, "edgeq compare model-q4.edgeq model-f32.edgeq --layers",
         (r"^blocks\.4 +f32, q4 +f32 +45440 +7\.\d+%", r"^all "), (NOTHING,)),
    Step("each tensor", USAGE, "edgeq show model-q4.edgeq --tensors", (r"^blocks\.4\.down +q4 +lines16 +64×172 ",)),
    Step("what quantizing would take", USAGE, "edgeq quantize model-dir -o small.edgeq --scheme e3 --dry-run",
         (r"^file +\d+ kB$", r"^memory +about ", r"^time +about "), (NOTHING,)),
    Step("a smaller file", USAGE, "edgeq quantize model-dir -o small.edgeq --scheme e3 --dry-run",
         (r"^file +small\.edgeq, 164 kB, 4\.43 bits a weight$", r"^schemes +e3, quality fast"),
         but={"--dry-run": "--quality fast"}),
    Step("what products are given", USAGE, "edgeq calibrate model-dir -o model.stats -f mine.txt", (NOTHING,),
         (r"^model\.stats: 891 kB, 2048 tokens",), also="--tokens 2048"),
    Step("a quantized file by that", USAGE, "edgeq quantize model-dir -o small.edgeq --stats model.stats",
         (r"^file +by-stats\.edgeq, 195 kB, 5\.34 bits a weight$", r"^helped .*search 36, .*matrices$"),
         but={"small": "by-stats"}),
    Step("what rounding each matrix costs", USAGE, "edgeq sensitivity model-dir",
         (r"^blocks\.4\.q +4,096 ", r"^sum of KLD: 0?\.?\d"), also="--tokens 1536"),
    Step("that it runs", USAGE, "edgeq run qwen3.edgeq -f story.txt --temp 0", (r"\A.{4,}",), (NOTHING,),
         but={"qwen3": "small"}, also="-n 4 -q"),
    Step("which schemes there are", README, "edgeq schemes", (r"^q4 +low 4 \+ scale 16/32 ",), (NOTHING,)),
    Step("which numbers", README, "edgeq dtypes", (r"^bf16 +2 ",), (NOTHING,)),
    Step("what edgeq's text covers", USAGE, "edgeq calibration show --tokenizer model-q4.edgeq",
         (r"^stories +\d+ ", r"^tokens: [\d,]+, .* of 512 ids occur$"), (NOTHING,)),
    Step("a text of one's own", USAGE,
         "edgeq calibration build manual.txt chats.jsonl --default -o text.jsonl --bytes 200000 --seed 1",
         (r"^manual +\d+ ", r"^chats +\d+ "), (r"^text\.jsonl: \d+ of \d+ documents",)),
    Step("what it covers", USAGE, "edgeq calibration show text.jsonl --json", (r'"domain": "manual", "documents": 1,',), (NOTHING,)),
)  # fmt: skip
