#!/usr/bin/env python3
"""Do the tests notice a wrong kernel?  Plants one fault after the other and runs the tests of its file on the SIMT
executor, in both orders of threads.

    cmake --preset release && cmake --build --preset release
    tests/mutation/run.py                     all faults
    tests/mutation/run.py --list              what there is; fails if a text does not occur exactly once
    tests/mutation/run.py --only 3,17-20      these
    tests/mutation/run.py --jobs 4            so many at a time
    tests/mutation/run.py --build build/asan  with the sanitizers of another build

The source tree is not touched: a changed file lies in a folder that comes first in the include path. The .cu files that
include it are compiled as the build does it and linked before the unchanged library. Needs Ninja and Python 3.9. Exit 1
if fewer than 90 % are caught, or if a fault survives that faults.py does not explain.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import FAULTS, SOURCES, TESTS

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "cuda"
ORDERS = ["forward", "reverse"]
TIMEOUT = 900  # seconds of a test; a fault that makes a kernel run for ever is caught


def check(fault):
    """The fault's text must occur exactly once."""
    found = (CUDA / fault.file).read_text().count(fault.old)
    if found != 1:
        sys.exit(f"cuda/{fault.file}: the text of \"{fault.what}\" occurs {found} times, not once:\n{fault.old}")
    if fault.file not in TESTS:
        sys.exit(f"cuda/{fault.file}: faults.py names no test of it")


def includes(file, seen=None):
    """The files of cuda/ that a file includes, itself among them."""
    seen = set() if seen is None else seen
    if file not in seen and (CUDA / file).exists():
        seen.add(file)
        for other in re.findall(r'^#include "cuda/([^"]+)"', (CUDA / file).read_text(), re.MULTILINE):
            includes(other, seen)
    return seen


def sources_of(file):
    """The .cu files that have to be compiled again when `file` changes."""
    if file in SOURCES:
        return SOURCES[file]
    return sorted(s.name for s in CUDA.glob("*.cu") if file in includes(s.name))


def run(command, timeout=None, folder=None, **environment):
    """(exit status, or None after the time limit; output)"""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=timeout, cwd=folder,
                              env={**os.environ, "OMP_WAIT_POLICY": "passive", **environment})
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        return None, ""


def first_failure(output):
    """What failed, in the words of the test program."""
    lines = output.splitlines()
    for sign in ("simt:", "ERROR: AddressSanitizer", "runtime error:"):
        for line in lines:
            if sign in line:
                return line.strip()[:160]
    for line in lines:
        if line.startswith("[  FAILED  ]"):
            return re.sub(r" \(\d+ ms\)$", "", line[12:].split(", where")[0].strip())
    return lines[-1][:160] if lines else "no output"


