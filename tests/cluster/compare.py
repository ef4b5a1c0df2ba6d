#!/usr/bin/env python3
"""Do two stores hold the same cells with the same outcomes, and nothing half-written?  compare.py STORE REFERENCE"""
import json
import pathlib
import sys


def outcomes(store):
    results = [json.loads(f.read_text()) for f in store.glob("[0-9a-f][0-9a-f]/*.json")]
    return {r["id"]: r["outcome_sha256"] for r in results}


def main():
    store, reference = map(pathlib.Path, sys.argv[1:])
    ours, theirs = outcomes(store), outcomes(reference)
    missing = theirs.keys() - ours.keys()
    strange = ours.keys() - theirs.keys()
    different = [i for i in theirs.keys() & ours.keys() if theirs[i] != ours[i]]
    left = [str(f) for f in store.rglob(".ptq-*.tmp")]
    left += [str(f) for d in ("partial", "aside", "failed") for f in store.glob(d + "/**/*") if f.is_file()]
    findings = (("missing", missing), ("not of the grid", strange), ("different", different), ("left over", left))
    for what, which in findings:
        if which:
            sys.exit(f"compare: {store}: {len(which)} {what}: {sorted(which)[:3]}")
    if not theirs:
        sys.exit(f"compare: {reference}: no results")
    print(f"compare: {store.name}: all {len(theirs)} results equal those of the uninterrupted run, nothing left over")


main()
