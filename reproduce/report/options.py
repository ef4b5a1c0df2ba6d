"""The [report] table of a grid: which model, method and set plays which role in the paper's claims, and the margins of
the tests, which are to be stated before a grid is computed. ptq itself only passes the table on.

    scale = "small"                     how verdicts name their scale; default: the grid's name
    caveat = "..."                      a sentence at the head of the page: what the numbers do not show
    perplexity_margin = 0.01            smallest ratio of perplexities of interest: 1 %
    accuracy_margin = 0.02              smallest difference of accuracies of interest: 2 points
    width_margin = 0.05                 the same for widths of activation histograms and sizes of channel means (F6, F7)
    dead_share = 0.5                    F8: the share of the harm that --dead rtn has to take away
    confidence = 0.95                   of intervals; tests use 1 - confidence
    old = ["OPT"]                       models that the paper found sensitive
    modern = [...]                      models that it found insensitive; default: all that are not named elsewhere
    seeds = { OPT = ["OPT seed 2"] }    the same model, trained with other seeds
    gptq, awq, smoothquant, naive       names of the methods of the paper; default: the first of each kind
    further = ["GPTQ W3"]               methods that are shown beside the paper's; they decide no claim.
                                        Default: all other gptq, awq and smoothquant methods that have no role
    nonsense = "nonsense"               set of random characters
    content = { arc = "arc_challenge" } set made of a task's questions = metric of that task
    languages = { "en" = "Latin" }      set = script; or a list or a group of sets whose names end as in "fra_Latn"
    figure_languages = ["en"]           those that figures show; default: all
    perplexity = "ppl"                  metric; default: the first of perplexity
    tasks = ["arc", "piqa", "winogrande"]  metrics of multiple choice in the paper's order; default: all.
                                        Figures 2, 15, 17, 19 average the first two, figures 5-7 all of them
    accuracy = { arc = "acc_norm" }     which accuracy of a task; default: acc
    dead_pairs = [["GPTQ W4", "GPTQ W4, dead rtn"]]  the same method deleting and rounding dead columns; default: the
                                        methods of the grid that differ in nothing else
    perturbed = { "GPTQ W4" = ["GPTQ W4 perturbed"] }  a method and the same with a perturbation of rounding's size
    spread_sets = ["c4"]                sets whose draws tell how far draws of a set would differ that has only one;
                                        default: all that have several
    draw_spread = { perplexity = 0.003, accuracy = 0.005 }  assumed standard deviation between calibration draws (of
                                        log perplexity, of an accuracy), for methods of which no set has two draws
    spread_order = ["OPT", "Llama"]     F6: models from the widest activations to the narrowest
    narrowest = "Mistral"               F6, F7: the model with the narrowest activations and smallest channel means
"""

import dataclasses

from report.option_reader import OptionError, Reader

KINDS = {
    "gptq": "gptq",
    "awq": "awq",
    "smoothquant": "smoothquant",
    "naive": "w8a8",
    "full_precision": "full-precision",
    "rtn": "rtn",
    "deletion": "remove-dead",
    "removal": "remove-injected",
}
ROLES = ("gptq", "awq", "smoothquant", "naive")
LATIN = ("Latn", "Latin")


@dataclasses.dataclass
class Options:
    scale: str
    caveat: str
    perplexity_margin: float
    accuracy_margin: float
    width_margin: float
    dead_share: float
    confidence: float
    old: list
    modern: list
    seeds: dict  # model -> models
    methods: dict  # role of KINDS -> name or None
    further: list
    baseline: str
    nonsense: str  # or None
    content: dict  # set -> metric
    languages: dict  # set -> script
    figure_languages: list
    perplexity: str  # or None
    tasks: list
    accuracy: dict  # metric -> acc or acc_norm
    dead_pairs: list  # (zero, rtn)
    perturbed: dict  # method -> methods
    spread_sets: list  # empty: all
    draw_spread: dict
    spread_order: list
    narrowest: str  # or None

    def label(self, set_name):
        """A set's name as figures show it: without what all names of languages begin with."""
        return set_name.split(":", 1)[1] if set_name in self.languages and ":" in set_name else set_name

    def latin(self):
        return [s for s, script in self.languages.items() if script in LATIN]

    def non_latin(self):
        return [s for s, script in self.languages.items() if script not in LATIN]