class Build:
    """A finished build: how it compiles a file and links a test."""

    def __init__(self, path):
        self.path = path
        commands = path / "compile_commands.json"
        if not commands.exists():
            sys.exit(f"{path}: no build; see --help")
        self.compile = {}
        for entry in json.loads(commands.read_text()):
            if Path(entry["file"]).parent == CUDA and "cuda=simt" in entry["command"]:
                self.compile[Path(entry["file"]).name] = shlex.split(entry["command"])
        self.link = {}
        for test in sorted({t for tests in TESTS.values() for t in tests}):
            status, output = run(["ninja", "-C", str(path), "-t", "commands", f"tests/{test}"])
            if status != 0:
                sys.exit(output)
            self.link[test] = shlex.split(output.splitlines()[-1].removeprefix(": && ").removesuffix(" && :"))

    def up_to_date(self, tests):
        status, output = run(["cmake", "--build", str(self.path), "--target", *tests])
        if status != 0:
            sys.exit(output)

    def compile_into(self, work, source):
        """Compiles a source, or its changed copy, in front of the tree's headers; returns the object."""
        changed = work / "cuda" / source
        command = [word for word in self.compile[source] if word != "-Werror"]  # a fault may leave something unused
        command[command.index(str(CUDA / source))] = str(changed if changed.exists() else CUDA / source)
        out = work / (source + ".o")
        command[command.index("-o") + 1] = str(out)
        compiler = next(i for i, word in enumerate(command) if word.startswith("-"))
        status, output = run(command[:compiler] + [f"-I{work}"] + command[compiler:], folder=self.path)
        if status != 0:
            raise RuntimeError(next((line for line in output.splitlines() if "error" in line), output)[:300])
        return str(out)

    def link_into(self, work, test, objects):
        command = list(self.link[test])
        at = command.index("-o") + 1
        command[at] = str(work / test)
        status, output = run(command[:at + 1] + objects + command[at + 1:], folder=self.path)
        if status != 0:
            raise RuntimeError(output[-300:])
        return str(work / test)

    def failure(self, program):
        """How a test fails, or None."""
        only = "*" if Path(program).name == "test_ptx" else "*/simt"
        for order in ORDERS:
            status, output = run([program, f"--gtest_filter={only}", "--gtest_color=no", "--gtest_fail_fast"], TIMEOUT,
                                 PTQ_SIMT_ORDER=order)
            if status is None:
                return f"{order}: ran longer than {TIMEOUT} s"
            if status != 0:
                return f"{order}: {first_failure(output)}"
        return None

    def outcome(self, fault):
        """How the fault is noticed, or None."""
        with tempfile.TemporaryDirectory(prefix="ptq-mutation-") as folder:
            work = Path(folder)
            changed = work / "cuda" / fault.file
            changed.parent.mkdir()
            changed.write_text((CUDA / fault.file).read_text().replace(fault.old, fault.new))
            objects = [self.compile_into(work, source) for source in sources_of(fault.file)]
            for test in TESTS[fault.file]:
                how = self.failure(self.link_into(work, test, objects))
                if how:
                    return f"{test} {how}"
        return None


def chosen(only):
    if only is None:
        return list(range(len(FAULTS)))
    numbers = []
    for part in only.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    if any(not 0 <= n < len(FAULTS) for n in numbers):
        sys.exit(f"--only: faults are numbered 0 to {len(FAULTS) - 1}")
    return numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="N,N-N")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--build", type=Path, default=ROOT / "build", metavar="FOLDER")
    args = parser.parse_args()
    numbers = chosen(args.only)
    for fault in FAULTS:
        check(fault)
    if args.list:
        for n in numbers:
            print(f"{n:3}  {FAULTS[n].file:18} {FAULTS[n].what}")
        return 0

    build = Build(args.build.resolve())
    tests = sorted({test for n in numbers for test in TESTS[FAULTS[n].file]})
    build.up_to_date(tests)
    for test in tests:
        failure = build.failure(str(build.path / "tests" / test))
        if failure:
            sys.exit(f"{test} fails without a fault, {failure}")

    def judge(n):
        fault, start = FAULTS[n], time.time()
        try:
            how = build.outcome(fault)
        except RuntimeError as error:
            how = f"INVALID: {error}"
        verdict = how if (how or "").startswith("INVALID") else f"caught by {how}" if how else "SURVIVED"
        print(f"{n:3}  {fault.file:18} {fault.what}\n     {verdict} ({time.time() - start:.0f} s)", flush=True)
        return how

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        outcomes = dict(zip(numbers, pool.map(judge, numbers)))
    invalid = [n for n in numbers if (outcomes[n] or "").startswith("INVALID")]
    survivors = [n for n in numbers if outcomes[n] is None]
    caught = len(numbers) - len(survivors) - len(invalid)
    print(f"{caught} of {len(numbers)} faults caught ({100 * caught / len(numbers):.0f} %)")
    for n in survivors:
        print(f"  survived: {n} {FAULTS[n].file}: {FAULTS[n].what}: {FAULTS[n].why or 'not explained'}")
    for n in invalid:
        print(f"  {n} {FAULTS[n].file}: {FAULTS[n].what}: {outcomes[n]}")
    explained = all(FAULTS[n].why for n in survivors)
    return 0 if explained and not invalid and caught >= 0.9 * len(numbers) else 1


if __name__ == "__main__":
    sys.exit(main())
