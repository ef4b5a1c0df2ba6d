#!/usr/bin/env python3
"""Validates every result of a store against docs/results-schema.json:  tests/validate_results.py STORE

Needs python3-jsonschema. Exit 0: all valid, at least one; 1: not; 77: skipped, the package is not there."""
import json
import pathlib
import sys

try:
    import jsonschema
except ImportError:
    print("validate_results: skipped, python3-jsonschema is not installed")
    sys.exit(77)

schema = json.loads((pathlib.Path(__file__).resolve().parents[1] / "docs" / "results-schema.json").read_text())
jsonschema.Draft7Validator.check_schema(schema)
# The two kinds apart: of a failing oneOf one would only learn that neither matched.
kinds = [jsonschema.Draft7Validator({**branch, "definitions": schema["definitions"]}) for branch in schema["oneOf"]]
files = sorted(pathlib.Path(sys.argv[1]).glob("??/*.json"))
invalid = 0
for file in files:
    document = json.loads(file.read_text())
    validator = kinds["study" in document]
    for error in validator.iter_errors(document):
        invalid += 1
        causes = [error, *(error.context or [])]
        deepest = max(causes, key=lambda e: len(e.absolute_path))
        print(f"{file}: {'/'.join(map(str, deepest.absolute_path))}: {deepest.message[:300]}", file=sys.stderr)
print(f"validate_results: {len(files)} results, {invalid} violations")
sys.exit(0 if files and not invalid else 1)
