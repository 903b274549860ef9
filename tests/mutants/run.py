#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants small faults in Tenon one at a time and tells which of them the tests catch.

    tests/mutants/run.py [--only PATTERN] [--jobs N] [--trust] [FILE...]     # FILE: faults/*.txt where none is given

Works in a copy of the last commit in build/mutants, never in the tree itself. A fault is written as

    NAME: PATH: PROGRAM [ARGUMENTS]; PROGRAM [ARGUMENTS]...
    -a line, or several, that PATH has exactly once
    +what they become (none: they are left out)

where the programs are tests, or tenon itself, that are built and run in build/mutants/build until one fails: the fault is
caught. All programs must pass without it. Prints a line for each fault and the share that was caught; exits with 1
where one survived, 2 where a fault could not be planted or built.
"""
import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
BUILD = WORK / "build"
LONGEST = 300  # seconds that a program may run: a fault may hang it


def shell(*command, **options):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", **options)


def must(*command):
    done = shell(*command)
    if done.returncode != 0:
        sys.exit(f"mutants: {shlex.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


class Fault:
    def __init__(self, name, path, programs, place):
        self.name, self.path, self.programs, self.place = name, path, programs, place
        self.old, self.new = [], []


def read_faults(file):
    faults = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        place = f"{file.relative_to(ROOT)}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(("-", "+")):
            if not faults:
                sys.exit(f"mutants: {place}: expected NAME: PATH: PROGRAMS first")
            (faults[-1].old if line[0] == "-" else faults[-1].new).append(line[1:])
            continue
        head = re.fullmatch(r"([\w.-]+): ([\w./-]+): (.+)", line)
        if not head:
            sys.exit(f"mutants: {place}: expected NAME: PATH: PROGRAMS, or a line that begins with - or +")
        programs = [shlex.split(program) for program in head[3].split(";")]
        faults.append(Fault(head[1], head[2], programs, place))
    return faults


def set_up():
    if not (TREE / ".git").exists():
        WORK.mkdir(parents=True, exist_ok=True)
        must("git", "-C", ROOT, "worktree", "prune")
        must("git", "-C", ROOT, "worktree", "add", "--force", "--detach", TREE, "HEAD")
    must("git", "-C", TREE, "checkout", "--quiet", "--force", "--detach",
         must("git", "-C", ROOT, "rev-parse", "HEAD").strip())
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shell("which", "ccache").returncode == 0 else []
    # Quick to compile, for it is compiled once a fault: the kernels without instruction sets, which share their sources.
    must("cmake", "-S", TREE, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
         "-DTENON_CPU_TABLES=scalar", "-DTENON_WERROR=OFF", "-DTENON_QUICK_BUILD=ON", "-DTENON_ONEDNN=OFF", "-DTENON_EIGEN=OFF", *launcher)


def build(programs, jobs):
    return shell("cmake", "--build", BUILD, "--parallel", jobs, "--target", *sorted({p[0] for p in programs}))


def find_program(name):
    found = [path for path in BUILD.glob(f"**/{name}") if path.is_file()]
    if len(found) != 1:
        sys.exit(f"mutants: {name}: expected one such program below {BUILD}, found {len(found)}")
    return found[0]


def fails(program):
    """Whether the program fails, and how."""
    command = [str(find_program(program[0])), *program[1:]]
    try:
        done = shell(*command, timeout=LONGEST, cwd=BUILD)
    except subprocess.TimeoutExpired:
        return f"no end within {LONGEST} s"
    if "No tests ran" in done.stdout:
        sys.exit(f"mutants: {shlex.join(program)}: no such test")
    return f"exit {done.returncode}" if done.returncode else ""


def try_fault(fault, jobs):
    """("caught" | "survived" | "not planted", what happened)."""
    file = TREE / fault.path
    text = file.read_text()
    old, new = ("".join(line + "\n" for line in lines) for lines in (fault.old, fault.new))
    if not old or text.count(old) != 1:
        return "not planted", f"{fault.place}: {fault.path} has these lines {text.count(old) if old else 0} times"
    file.write_text(text.replace(old, new))
    try:
        built = build(fault.programs, jobs)
        if built.returncode != 0:
            error = next((line for line in built.stdout.splitlines() if "error" in line), "no build")
            return "not planted", f"{fault.place}: {error}"
        for program in fault.programs:
            if how := fails(program):
                return "caught", f"{program[0]}: {how}"
        return "survived", ", ".join(program[0] for program in fault.programs)
    finally:
        file.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="faults whose name matches this regular expression")
    parser.add_argument("--jobs", default="2", help="compilers at a time")
    parser.add_argument("--trust", action="store_true", help="do not run the programs without a fault first")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    files = [file.resolve() for file in options.files] or sorted((ROOT / "tests/mutants/faults").glob("*.txt"))
    faults = [f for file in files for f in read_faults(file) if re.search(options.only, f.name)]
    if len({fault.name for fault in faults}) != len(faults):
        sys.exit("mutants: two faults have the same name")
    set_up()
    sound = [list(program) for program in sorted({tuple(p) for f in faults for p in f.programs})]
    built = build(sound, options.jobs)
    if built.returncode != 0:
        sys.exit(f"mutants: the tree itself does not build:\n{built.stdout[-2000:]}")
    for program in [] if options.trust else sound:
        if how := fails(program):
            sys.exit(f"mutants: {shlex.join(program)} fails without a fault: {how}")
    count = {"caught": 0, "survived": 0, "not planted": 0}
    for fault in faults:
        begin = time.monotonic()
        verdict, what = try_fault(fault, options.jobs)
        count[verdict] += 1
        print(f"{verdict:11} {fault.name}: {what} ({time.monotonic() - begin:.0f} s)", flush=True)
    planted = count["caught"] + count["survived"]
    share = 100 * count["caught"] / planted if planted else 0
    print(f"{count['caught']} of {planted} faults caught, {share:.1f} %; {count['not planted']} not planted")
    return 2 if count["not planted"] else 1 if count["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
