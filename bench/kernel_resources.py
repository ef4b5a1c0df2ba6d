#!/usr/bin/env python3
"""Registers, shared memory, spills and theoretical occupancy of every kernel, as nvcc compiles it.

    bench/kernel_resources.py                            all kernels of cuda/, for sm_80 and sm_90a
    bench/kernel_resources.py --match 'gemm|attention'   those whose name matches
    bench/kernel_resources.py --launches FILE            with blocks and dynamic shared memory, hence occupancy

Threads of a block and dynamic shared memory are chosen when a kernel is launched, so they come from launches: FILE is what
programs of this project leave with PTQ_SIMT_LAUNCHES=FILE while they run kernels on the SIMT executor (docs/simt.md), e.g.

    PTQ_SIMT_LAUNCHES=launches build/ptq --device simt bench --shrink 32 --tokens 24 --seconds 0

A kernel that was launched in several ways is shown with the one of the lowest occupancy; one that was not has no occupancy.
Exit 1 if a kernel outside of cuda/steps spills registers. Needs nvcc, nm and c++filt, and Python 3.9.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", "-DFMT_USE_CONSTEXPR=1"]  # of cuda/CMakeLists.txt


@dataclass(frozen=True)
class Multiprocessor:
    """What an SM has (CUDA Programming Guide, "Technical Specifications per Compute Capability")."""
    shared: int  # bytes
    warps: int
    blocks: int
    registers: int = 65536
    # Registers are given to warps in units of 256, by four schedulers with a quarter of them each; shared memory in
    # units of 128 bytes, and the system takes 1 KiB for each block.
    register_unit: int = 256
    schedulers: int = 4
    shared_unit: int = 128
    shared_of_system: int = 1024


SM = {
    "sm_80": Multiprocessor(164 * 1024, 64, 32),
    "sm_86": Multiprocessor(100 * 1024, 48, 16),
    "sm_89": Multiprocessor(100 * 1024, 48, 24),
    "sm_90": Multiprocessor(228 * 1024, 64, 32),
}


@dataclass
class Kernel:
    file: str
    arch: str
    symbol: str
    registers: int = 0
    stack: int = 0
    spilled: int = 0  # bytes stored and loaded
    static: int = 0   # bytes of shared memory
    name: str = ""
    launches: set = field(default_factory=set)  # (threads, bytes of dynamic shared memory)


def up(value, unit):
    return -(-value // unit) * unit


def occupancy(kernel, threads, dynamic):
    """(blocks of an SM, its warps that they fill, what there is no more of)"""
    sm = SM[kernel.arch.rstrip("af")]
    warps = up(threads, 32) // 32
    of_warp = up(kernel.registers * 32, sm.register_unit)
    limits = {
        "warps": sm.warps // warps,
        "blocks": sm.blocks,
        "registers": sm.registers // sm.schedulers // of_warp * sm.schedulers // warps,
        "shared memory": sm.shared // up(kernel.static + dynamic + sm.shared_of_system, sm.shared_unit),
    }
    limit = min(limits, key=limits.get)
    return limits[limit], limits[limit] * warps / sm.warps, limit


def parse(log, file):
    """The kernels of what `nvcc -Xptxas -v` prints."""
    kernels, kernel = [], None
    for line in log.splitlines():
        if entry := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
            kernel = Kernel(file, entry[2], entry[1])
            kernels.append(kernel)
        elif "Function properties for" in line and kernel and kernel.symbol not in line:
            kernel = None  # a device function that was not inlined
        elif kernel and (spill := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill", line)):
            kernel.stack, kernel.spilled = int(spill[1]), int(spill[2]) + int(spill[3])
        elif kernel and (used := re.search(r"Used (\d+) registers", line)):
            kernel.registers = int(used[1])
            shared = re.search(r"(\d+) bytes smem", line)
            kernel.static = int(shared[1]) if shared else 0
    return kernels


def compile_one(nvcc, source, arch):
    file = os.path.relpath(source, ROOT)
    command = [nvcc, *FLAGS, f"-I{ROOT}", f"-arch={arch}", "-cubin", "-Xptxas", "-v", str(source), "-o", os.devnull]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{file} for {arch}: {done.stdout[-2000:]}")
    return parse(done.stdout, file)


def demangled(symbols):
    """Readable names without return type, parameters and our namespaces, the same for both compilers."""
    done = subprocess.run(["c++filt"], input="\n".join(symbols), stdout=subprocess.PIPE, text=True, check=True)
    names = {}
    for symbol, name in zip(symbols, done.stdout.splitlines()):
        name = re.sub(r"\bptq::(simt|cuda)::|\(anonymous namespace\)::|\bptq::", "", name).removeprefix("void ")
        depth = 0  # the parameters begin with the first parenthesis outside of template arguments
        for at, c in enumerate(name):
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                name = name[:at]
                break
        names[symbol] = re.sub(r"\((?:int|long|bool|unsigned(?: int)?)\)", "", name)
    return names


def launches_of(files):
    """name -> {(threads, dynamic shared memory)}"""
    offsets = {}  # program -> offset -> launches
    for file in files:
        for line in Path(file).read_text().splitlines():
            program, offset, _, threads, shared = line.split("\t")
            offsets.setdefault(program, {}).setdefault(int(offset, 16), set()).add((int(threads), int(shared)))
    found = {}
    for program, wanted in offsets.items():
        listing = subprocess.run(["nm", program], stdout=subprocess.PIPE, text=True, check=True).stdout
        symbols = {}
        for line in listing.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1] in "tTwW" and int(parts[0], 16) in wanted:
                symbols[parts[2]] = int(parts[0], 16)
        for symbol, name in demangled(list(symbols)).items():
            found.setdefault(name, set()).update(wanted[symbols[symbol]])
    return found


def worst_launch(kernel):
    """(threads, dynamic shared memory) of the lowest occupancy, or None"""
    return min(kernel.launches, key=lambda launch: (occupancy(kernel, *launch)[1], -launch[1]), default=None)


def one_or_all(values):
    return str(values[0]) if len(set(values)) == 1 else " / ".join(map(str, values))


def table(kernels):
    """A row for each kernel; figures that differ between architectures as `first / second`."""
    rows = {}
    for k in sorted(kernels, key=lambda k: (k.file, k.name)):
        rows.setdefault((k.file, k.name), []).append(k)
    lines = ["| file | kernel | threads | shared memory | registers | spilled | blocks/SM | occupancy | limit |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for (file, name), instances in rows.items():
        cells = [[], [], [], [], []]  # threads, shared memory, blocks, occupancy, limit
        for k in instances:
            launch = worst_launch(k)
            blocks, share, limit = occupancy(k, *launch) if launch else ("?", 0, "?")
            dynamic = launch[1] if launch else "?"
            cells[0].append(launch[0] if launch else "?")
            cells[1].append(f"{k.static} + {dynamic}" if k.static else dynamic)
            cells[2].append(blocks)
            cells[3].append(f"{100 * share:.0f} %" if launch else "?")
            cells[4].append(limit)
        threads, shared, blocks, share, limit = map(one_or_all, cells)
        registers, spilled = one_or_all([k.registers for k in instances]), one_or_all([k.spilled for k in instances])
        lines.append(f"| {file.removeprefix('cuda/')} | `{name}` | {threads} | {shared} | {registers} | {spilled} | "
                     f"{blocks} | {share} | {limit} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="default: all of cuda/")
    parser.add_argument("--arch", default="sm_80,sm_90a")
    parser.add_argument("--launches", action="append", default=[], metavar="FILE")
    parser.add_argument("--match", default="", metavar="REGEX")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    for arch in args.arch.split(","):
        if arch.rstrip("af") not in SM:
            sys.exit(f"--arch {arch}: known are {', '.join(SM)}")
    sources = args.files or sorted((ROOT / "cuda").glob("*.cu")) + sorted((ROOT / "cuda").glob("*/*.cu"))
    launches = launches_of(args.launches)
    work = [(args.nvcc, source.resolve(), arch) for source in sources for arch in args.arch.split(",")]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        try:
            kernels = [kernel for found in pool.map(lambda w: compile_one(*w), work) for kernel in found]
        except (OSError, RuntimeError) as error:
            sys.exit(str(error))
    names = demangled(sorted({k.symbol for k in kernels}))
    for kernel in kernels:
        kernel.name = names[kernel.symbol]
        kernel.launches = launches.get(kernel.name, set())
    shown = [k for k in kernels if re.search(args.match, k.name)]
    if "," in args.arch:
        print(f"figures of {args.arch.replace(',', ' / ')} where they differ\n")
    print(table(shown))
    bad = [k for k in kernels if k.spilled and not k.file.startswith("cuda/steps/")]
    for k in bad:
        print(f"{k.file}: {k.name} spills {k.spilled} bytes for {k.arch}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
