"""edgeq doctor: what edgeq finds on this machine, and whether it is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from edgeq.cli import EXIT_FAILED, terminal
from edgeq.cli.examine import OPTIONAL, PACKAGES, Facts, Problems, examine
from edgeq.cli.machine import INSTRUCTIONS
from edgeq.cli.options import json_option
from edgeq.errors import UsageError, size


@click.command("doctor")
@click.option("--tune", is_flag=True, help="Measure which tiles and threads are fastest here, and keep it.")
@click.option("--force", is_flag=True, help="With --tune: measure though other programs are busy.")
@click.option("--forget", is_flag=True, help="Undo --tune: take the defaults again.")
@json_option
@click.pass_context
def command(context: click.Context, tune: bool, force: bool, forget: bool, as_json: bool) -> None:
    """Show processor, instruction set and why it was chosen, memory, disk, cache and versions, and of each
    whether it is well. Exit code 1 if something is not.

    --tune measures for half a minute and wants an idle machine: it waits for other programs a little while,
    then it refuses."""
    from edgeq.cli import tuning

    if tune and forget:
        raise UsageError("--tune and --forget exclude each other: give one of them")
    if force and not tune:
        raise UsageError("--force goes with --tune: give both, or neither")
    changed: Facts = {}
    if forget:
        changed = {"forgotten": tuning.forget()}
    measured = tuning.measure(force) if tune else {}
    found, problems = examine()
    found["tuned"] = tuning.tuning()
    if as_json:
        terminal.say_json({**found, "problems": problems.all, **measured, **changed})
    else:
        for name, sentence in lines(found, problems):
            terminal.say(terminal.one_line_kept(f"{name:11} {sentence}"))
        if measured:
            terminal.say("\n".join(tuning.lines(measured["measured"])))
        if changed:
            terminal.say(
                f"forgotten   {'what --tune had found here' if changed['forgotten'] else 'nothing was kept'}"
            )
        count = len(problems.all)
        words = "1 thing is" if count == 1 else f"{count} things are"
        terminal.say(f"{words} not well" if count else "all is well")
    if problems.all:
        context.exit(EXIT_FAILED)


def lines(found: Facts, problems: Problems) -> Iterator[tuple[str, str]]:
    """(name, what is so and whether it is well), and below it what is not well there."""
    for name, words in LINES.items():
        wrong = problems.of.get(name, [])
        sentence = words(found)
        if sentence or wrong:
            yield name, f"{sentence or 'not known'}: {'not well' if wrong else 'well'}"
        for each in wrong:
            yield "", each


def installed(found: Facts) -> str:
    facts = found["edgeq"]
    libraries = ", ".join(f"{name} {facts[name]}" for name in PACKAGES if name not in OPTIONAL)
    beside = ", ".join(f"{name} {facts[name]}" for name in OPTIONAL)
    return f"{facts['version']} with Python {facts['python']}, {libraries}; {beside}"


def system(found: Facts) -> str:
    facts = found["machine"]
    page = f", pages of {facts['page_size']} bytes" if facts["page_size"] else ""
    return ", ".join(filter(None, (facts["board"], facts["system"]))) + page


def processor(found: Facts) -> str:
    """Its name, the cores that edgeq may use, and what was chosen for it and why."""
    facts, chosen = found["machine"], found["instructions"]
    cores = facts["cores_physical"]
    allowed = facts["cores_allowed"]
    count = terminal.counted(cores, "core") if cores else terminal.counted(allowed, "processor")
    if cores and allowed != cores:
        count += f", of which {terminal.counted(allowed, 'processor')} can be used"
    name = facts["processor"] or "a processor that the system does not name"
    if not chosen:
        return f"{name}, {count}"
    why = "as EDGEQ_ISA asks" if chosen["forced"] else "the best that it has"
    return f"{name}, {count}, {INSTRUCTIONS.get(chosen['chosen'], chosen['chosen'])} ({why})"


def memory(found: Facts) -> str:
    facts = found["machine"]
    return f"{size(facts['memory_bytes'])}, of which {size(facts['memory_free_bytes'])} are free"


def kernels(found: Facts) -> str:
    """Where they come from, and what the first run of a model still has to compile."""
    facts = found["kernels"]
    if not facts:
        return ""
    packs = ", ".join(f"{count} in {path}" for path, count in facts["packs"].items()) or "no packs"
    left = facts["to_compile"]
    rest = (
        f"{left} more are compiled when a model needs them, by {facts['compiler']}"
        if left
        else "nothing is left to compile"
    )
    return f"{packs} for {facts['tier']}; {rest}"


def cache(found: Facts) -> str:
    facts = found["cache"]
    models = terminal.counted(len(facts["converted_models"]), "converted model")
    files = terminal.counted(facts["files"], "file")
    return f"{facts['directory']}, {models}, {size(facts['bytes'])} in {files}"


def disk(found: Facts) -> str:
    facts = found["cache"]
    return f"{size(facts['disk_free_bytes'])} of {size(facts['disk_bytes'])} are free where the cache is"


def temporary(found: Facts) -> str:
    facts = found["temporary"]
    return f"{facts['directory']}, {size(facts['disk_free_bytes'])} free" if facts else ""


def tuned(found: Facts) -> str:
    """What `--tune` found, or that nobody asked."""
    facts = found["tuned"]
    if not facts:
        return ""
    tiles = facts["tiles"]
    if not isinstance(tiles, dict) and not isinstance(facts["threads"], int):
        return "the defaults; `edgeq doctor --tune` measures whether something else is faster here"
    what = (
        [f"{name} in tiles of {tokens}" for name, tokens in tiles.items()] if isinstance(tiles, dict) else []
    )
    what.append(f"threads {facts['threads']}")
    return f"{', '.join(what)}; kept in {facts['file']}"


# in the order in which they are told; problems belong to a line by its name
LINES: dict[str, Callable[[Facts], str]] = {
    "edgeq": installed,
    "system": system,
    "processor": processor,
    "memory": memory,
    "kernels": kernels,
    "cache": cache,
    "disk": disk,
    "temporary": temporary,
    "tuned": tuned,
}