def read_options(table, grid):
    """Options from the [report] table (a dict) of a store.Grid. OptionError names the key."""
    r = Reader(table, grid)
    methods = {role: r.name(role, "method", first_of_kind(grid, kind)) for role, kind in KINDS.items() if role in ROLES}
    methods.update({role: first_of_kind(grid, kind) for role, kind in KINDS.items() if role not in ROLES})
    seeds = {r.check("seeds", "model", m): r.names_in("seeds", "model", v) for m, v in r.mapping("seeds").items()}
    repeats = [m for models in seeds.values() for m in models]
    old = r.names("old", "model")
    clean = [m for m, about in grid.models.items() if "inject" not in about]
    perturbed = {
        r.check("perturbed", "method", m): r.names_in("perturbed", "method", v)
        for m, v in r.mapping("perturbed").items()
    }
    dead_pairs = read_pairs(r, grid)
    taken = {*methods.values(), *(m for v in perturbed.values() for m in v), *(rtn for _, rtn in dead_pairs)}
    languages = read_languages(r, grid)
    choices = [m for m, about in grid.metrics.items() if about["kind"] == "choice"]
    texts = [m for m, about in grid.metrics.items() if about["kind"] == "perplexity"]
    options = Options(
        scale=r.text("scale", grid.name),
        caveat=r.text("caveat", ""),
        perplexity_margin=r.number("perplexity_margin", 0.01),
        accuracy_margin=r.number("accuracy_margin", 0.02),
        width_margin=r.number("width_margin", 0.05),
        dead_share=r.number("dead_share", 0.5),
        confidence=r.number("confidence", 0.95),
        old=old,
        modern=r.names("modern", "model", [m for m in clean if m not in old and m not in repeats]),
        seeds=seeds,
        methods=methods,
        further=r.names(
            "further",
            "method",
            [
                m
                for m, about in grid.methods.items()
                if m not in taken and about["method"] in ("gptq", "awq", "smoothquant")
            ],
        ),
        baseline=grid.baseline,
        nonsense=r.name("nonsense", "set", "nonsense" if "nonsense" in grid.sets else None),
        content={
            r.check("content", "set", s): r.check("content", "metric", m) for s, m in r.mapping("content").items()
        },
        languages=languages,
        figure_languages=r.names("figure_languages", "set", list(languages)),
        perplexity=r.name("perplexity", "metric", texts[0] if texts else None),
        tasks=r.names("tasks", "metric", choices),
        accuracy=read_accuracy(r),
        dead_pairs=dead_pairs,
        perturbed=perturbed,
        spread_sets=r.names("spread_sets", "set"),
        draw_spread=read_spread(r),
        spread_order=r.names("spread_order", "model"),
        narrowest=r.name("narrowest", "model"),
    )
    r.finish([*Options.__dataclass_fields__, *ROLES])
    return options


def first_of_kind(grid, kind):
    return next((m for m, about in grid.methods.items() if about["method"] == kind), None)


def read_pairs(reader, grid):
    def rest(about):
        return {k: v for k, v in about.items() if k not in ("name", "dead")}

    found = [
        (a, b)
        for a, x in grid.methods.items()
        for b, y in grid.methods.items()
        if x.get("dead") == "zero" and y.get("dead") == "rtn" and rest(x) == rest(y)
    ]
    pairs = reader.take("dead_pairs", found, list, "a list of pairs of methods")
    if any(not isinstance(p, (list, tuple)) or len(p) != 2 for p in pairs):
        raise OptionError("dead_pairs: must be a list of pairs [method deleting, method rounding dead columns]")
    return [tuple(reader.check("dead_pairs", "method", m) for m in pair) for pair in pairs]


def read_languages(reader, grid):
    value = reader.take("languages", [], (str, list, dict), "a group of sets, a list of sets, or a table set = script")
    if isinstance(value, str):
        members = [s for s, about in grid.sets.items() if about["group"] == value]
        if not members:
            raise OptionError(f"languages: '{value}' is not a group of sets of this grid")
        value = members
    if isinstance(value, dict):
        return {reader.check("languages", "set", s): script for s, script in value.items()}
    scripts = {}
    for name in value:
        reader.check("languages", "set", name)
        script = name.rpartition("_")[2]
        if len(script) != 4 or not script.istitle():
            raise OptionError(f"languages: the script of '{name}' is not in its name; give a table set = script")
        scripts[name] = script
    return scripts


def read_accuracy(reader):
    kinds = {reader.check("accuracy", "metric", m): v for m, v in reader.mapping("accuracy").items()}
    for metric, kind in kinds.items():
        if kind not in ("acc", "acc_norm"):
            raise OptionError(f"accuracy: {metric} = '{kind}' is neither acc nor acc_norm")
    return kinds


def read_spread(reader):
    spread = reader.mapping("draw_spread")
    for key, value in spread.items():
        if key not in ("perplexity", "accuracy") or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise OptionError("draw_spread: must be a table of perplexity and accuracy, between 0 and 1")
    return spread
