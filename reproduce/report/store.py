"""What `ptq collect` gathers of a grid, and the arrays of activation studies that lie beside the results."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import struct
import subprocess

import numpy as np

from report.output import inputs_digest


class StoreError(Exception):
    """What is wrong, and the exit code for it."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


class Grid:
    """The grid's axes by name. `sets` has a set once, whatever the number of its draws."""

    def __init__(self, about):
        self.name, self.baseline, self.report = about["name"], about["baseline"], about["report"]
        self.metrics = {m["name"]: m for m in about["metrics"]}
        self.models = {m["name"]: m for m in about["models"]}
        self.methods = {m["name"]: m for m in about["methods"]}
        self.sets, self.draws = {}, {}
        for s in about["sets"]:
            self.sets.setdefault(s["name"], s)
            self.draws[s["name"], s["draw"]] = s


@dataclasses.dataclass
class Cell:
    model: str
    method: str  # "activations" for a study
    set: str  # or None
    draw: int
    status: str  # done, failed, missing
    reason: str
    id: str
    metrics: dict  # empty unless done
    health: dict  # empty if nothing was quantized
    calibration: dict
    study: dict  # of a study, else empty


def collect(ptq, grid, store, csv, models, data, device):
    """(Grid, cells, digest of all that the report depends on) from `ptq collect`, which also writes `csv`. StoreError
    with ptq's own message and exit code."""
    rows = csv.with_suffix(".jsonl.tmp")
    command = [str(ptq)] + (["--device", device] if device else []) + (["--data", str(data)] if data else [])
    command += ["collect", str(grid), "--store", str(store), "--csv", str(csv), "--jsonl", str(rows)]
    command += ["--models", str(models)] if models else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise StoreError(f"{ptq}: {error.strerror}; build it, or name it with --ptq", 66) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{ptq} collect ended with {done.returncode}"]
        raise StoreError(lines[-1], done.returncode if done.returncode > 0 else 70)
    try:
        lines = rows.read_text(encoding="utf-8").splitlines()
        return *read_rows(lines), inputs_digest(lines)
    finally:
        rows.unlink(missing_ok=True)


def read_rows(lines):
    """Grid and cells from the lines of `ptq collect --jsonl`; what differs between runs of a cell is left out."""
    cells = []
    for line in lines[1:]:
        row = json.loads(line)
        result = row.get("result") or {}
        cells.append(
            Cell(
                row["model"],
                row["method"],
                row.get("set"),
                row.get("draw", 1),
                row["status"],
                row.get("reason", ""),
                row.get("id", ""),
                result.get("metrics") or {},
                result.get("health") or {},
                result.get("calibration") or {},
                result.get("study") or {},
            )
        )
    return Grid(json.loads(lines[0])["grid"]), cells


def read_safetensors(data):
    """Name -> array, for the types that a study has."""
    types = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[8 + length :][slice(*t["data_offsets"])], types[t["dtype"]]).reshape(t["shape"])
        for name, t in header.items()
    }


class Results:
    """Cells by what they are of."""

    def __init__(self, grid, cells, directory):
        self.grid, self.cells, self.directory = grid, cells, pathlib.Path(directory)
        self._index, self._studies = {}, {}
        for cell in cells:
            if cell.method == "activations":
                if cell.status == "done" and cell.study["side"] == "output":
                    self._studies.setdefault((cell.model, cell.set), cell)
            else:
                self._index.setdefault((cell.model, cell.method, cell.set), []).append(cell)

    def done(self, model, method, set_name=None):
        """Finished cells, one a draw, in the order of draws."""
        cells = [c for c in self._index.get((model, method, set_name), []) if c.status == "done"]
        return sorted(cells, key=lambda c: c.draw)

    def planned(self, model, method, set_name=None):
        return (model, method, set_name) in self._index

    def sets_of(self, model, method):
        """Names of the sets that the grid has cells for, in the grid's order."""
        return [s for s in self.grid.sets if (model, method, s) in self._index]

    def outcomes(self, cell, metric, accuracy):
        """[items]: mean losses of windows, or 0 and 1 of questions; None if the cell has no such metric."""
        result = cell.metrics.get(metric)
        if result is None:
            return None
        if "window_nll" in result:
            return np.array(result["window_nll"], float)
        text = result.get("correct_norm" if accuracy == "acc_norm" else "correct")
        if text is None:
            raise StoreError(f"{metric} of {cell.model}, {cell.method}, {cell.set} has no {accuracy}", 65)
        return (np.frombuffer(text.encode(), np.uint8) == ord("1")).astype(float)

    def study(self, model, set_name):
        """The study's cell, of outputs and of the first draw that is there; None without one."""
        return self._studies.get((model, set_name))

    @functools.lru_cache(maxsize=64)
    def arrays(self, cell_id, digest):
        """Arrays of a study. StoreError 66 if they are not there, 65 if they are not what the result says."""
        path = self.directory / cell_id[:2] / f"{cell_id}.safetensors"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; rerun ptq run", 66) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"{path}: not the arrays that its result names; delete both and rerun ptq run", 65)
        return read_safetensors(data)

    def study_arrays(self, cell):
        return self.arrays(cell.id, cell.study["arrays"]["sha256"])
