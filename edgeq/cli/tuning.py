"""edgeq doctor --tune and --forget: measure on an idle machine what is fastest here, keep it, undo that."""

from __future__ import annotations

from typing import Any

from edgeq import idle
from edgeq.cli import terminal
from edgeq.errors import EdgeqError


def tuning() -> dict[str, Any]:
    """What `--tune` found to be better than the defaults, where the engine looks for it."""
    from edgeq import tuned
    from edgeq.cores import default_threads
    from edgeq.kernels import sources
    from edgeq.simd.host import host_isa

    cores = default_threads()
    try:
        found = tuned.read(host_isa().name, cores, sources.digest())
    except EdgeqError:  # told with the instructions
        return {}
    return {
        "threads": found.threads or f"{cores}, the default",
        "tiles": dict(found.tiles) or "the instruction set's own",
        "file": str(tuned.file()),
    }


def measure(force: bool) -> dict[str, Any]:
    """Find what is fastest here and keep it; the figures. EdgeqError where others were busy meanwhile."""
    from edgeq import tune, tuned
    from edgeq.cores import allowed_cpus, default_threads
    from edgeq.kernels import sources
    from edgeq.simd.host import host_isa

    status = terminal.Status()
    if not force:
        taken = idle.wait(lambda taken: status.show(f"waiting for other programs, which {busy(taken)}"))
        status.clear()
        refuse(taken)
    before = idle.times()
    found, choices = tune.tune(lambda subject: status.show(f"measuring {subject}"))
    status.clear()
    if not force:
        refuse(idle.others(before, idle.times()))
    try:
        tuned.write(found, host_isa().name, default_threads(), sources.digest())
    except OSError as error:
        raise EdgeqError(
            f"{tuned.file()}, which keeps what was found, cannot be written ({error.strerror or error}): set "
            "XDG_CACHE_HOME to a directory that can be"
        ) from None
    rest = {"others": round(idle.others(before, idle.times()), 2), "processors": allowed_cpus()}
    return {"measured": {choice.subject: choice.to_json() for choice in choices}, "while": rest}


def refuse(taken: float) -> None:
    """EdgeqError where others took too many processors for what is measured to be this machine's."""
    if taken >= idle.BUSY:
        raise EdgeqError(
            f"other programs {busy(taken)}, which would be in what is measured, so nothing is kept: try "
            "again when the machine is idle, or measure all the same with --force"
        )


def busy(taken: float) -> str:
    """What others do, for a person."""
    from edgeq.cores import allowed_cpus

    count = allowed_cpus()
    return f"take {taken:.1f} of {count} processors" if count > 1 else f"take {taken:.0%} of the processor"


def lines(measured: dict[str, Any]) -> list[str]:
    """What was found, a line for each question, and where it is kept."""
    from edgeq import tuned

    told = []
    for subject, choice in measured.items():
        rates = next(value for value in choice.values() if isinstance(value, dict))
        chosen, default = choice["chosen"], choice["default"]
        gain = rates[str(chosen)] / rates[str(default)] - 1
        what = f"{chosen} threads" if subject == "threads" else f"{subject}: {chosen} tokens to a tile"
        kept = f"{gain:.0%} faster than {default}" if chosen != default else "the default, nothing is faster"
        told.append(f"measured    {what}, {kept}")
    return [*told, f"kept        in {tuned.file()}; `edgeq doctor --forget` undoes it"]


def forget() -> bool:
    """Undo `--tune` on this machine; whether there was anything."""
    from edgeq import tuned

    try:
        return tuned.forget()
    except OSError as error:
        raise EdgeqError(
            f"{tuned.file()} cannot be changed ({error.strerror or error}): remove it by hand"
        ) from None
