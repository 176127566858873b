"""The options of how a token is drawn, in llama.cpp's spellings.

Ranges are checked where the values are used (edgeq.sampling), so that the library and the command say the
same.
"""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli.options import combine, take


def number(*spellings: str, help: str, whole: bool = False) -> Any:
    """An option of a number; the last spelling is its name in edgeq.sampling."""
    metavar = "N" if whole else "X"
    return click.option(*spellings, type=int if whole else float, metavar=metavar, help=help)


sampling_options = combine(
    number(
        "--temp",
        "--temperature",
        "temperature",
        help="0 takes the likeliest token.  [default: the model's, else 0.8]",
    ),
    number(
        "--top-k",
        whole=True,
        help="Draw from the k likeliest; 0 from all.  [default: the model's, else 40]",
    ),
    number("--top-p", help="Draw from the likeliest that reach p.  [default: the model's, else 0.95]"),
    number(
        "--min-p",
        help="Draw from those at least p times as likely as the best.  [default: the model's, else 0.05]",
    ),
    number("--repeat-penalty", help="Divide tokens seen lately.  [default: the model's, else 1.0]"),
    number("--repeat-last-n", whole=True, help="How many tokens are lately; -1 all.  [default: 64]"),
    number("--presence-penalty", help="Subtract from tokens seen lately.  [default: 0.0]"),
    number("--frequency-penalty", help="Subtract for each time seen lately.  [default: 0.0]"),
    number(
        "--typical",
        "--typical-p",
        "typical_p",
        help="Draw from the most typical that are above p.  [default: 1.0]",
    ),
    number(
        "--top-n-sigma",
        "--top-nsigma",
        "top_n_sigma",
        help="Draw from logits n deviations below the best; -1 from all.  [default: -1.0]",
    ),
    number("--xtc-probability", help="How often the likeliest are left out.  [default: 0.0]"),
    number("--xtc-threshold", help="From which probability they are, but one.  [default: 0.1]"),
    number("--dynatemp-range", help="Let the entropy move the temperature so far.  [default: 0.0]"),
    number("--dynatemp-exp", "dynatemp_exponent", help="The power of the entropy that does.  [default: 1.0]"),
    number("--dry-multiplier", help="Subtract where a repetition would go on; 0 does not.  [default: 0.0]"),
    number("--dry-base", help="For each token of it times this.  [default: 1.75]"),
    number("--dry-allowed-length", whole=True, help="Beyond so many tokens.  [default: 2]"),
    number(
        "--dry-penalty-last-n",
        whole=True,
        help="In how many tokens it is looked for; -1 all.  [default: 64]",
    ),
    click.option(
        "--dry-sequence-breaker",
        "dry_sequence_breakers",
        multiple=True,
        metavar="TEXT",
        help="No repetition goes across it, instead of line ends, colons, quotes and stars; none for none "
        "(can be repeated).",
    ),
    number(
        "--mirostat",
        whole=True,
        help="Keep the surprise constant, by mirostat 1 or 2, instead of other samplers.  [default: 0]",
    ),
    number("--mirostat-ent", "mirostat_tau", help="The surprise in bits.  [default: 5.0]"),
    number("--mirostat-lr", "mirostat_eta", help="How fast mirostat learns.  [default: 0.1]"),
    number("--adaptive-target", help="Draw tokens near this probability; -1 does not.  [default: -1.0]"),
    number("--adaptive-decay", help="How long it remembers what it drew.  [default: 0.9]"),
    click.option(
        "-l",
        "--logit-bias",
        multiple=True,
        metavar="ID+X",
        help="Add to a token's logit, as in 15043+1, or 15043-inf (can be repeated).",
    ),
    click.option(
        "--samplers",
        metavar="NAMES",
        help="The samplers and their order, as in top_k;temperature, instead of llama.cpp's.",
    ),
    click.option(
        "--sampler-seq",
        "--sampling-seq",
        "sampler_seq",
        metavar="LETTERS",
        help="The same by letters, as in kt.",
    ),
    number("-s", "--seed", whole=True, help="Draw the same text again; -1 another each time.  [default: -1]"),
)

NUMBERS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
    "dynatemp_range",
    "dynatemp_exponent",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "adaptive_target",
    "adaptive_decay",
)


def sampling_values(options: dict[str, Any]) -> dict[str, Any]:
    """The sampling options out of a command's options, as keywords of edgeq.generate.options_for."""
    values = take(options, *NUMBERS, "seed", "samplers", "dry_sequence_breakers", "logit_bias")
    letters = options.pop("sampler_seq")
    if letters is not None and values["samplers"] is not None:
        raise click.UsageError("the order of samplers is given twice, by names and by letters")
    if letters is not None:
        from edgeq.sampling import order_of_letters

        values["samplers"] = order_of_letters(letters)
    values["logit_bias"] = ",".join(values["logit_bias"]) or None
    values["dry_sequence_breakers"] = values["dry_sequence_breakers"] or None
    if values["seed"] is not None and values["seed"] < 0:
        values["seed"] = None
    return values
