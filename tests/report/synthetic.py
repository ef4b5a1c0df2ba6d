"""A made-up grid with effects that a test chooses, in the form that `ptq collect --jsonl` writes, and a stand-in for
ptq that hands it out."""

import hashlib
import json
import pathlib
import struct

import numpy as np

WINDOWS, QUESTIONS = 60, 400
CHANNELS, LAYERS, BINS = 160, 4, 40
TASKS = ("arc", "piqa", "winogrande")
METHODS = {
    "FP32": "full-precision",
    "W8A8": "w8a8",
    "RTN W4": "rtn",
    "removed": "remove-injected",
    "dead removed": "remove-dead",
    "GPTQ W4": "gptq",
    "GPTQ W4, dead rtn": "gptq",
    "AWQ W4": "awq",
    "SmoothQuant": "smoothquant",
}
UNCALIBRATED = ("FP32", "W8A8", "RTN W4", "removed")
LANGUAGES = {"x:en": "Latin", "x:fr": "Latin", "x:ru": "Cyrillic", "x:zh": "Han", "x:ar": "Arabic"}


class World:
    """Cells by (model, method, set, draw). All randomness is seeded by names, so that equal calls give equal cells."""

    def __init__(self, models=("OPT", "New"), draws=None, report=None, twins=(), methods=METHODS):
        self.draws = {"mixed": 4, "nonsense": 4, "arc": 1, "piqa": 1, **dict.fromkeys(LANGUAGES, 1), **(draws or {})}
        self.models = [{"name": m, "path": m} for m in models] + list(twins)
        self.report = (
            {
                "old": ["OPT"],
                "content": {"arc": "arc", "piqa": "piqa"},
                "languages": LANGUAGES,
                "spread_order": list(models[:2]),
                "narrowest": models[-1],
            }
            if report is None
            else report
        )
        self.methods, self.cells, self.arrays = methods, {}, {}

    def grid(self):
        methods = []
        for name, kind in self.methods.items():
            about = {"name": name, "method": kind, "calibrated": name not in UNCALIBRATED}
            if kind in ("gptq", "awq"):
                about["dead"] = "rtn" if "rtn" in name else "zero"
            methods.append(about)
        sets = [
            {"name": s, "draw": d, "group": "", "set": s, "seed": d, "seqlen": 8, "sampling": "gptq"}
            for s, n in self.draws.items()
            for d in range(1, n + 1)
        ]
        metrics = [{"name": "ppl", "kind": "perplexity", "source": "text"}]
        metrics += [{"name": t, "kind": "choice", "source": t} for t in TASKS]
        return {
            "grid": {
                "name": "made-up",
                "baseline": "mixed",
                "report": self.report,
                "metrics": metrics,
                "models": self.models,
                "methods": methods,
                "sets": sets,
            }
        }

    def put(
        self,
        model,
        method,
        set_name=None,
        harm=0.0,
        points=0.0,
        noise=0.001,
        draw_sd=0.0005,
        draws=None,
        metrics=("ppl", *TASKS),
        dead=0,
    ):
        """Cells of all draws of a set: log perplexity `harm` above the model's, accuracy `points` above it."""
        for draw in range(1, (draws or self.draws.get(set_name, 1)) + 1):
            rng = rng_of(model, method, set_name, draw)
            base = rng_of(model).normal(1.5, 0.2, WINDOWS)
            shift = harm + (draw_sd * rng.normal() if method not in UNCALIBRATED else 0.0)
            cell = {}
            if "ppl" in metrics:
                nll = base + shift + noise * rng.normal(size=WINDOWS)
                cell["ppl"] = {
                    "value": float(np.exp(nll.mean())),
                    "stderr": 0.1,
                    "window_nll": nll.tolist(),
                    "windows": WINDOWS,
                }
            for task in TASKS:
                if task in metrics:
                    cell[task] = answers(rng_of(model, task).uniform(size=QUESTIONS), 0.6 + points, rng)
            self.cells[model, method, set_name, draw] = {"metrics": cell, "health": health(dead)}

    def fill(self, harm=lambda model, method, set_name: 0.0, **options):
        """All cells of all models that are no twins."""
        for model in [m["name"] for m in self.models if "inject" not in m]:
            for method in self.methods:
                if method == "removed":
                    continue
                for s in [None] if method in UNCALIBRATED else self.draws:
                    self.put(model, method, s, harm(model, method, s), **options)

    def study(self, model, set_name, width):
        """An activation study of outputs with normal activations of this standard deviation."""
        rng = rng_of(model, set_name, "study")
        arrays = {}
        for module in ("o", "down"):
            mean = 0.1 * width * rng.normal(size=(LAYERS, CHANNELS))
            mean[:, 3] = 5 * width
            counts = np.histogram(
                rng.normal(0, width, 4000), np.concatenate([[-1e9], np.linspace(-1, 1, BINS + 1), [1e9]])
            )
            arrays[f"{module}.mean"] = mean
            arrays[f"{module}.counts"] = np.tile(counts[0], (LAYERS, 1)).astype(np.int64)
        summary = {m: {"whole": {"central_99_width": 5.15 * width}} for m in ("o", "down")}
        data = safetensors(arrays)
        key = model, "activations", set_name, 1
        self.arrays[cell_id(key)] = data
        self.cells[key] = {
            "study": {
                "side": "output",
                "bins": BINS,
                "range": 1.0,
                "channels": {"o": CHANNELS, "down": CHANNELS},
                "layers": LAYERS,
                "summary": summary,
                "arrays": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
            }
        }

    def lose(self, status="missing", reason="", **names):
        """Cells that match all names stay planned, but have no result."""
        for key, cell in self.cells.items():
            if all(dict(zip(("model", "method", "set", "draw"), key))[k] == v for k, v in names.items()):
                cell.clear()
                cell.update({"status": status, "reason": reason})

    def lines(self, run=0):
        """`run`: what differs between two computations of the same cells."""
        made = [json.dumps(self.grid())]
        for key, cell in self.cells.items():
            model, method, set_name, draw = key
            status = cell.get("status", "done")
            row = {
                "model": model,
                "method": method,
                "kind": "activations" if method == "activations" else "evaluation",
                "status": status,
                "id": cell_id(key),
            }
            if set_name:
                row.update({"set": set_name, "group": "", "draw": draw})
            if cell.get("reason"):
                row["reason"] = cell["reason"]
            if status == "done":
                outcome = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()
                row["result"] = {**cell, "outcome_sha256": outcome, "run": {"seconds": run}}
            made.append(json.dumps(row))
        return made

    def write(self, directory, run=0):
        """rows.jsonl, arrays, and a stand-in `ptq`; returns (ptq, grid file, store)."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "rows.jsonl").write_text("\n".join(self.lines(run)) + "\n", encoding="utf-8")
        (directory / "grid.toml").write_text('name = "made-up"\n', encoding="utf-8")
        store = directory / "store"
        for name, data in self.arrays.items():
            path = store / name[:2] / f"{name}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        ptq = directory / "ptq"
        ptq.write_text(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do\n  case $1 in\n"
            f"    --jsonl) cp '{directory}/rows.jsonl' \"$2\";;\n"
            '    --csv) echo model,value > "$2";;\n  esac\n  shift\ndone\n',
            encoding="utf-8",
        )
        ptq.chmod(0o755)
        return ptq, directory / "grid.toml", store


def rng_of(*names):
    return np.random.default_rng(list(hashlib.sha256(repr(names).encode()).digest()[:16]))


def cell_id(key):
    return hashlib.sha256(repr(key).encode()).hexdigest()


def answers(latent, share, rng):
    """Right where the question's difficulty is below the share of right answers, with 1 % of answers flipped."""
    right = (latent < share) ^ (rng.uniform(size=QUESTIONS) < 0.01)
    text = "".join("1" if r else "0" for r in right)
    return {
        "n": QUESTIONS,
        "acc": {"value": float(right.mean()), "stderr": 0.02},
        "correct": text,
        "correct_norm": text,
    }


def health(dead):
    return {
        "summary": {"dead_columns": dead, "fell_back": 0, "retried": 0, "nonfinite": 0},
        "linears": {"damp": [0.1, 0.1]},
    }


def safetensors(arrays):
    types = {"float64": "F64", "int64": "I64"}
    header, body = {}, b""
    for name, a in arrays.items():
        header[name] = {
            "dtype": types[str(a.dtype)],
            "shape": list(a.shape),
            "data_offsets": [len(body), len(body) + a.nbytes],
        }
        body += a.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def twin(name, of, offset=0.0, scale=128.0, at=("norm",), seed=1):
    return {
        "name": name,
        "path": of,
        "of": of,
        "inject": {"at": list(at), "channels": 2, "scale": scale, "offset": offset, "seed": seed},
    }
