"""edgeq kernels: packs of compiled kernels, for this processor or another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import engine, terminal
from edgeq.cli.options import json_option, quiet_option
from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.packs.pack import Pack
    from edgeq.simd.target import Target


@click.group("kernels")
def command() -> None:
    """Packs of compiled kernels: build them for this processor or another, list them, remove them.

    A run takes its kernels from a pack and compiles what no pack has. A pack is for one tier, an instruction
    set with all processors that have it; `edgeq doctor` tells the tier of this one."""


@command.command("build")
@click.option("--tier", metavar="NAME", help="Build for this tier, on whatever machine it is found.")
@click.option(
    "--cpu", metavar="NAME", help="Build for the tier of a processor, named as LLVM does (cortex-a76)."
)
@click.option("--all", "every", is_flag=True, help="Build every tier of x86-64 and ARM.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to FILE, or into the directory FILE, instead of the folder of packs.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes that compile at a time.  [default: as cores and memory allow]",
)
@click.option("--update", is_flag=True, help="Leave packs alone that are of this edgeq's kernels.")
@quiet_option
def build(
    tier: str | None,
    cpu: str | None,
    every: bool,
    output: Path | None,
    jobs: int | None,
    update: bool,
    quiet: bool,
) -> None:
    """Compile all kernels of a tier into one pack, by default for this processor.

    It runs on every machine of the tier with the same version of edgeq: copied into the folder that `edgeq
    kernels list` names there, it is found."""
    from edgeq.packs import folder
    from edgeq.packs.build import affordable
    from edgeq.packs.pack import PackError
    from edgeq.packs.store import BUILT

    targets = chosen(tier, cpu, every)
    into = output
    if output is None:
        into = folder.packs_folder()
        try:
            folder.make(into)
        except PackError as error:
            raise PackError(f"{into}: {error}.") from None
    elif len(targets) > 1 and not output.is_dir():
        raise UsageError(f"{output} is no directory, but there are {len(targets)} packs to write into it.")
    elif not output.absolute().parent.is_dir():
        raise UsageError(
            f"there is no directory {output.absolute().parent} to write into: name one that is there."
        )
    assert into is not None
    for target in targets:
        path = into / (target.name + BUILT) if into.is_dir() else into
        if update and whole(path, target):
            if not quiet:
                terminal.note(f"{target}: {path} is of these kernels")
            continue
        clock = engine.Clock()
        pack = whole_tier(target, jobs or affordable(), quiet)
        blob = pack.encoded()
        folder.publish(path, blob)
        if not quiet:
            size = f"{len(pack.kernels)} kernels, {terminal.size(len(blob))}"
            terminal.note(f"{target}: {size}, compiled in {clock.seconds:.1f} s: {path}")


def chosen(tier: str | None, cpu: str | None, every: bool) -> list[Target]:
    """The targets that the options name."""
    from edgeq.simd.host import host_isa
    from edgeq.simd.isa import ISAS, by_name
    from edgeq.simd.target import Target

    if sum((tier is not None, cpu is not None, every)) > 1:
        raise UsageError("--tier, --cpu and --all exclude each other: give one of them.")
    if every:
        return [Target.of(row.name) for row in ISAS if row.machine]
    if cpu is not None:
        from edgeq.simd.cpus import tier_of

        return [tier_of(cpu)]
    if tier is None:
        return [Target.of(host_isa().name)]
    try:
        return [Target.of(by_name(tier.lower()).name)]
    except KeyError as error:
        raise UsageError(f"--tier: {error.args[0]}.") from None


def whole(path: Path, target: Target) -> bool:
    """Whether the file is a pack of all the tier's kernels as they are now."""
    from edgeq.packs import build, store
    from edgeq.packs.pack import PackError

    try:
        kernels = store.checked(path, target).pack.kernels
    except (PackError, OSError):
        return False
    return all(tag.named(name) in kernels for name, tag in build.all_kernels(target))


def whole_tier(target: Target, jobs: int, quiet: bool) -> Pack:
    """The pack of all kernels of a tier, with a line of progress on a terminal."""
    from edgeq.packs import build

    status = terminal.Status(quiet)
    if not quiet and not status.moves:
        terminal.note(f"compiling all kernels for {target}")

    def progress(done: int, total: int, kernel: str) -> None:
        status.show(f"compiling for {target}: {done + 1} of {total}, {kernel}")

    try:
        made = dict(build.objects(build.all_kernels(target), target, progress, jobs))
    finally:
        status.clear()
    return build.pack(made, target)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the packs that there are, and whether a run on this machine would use them."""
    from edgeq.packs import folder
    from edgeq.simd.host import host_isa
    from edgeq.simd.target import Target

    here = Target.of(host_isa().name)
    rows = [described(path, here) for path in pack_files()]
    if as_json:
        terminal.say_json({"folder": str(folder.packs_folder()), "tier": here.name, "packs": rows})
        return
    terminal.say(f"This machine's tier is {here}; packs in {folder.packs_folder()} are found.")
    if rows:
        cells = [
            [row["file"], row["tier"] or "", row["kernels"] or "", terminal.size(row["bytes"]), row["state"]]
            for row in rows
        ]
        terminal.say(terminal.table(["file", "tier", "kernels", "size", "state"], cells, left=2))


def pack_files() -> list[Path]:
    """Every file of packs, in the order in which a run looks at them."""
    from edgeq.packs import folder, store

    place = folder.packs_folder()
    return [
        *store.files(store.SHIPPED, store.BUILT),
        *store.files(place, store.BUILT),
        *store.files(place, store.COMPILED),
    ]


def described(path: Path, here: Target) -> dict[str, Any]:
    """A file of `list`: what it holds, and its state: used, for another tier, or why it is refused."""
    from edgeq.packs import build, folder, store
    from edgeq.packs.pack import PackError

    row: dict[str, Any] = {
        "file": str(path),
        "tier": None,
        "kernels": None,
        "bytes": path.stat().st_size,
        "compiler": None,
    }
    try:
        pack = store.opened(path).pack
        row.update(tier=pack.target.name, kernels=len(pack.kernels), compiler=pack.compiler)
        store.checked(path, pack.target)
        if path.parent != store.SHIPPED:
            folder.readable(path.parent)
        if pack.target != here:
            row["state"] = "for another tier"
        elif path.suffix == store.COMPILED and pack.compiler != build.compiler():
            row["state"] = "refused: another compiler made it"
        else:
            row["state"] = "used"
    except (PackError, OSError) as error:
        row["state"] = f"refused: {store.reason(error)}"
    return row


@command.command("clear")
@quiet_option
def clear(quiet: bool) -> None:
    """Remove all packs from the user's folder; those that were installed with edgeq stay."""
    from edgeq.packs import folder, store

    place = folder.packs_folder()
    gone = [*store.files(place, store.BUILT), *store.files(place, store.COMPILED)]
    for path in gone:
        path.unlink(missing_ok=True)
    if not quiet:
        terminal.note(f"packs removed from {place}: {len(gone)}")
