#!/usr/bin/env python3
"""Disturbs running jobs until a number of them were hit, or none is left.

disturb.py slurm STORE COUNT ARRAY_JOB   the jobs of an array
disturb.py parallel STORE COUNT PID      the ptq processes that work on the store, as long as a process lives

Prints how often it did what. Exit 1 if a finished result ever disappears. PTQ: the program; PTQ_TEST_SEED: the seed.
"""
import collections
import os
import pathlib
import random
import signal
import subprocess
import sys
import time


def output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def quiet(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def workers(store):
    """The ptq processes that work on a store."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if str(store) in arguments and os.readlink(process / "exe") == os.environ["PTQ"]:
                found.append(int(process.name))
        except OSError:  # it has ended
            pass
    return found


def send(pid, which):
    try:
        os.kill(pid, which)
        return True
    except ProcessLookupError:
        return False


class Deck:
    """Every action equally often, in random order."""

    def __init__(self, *cards):
        self.cards, self.left = cards, []

    def draw(self):
        self.left = self.left or random.sample(self.cards, len(self.cards))
        return self.left.pop()


class Slurm:
    def __init__(self, store, array):
        self.store, self.array = store, array
        self.actions = Deck(self.requeue, self.kill_ptq, self.ask, self.ask_all, self.preempt, self.node_failure)

    def jobs(self, *states):
        """(job, array task) pairs: for one task of an array the job's number is also that of the whole array."""
        rows = output("squeue", "--noheader", "--array", f"--jobs={self.array}", "--format=%A %i %T").split("\n")
        return [tuple(r.split()[:2]) for r in rows if r and (not states or r.split()[2] in states)]

    def alive(self):
        return bool(self.jobs())

    def act(self):
        running = self.jobs("RUNNING")
        if not running:
            return None
        action = self.actions.draw()
        return action.__name__ if action(*random.choice(running)) else None

    def requeue(self, _, task):
        return quiet("scontrol", "requeue", task)

    def kill_ptq(self, job, _):
        pids = [int(row.split()[0]) for row in output("scontrol", "listpids", job).split("\n")[1:] if row]
        found = [p for p in workers(self.store) if p in pids]
        return bool(found) and send(found[0], signal.SIGKILL)

    def ask(self, _, task):  # what the time limit does
        return quiet("scancel", "--batch", "--signal=TERM", task)

    def ask_all(self, _, task):  # the batch script and ptq as well
        return quiet("scancel", "--full", "--signal=TERM", task)

    def preempt(self, *_):
        wrap = ["--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]
        return quiet("sbatch", *wrap)

    def node_failure(self, *_):
        node = output("sinfo", "--noheader", "--format=%n").split()[0]
        done = quiet("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        time.sleep(2)
        quiet("scontrol", "update", f"nodename={node}", "state=resume")
        return done


class Parallel:
    def __init__(self, store, pid):
        self.store, self.pid, self.signals = store, int(pid), Deck(signal.SIGKILL, signal.SIGTERM)

    def alive(self):  # a process that has ended and is not waited for yet has no command line
        process = pathlib.Path(f"/proc/{self.pid}/cmdline")
        return process.exists() and process.read_bytes() != b""

    def act(self):
        found = workers(self.store)
        if not found:
            return None
        which = self.signals.draw()
        return which.name if send(random.choice(found), which) else None


def main():
    kind, store, count, target = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    random.seed(int(os.environ.get("PTQ_TEST_SEED", "1")))
    victims = {"slurm": Slurm, "parallel": Parallel}[kind](store, target)
    done, results = collections.Counter(), set()
    while done.total() < count and victims.alive():
        time.sleep(random.uniform(1, 6))
        if name := victims.act():
            done[name] += 1
        now = set(store.glob("[0-9a-f][0-9a-f]/*.json"))
        if lost := results - now:
            sys.exit(f"disturb: a finished result disappeared: {sorted(lost)[0]}")
        results = now
    print("disturb:", ", ".join(f"{n} {name}" for name, n in sorted(done.items())))
    if count and not done:
        sys.exit("disturb: nothing could be disturbed, so this shows nothing")


main()
