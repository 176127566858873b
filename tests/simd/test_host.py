"""What this CPU can, and which instruction set is chosen for it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator

import pytest

from edgeq.errors import EdgeqError, UsageError
from edgeq.simd import cpus, host, isa
from edgeq.simd.target import Target, host_machine

AVX2 = ("avx2", "fma", "f16c")
VNNI = ("avx512vnni", "avx512bw", "avx512vl", "avx512f", *AVX2)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """chosen(forced, *features) is the instruction set for a CPU with those features."""

    def name(forced: str, *features: str, machine: str = "x86_64") -> str:
        monkeypatch.setenv("EDGEQ_ISA", forced)
        monkeypatch.setattr(host, "host_features", lambda: frozenset(features))
        monkeypatch.setattr(platform, "machine", lambda: machine)
        host.host_isa.cache_clear()
        return host.host_isa().name

    yield name
    monkeypatch.undo()
    host.host_isa.cache_clear()


def test_the_best_instruction_set_is_chosen(chosen: Callable[..., str]) -> None:
    assert chosen("", *VNNI) == "avx512vnni"
    assert chosen("", *AVX2) == "avx2"
    assert chosen("", *AVX2, "avxvnni", machine="AMD64") == "avxvnni"  # Windows' word
    assert chosen("", "avx2", "fma") == "generic"  # without F16C
    assert chosen("") == "generic"
    assert chosen("", "neon", "dotprod", "i8mm", machine="aarch64") == "i8mm"
    assert chosen("", "neon", "dotprod", machine="arm64") == "dotprod"  # macOS' word
    assert chosen("", "neon", machine="aarch64") == "neon"


def test_an_instruction_set_can_be_forced(chosen: Callable[..., str]) -> None:
    assert chosen("avx2", *VNNI) == "avx2"
    assert chosen("GENERIC", *VNNI) == "generic"


@pytest.mark.parametrize(
    ("forced", "words"),
    [
        ("avx1024", ["avx1024", "avx2", "generic"]),
        (" ", ["EDGEQ_ISA"]),
        ("avx512vnni", ["avx512vnni", "lacks avx512bw", "there are avx2, generic"]),
        ("dotprod", ["for aarch64", "there are avx2, generic"]),
    ],
)
def test_what_cannot_run_is_one_sentence(chosen: Callable[..., str], forced: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(forced, *AVX2)
    sentence = str(caught.value)
    assert all(word in sentence for word in words)
    assert sentence.startswith("EDGEQ_ISA") and sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize("machine", ["riscv64", "armv7l", "ppc64le", ""])
def test_other_machines_are_refused_by_name(chosen: Callable[..., str], machine: str) -> None:
    with pytest.raises(EdgeqError, match=f"x86_64 and aarch64.*this is {machine} with"):
        chosen("", machine=machine)


def test_a_python_of_32_bits_is_refused(chosen: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the 32-bit Raspberry Pi OS on a 64-bit kernel, which says that the machine is aarch64."""
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    with pytest.raises(EdgeqError, match="this is aarch64 with a Python of 32 bits"):
        chosen("", "neon", machine="aarch64")


# ---- where features come from ----
def test_features_are_llvms() -> None:
    """The system's own words give what LLVM finds by asking the CPU."""
    import llvmlite.binding as llvm

    found = {name for name, has in llvm.get_host_cpu_features().items() if has}
    wanted = {name for row in isa.ISAS if row.machine == host_machine() for name in row.needs}
    assert host.host_features() == found & wanted


def test_other_systems_ask_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.host_features()
    host.host_features.cache_clear()
    monkeypatch.setattr(sys, "platform", "plan9")
    assert host.host_features() == before


def test_linux_can_be_asked_for_every_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = {name for row in isa.ISAS if row.machine == "aarch64" for name in row.needs}
    assert arm <= set(host.ARM_BITS)
    host.host_features.cache_clear()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    flags = "fpu avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni avx_vnni"
    monkeypatch.setattr(host, "cpuinfo_flags", lambda: frozenset(flags.split()))
    x86 = {name for row in isa.ISAS if row.machine == "x86_64" for name in row.needs}
    assert host.host_features() == x86
    host.host_features.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(host, "hwcap", lambda which, bit: (which, bit) in ((16, 1), (16, 20)))
    assert host.host_features() == {"neon", "dotprod"}
    host.host_features.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_linux_answers() -> None:
    assert not host.hwcap(16, 63) or host_machine() != "aarch64"
    assert host.cpuinfo_flags() or host_machine() != "x86_64"


# ---- targets and CPUs by name ----
def test_targets_have_names() -> None:
    assert Target.of("dotprod").name == "aarch64-dotprod"
    assert Target("avx2", "x86_64", "windows").name == "x86_64-avx2-windows"
    assert Target.of("generic").machine == host_machine()
    assert "+reserve-x18" in Target.of("neon").features and "+neon" in Target.of("neon").features


@pytest.mark.parametrize(
    ("cpu", "tier"),
    [
        ("cortex-a53", "aarch64-neon"),  # Raspberry Pi 3
        ("cortex-a72", "aarch64-neon"),  # 4
        ("cortex-a76", "aarch64-dotprod"),  # 5
        ("neoverse-v1", "aarch64-i8mm"),
        ("apple-m1", "aarch64-dotprod"),
        ("haswell", "x86_64-avx2"),
        ("alderlake", "x86_64-avxvnni"),
        ("cascadelake", "x86_64-avx512vnni"),
        ("znver4", "x86_64-avx512vnni"),
        ("x86-64", "x86_64-generic"),
        ("pentium4", "x86_64-generic"),
    ],
)
def test_the_tier_of_a_cpu(cpu: str, tier: str) -> None:
    assert cpus.tier_of(cpu).name == tier


@pytest.mark.parametrize("cpu", ["cortex-a77x", "", "help", "+sve", "cortex-a76 "])
def test_a_cpu_that_llvm_does_not_know(cpu: str) -> None:
    with pytest.raises(UsageError, match="no CPU is called"):
        cpus.tier_of(cpu)
