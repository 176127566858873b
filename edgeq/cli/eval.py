"""edgeq eval: how well a model predicts a text, and how far it is from a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.files import read_bytes, utf8
from edgeq.cli.options import (
    combine,
    context_option,
    engine_options,
    force_option,
    json_option,
    model_argument,
    quiet_option,
)
from edgeq.errors import EdgeqError, UsageError

if TYPE_CHECKING:
    from edgeq.engine import Model
    from edgeq.evaluate import Divergence, Perplexity, Term

gate_option = click.option(
    "--gate",
    "wanted",
    metavar="TERMS",
    help="What figures must be, as in 'ppl < 12.5 and …'. The exit code is 1 where one is not.",
)
text_options = combine(
    click.option(
        "-f", "--file", type=click.Path(), metavar="TEXT", required=True, help="The text, a UTF-8 file."
    ),
    click.option(
        "--chars",
        type=click.IntRange(1),
        metavar="N",
        help="Take only so many characters of the text.  [default: all]",
    ),
    click.option(
        "--protocol",
        type=click.Choice(["llama.cpp", "gptq"]),
        default="llama.cpp",
        show_default=True,
        help="Which tokens are scored: the second half of windows of 512, or all of windows of 2048.",
    ),
    engine_options(
        context=context_option("Tokens of a window.  [default: 512, or 2048 for gptq]"),
    ),
    gate_option,
    json_option,
    quiet_option,
)


@click.group("eval")
def command() -> None:
    """Measure quality: perplexity of a text, divergence from a reference model, multiple choice.

    A text is cut into windows of -c tokens (default 512, or the model's context when that is less), and the
    second half of each is scored, as llama.cpp does; --protocol gptq cuts windows of 2048 and scores all of
    them, as most papers do. A model that is no .edgeq file is converted without rounding any number: what is
    measured is the model that was named.
    """


@command.command("ppl")
@model_argument
@text_options
def ppl(
    model: str,
    file: str,
    chars: int | None,
    protocol: str,
    wanted: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Perplexity of MODEL on a text: e to the mean surprise of a token, the lower the better.

    A gate knows ppl.
    """
    terms = terms_of(wanted, ("ppl",))
    text = read_text(file, chars)
    window, status = options["context"] or None, terminal.Status(quiet)
    with load(model, options, quiet, "model") as loaded:
        from edgeq.evaluate import perplexity

        result = perplexity(
            loaded, text, context=window, protocol=protocol, progress=progress(status, "perplexity")
        )
    status.clear()
    if as_json:
        terminal.say_json(result.to_json())
    else:
        terminal.say(f"perplexity {result.perplexity:.4f} ± {result.standard_error:.4f}")
        terminal.say("\n".join(f"{name}: {value}" for name, value in measured_on(result)))
    hold(terms, {"ppl": result.perplexity})


@command.command("kld")
@model_argument
@click.option(
    "--reference",
    required=True,
    type=click.Path(),
    metavar="MODEL",
    help="The model to compare with, or a file of --save-reference.",
)
@click.option(
    "--against",
    type=click.Path(),
    metavar="MODEL2",
    help="Another model, on the same tokens: how much more or less MODEL diverges, with an interval.",
)
@click.option(
    "--save-reference",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep what the reference says, 2 bytes for each token of the vocabulary and place: it need not be "
    "computed again for other models on this text.",
)
@force_option
@text_options
def kld(
    model: str,
    reference: str,
    against: str | None,
    save_reference: Path | None,
    force: bool,
    file: str,
    chars: int | None,
    protocol: str,
    wanted: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Kullback-Leibler divergence of MODEL from a reference, token by token on a text: 0 is the same model.

    The reference is computed with float32 activations and a float32 cache, whatever MODEL is computed with. A
    gate knows kld (the mean), median, p99, p99.9, max, same (likeliest token, as in 'same > 98.5%') and ppl
    (over the reference's).
    """
    from edgeq.evaluate import Saved, divergences, paired
    from edgeq.evaluate.divergence import GATED

    terms = terms_of(wanted, tuple(GATED))
    if save_reference is not None and save_reference.exists() and not force:
        raise UsageError(f"{save_reference} exists: name another file, or replace it with --force")
    text = read_text(file, chars)
    window, status = options["context"] or None, terminal.Status(quiet)
    exact = {**options, "kv": "f32", "act": "f32"}
    with ExitStack() as stack:
        other: Model | Saved
        if Saved.is_one(Path(reference)):
            other = Saved(Path(reference))
            if not quiet:
                terminal.note(f"reference {reference}: what {other.about['model']} said")
        else:
            other = stack.enter_context(load(reference, exact, quiet, "reference"))
        names = [model] if against is None else [model, against]
        found = divergences(
            [stack.enter_context(load(name, dict(options), quiet, "model")) for name in names],
            other,
            text,
            context=window,
            protocol=protocol,
            save=save_reference,
            progress=progress(status, "mean KLD"),
        )
    status.clear()
    result = found[0].figures
    more = None if against is None else paired(*found)
    if as_json:
        beside = {} if more is None else {"against": found[1].figures.to_json(), "paired": more.to_json()}
        terminal.say_json(result.to_json() | beside)
        hold(terms, result.gated())
        return
    rows = [  # name, figure
        ("mean KLD (nats)", f"{result.kld_mean:.6f} ± {result.kld_standard_error:.6f}"),
        ("median, 99 %, 99.9 %, largest", f"{result.kld_median:.6f}, {result.kld_p99:.6f}, "
                                          f"{result.kld_p999:.6f}, {result.kld_max:.6f}"),
        ("same likeliest token", f"{result.agreement:.2%} ± {result.agreement_standard_error:.2%}"),
        ("perplexity", f"{result.perplexity:.4f}"),
        ("perplexity of the reference", f"{result.reference_perplexity:.4f}"),
        ("ratio", f"{result.perplexity_ratio:.5f} ± {result.perplexity_ratio_standard_error:.5f}"),
        ("probability of the next token", f"{result.difference_rms:.3%} off (root mean square)"),
    ]  # fmt: skip
    if more is not None and more.equal:
        rows.append((f"than {against}", "the same at every token: one result, not two"))
    elif more is not None:
        rows += [
            (
                f"mean KLD, less {against}'s",
                f"{more.kld:+.6f} (95 %: {more.kld_low:+.6f} to {more.kld_high:+.6f})",
            ),
            (
                f"same likeliest token, less {against}'s",
                f"{more.agreement:+.2%} ± {more.agreement_standard_error:.2%}",
            ),
            (
                f"perplexity over {against}'s",
                f"{more.perplexity_ratio:.5f} ± {more.perplexity_ratio_standard_error:.5f}",
            ),
        ]
    if result.reference_floor is not None:
        rows.append(("rounding of the kept reference", f"{result.reference_floor:.1e} nats of the mean KLD"))
    rows += measured_on(result)
    width = max(len(name) for name, _ in rows)
    terminal.say("\n".join(f"{name.ljust(width)}  {value}" for name, value in rows))
    hold(terms, result.gated())


@command.command("choice")
@model_argument
@click.option(
    "-f",
    "--file",
    type=click.Path(),
    metavar="ITEMS",
    required=True,
    help="Items, a JSON object a line: those of HellaSwag, ARC, PIQA, BLiMP or LAMBADA, or context, choices "
    "and answer.",
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Take only the first N items.  [default: all]"
)
@engine_options()
@gate_option
@json_option
@quiet_option
def choice(
    model: str, file: str, limit: int | None, wanted: str | None, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Multiple choice: how often MODEL finds the right one of some continuations likeliest.

    acc adds up the log-probabilities of a choice's tokens after the context, acc_norm divides the sum by the
    bytes of the choice. A gate knows both.
    """
    from edgeq.evaluate.choices import choices, items_of

    terms = terms_of(wanted, ("acc", "acc_norm"))
    data, status = read_bytes(file), terminal.Status(quiet)
    items = items_of(data, file, limit)
    with load(model, options, quiet, "model") as loaded:
        result = choices(loaded, items, data, progress=progress(status, "acc", "item"))
    status.clear()
    if as_json:
        terminal.say_json(result.to_json())
    else:
        terminal.say(f"acc {result.acc:.2%} ± {result.acc_standard_error:.2%}")
        terminal.say(f"acc_norm {result.acc_norm:.2%} ± {result.acc_norm_standard_error:.2%}")
        terminal.say(f"items: {result.items}, {result.tokens} tokens scored")
        terminal.say(f"protocol: {result.protocol}")
        terminal.say(f"file: SHA-256 {result.file_sha256[:16]}")
    hold(terms, {"acc": result.acc, "acc_norm": result.acc_norm})


def measured_on(result: Perplexity | Divergence) -> list[tuple[str, str]]:
    """What a figure means nothing without."""
    return [
        ("tokens scored", f"{result.tokens} in {result.windows} windows of {result.context}"),
        ("protocol", result.protocol),
        ("text", f"{result.text_tokens} tokens, SHA-256 {result.text_sha256[:16]}"),
        ("took", took(result)),
    ]


def took(result: Perplexity | Divergence) -> str:
    """Time, with that of the reference where it was computed, and memory."""
    from edgeq.evaluate.throughput import peak_rss_bytes

    rate, peak = result.windows * result.context / max(result.seconds, 1e-9), peak_rss_bytes()
    memory = f", {terminal.size(peak)} of memory at the most" if peak else ""
    return f"{result.seconds:.1f} s, {rate:.0f} tokens a second{memory}"


def terms_of(wanted: str | None, names: Sequence[str]) -> list[Term]:
    """The gate's terms, read before anything takes long."""
    from edgeq.evaluate import gate

    return [] if wanted is None else gate(wanted, names)


def hold(terms: list[Term], figures: Mapping[str, float]) -> None:
    """Raise EdgeqError that names each figure which is not what the gate wants."""
    from edgeq.evaluate import missed

    if wrong := missed(terms, figures):
        raise EdgeqError(f"the gate is not passed: {'; '.join(wrong)}")


def load(name: str, options: dict[str, Any], quiet: bool, role: str) -> Model:
    """The named model with its own numbers; says on stderr what is evaluated, and how."""
    model = engine.load(name, options, quiet=quiet, keep=True)
    how = f"activations {model.act}, cache {model.kv}"
    if not quiet:
        bytes_of: dict[str, int] = {}
        for tensor in model.file.tensors.values():
            if tensor.layout != "plain":  # a matrix
                bytes_of[tensor.scheme.name] = bytes_of.get(tensor.scheme.name, 0) + tensor.nbytes
        weights = ", ".join(sorted(bytes_of, key=lambda scheme: -bytes_of[scheme]))
        terminal.note(f"{role} {name}: weights {weights}, {how}")
    return model


def read_text(file: str, chars: int | None) -> str:
    return utf8(read_bytes(file), file)[:chars]


def progress(status: terminal.Status, what: str, part: str = "window") -> Callable[[int, int, float], None]:
    def tell(done: int, total: int, value: float) -> None:
        status.show(f"{part} {done} of {total}: {what} {value:.5g}")

    return tell
