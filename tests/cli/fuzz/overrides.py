"""Command lines: known keys with values of every kind, keys that nearly exist, groups, flags anywhere among them."""

from __future__ import annotations

from hypothesis import strategies as st

from laser_sweep.cli import CONF
from laser_sweep.config import setting_names
from laser_sweep.trial import GROUPS, TAUS

from .values import NAMES, NUMBERS, TEXTS, VALUES

KEYS = sorted(setting_names())
GROUP_NAMES = sorted(directory.name for directory in CONF.iterdir() if directory.is_dir() and directory.name != "hydra")
CHOICES = {
    group: sorted(file.stem for file in (CONF / group).glob("*.yaml")) for group in GROUP_NAMES if group != "evaluation"
}

_TAU = st.sampled_from([*TAUS, *GROUPS, "each"])
_LAYER = st.one_of(st.sampled_from(["0", "1", "-1", "-2", "last", "each", "all"]))
_RHO = st.floats(0, 1).map(repr)
_COUNT = st.integers(1, 600).map(str)
_SIZE = st.floats(0, 1e6).map(repr)


def _listed(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(value, st.lists(value, min_size=1, max_size=3).map(lambda items: f"[{','.join(items)}]"))


# What each key may be, whatever else is said.
RIGHT: dict[str, st.SearchStrategy[str]] = {
    "tau": _listed(_TAU.filter(lambda tau: tau != "fc_up")),
    "layer": _listed(_LAYER),
    "rho": _listed(_RHO),
    "seed": st.integers(0, 2**31).map(str),
    "objective": st.sampled_from(["accuracy", "log_loss", "mean_accuracy", "mean_log_loss"]),
    "resume": st.sampled_from(["auto", "never", "errored"]),
    "sweep": st.one_of(st.just("null"), NAMES),
    "store.path": NAMES,
    "cache.factors_gb": _SIZE,
    "evaluation.limit": st.one_of(_COUNT, st.just("null")),
    "evaluation.test_limit": st.one_of(_COUNT, st.just("null")),
    "evaluation.split": st.sampled_from(["val", "all"]),
    "evaluation.confirm": st.sampled_from(["true", "false"]),
    "evaluation.exact": st.sampled_from(["true", "false"]),
    "evaluation.batch_tokens": _COUNT,
    "evaluation.activation_budget_gb": _SIZE,
    "evaluation.host_budget_gb": _SIZE,
    "cluster.workers": st.one_of(_COUNT, st.just("auto")),
    "cluster.gpus_per_worker": st.sampled_from(["auto", "0", "0.5", "1", "2"]),
    "cluster.max_attempts": _COUNT,
    "++cluster.env.NAME": NAMES,
    "model": st.just("demo"),
    "model.dtype": st.sampled_from(["auto", "float32", "float16", "bfloat16"]),
    "model.attn_implementation": st.sampled_from(["auto", "eager", "sdpa"]),
    "dataset": st.just("demo"),
    "tracking": st.sampled_from(["none", "wandb"]),
    "intervention": st.sampled_from(["laser", "randomized", "clustered", "prune", "zero", "removed", "none"]),
    "search": st.sampled_from(["grid", "gradient", "halving", "racing", "greedy", "noise_edge"]),
}
# What no key of this kind may be: what is refused whatever else is said.
_NO_COUNT = ["0", "-1", "abc", "1.5", "[]", "[1]", "{a:1}", "nan", "inf", "true", "''", "-9999999999999999999999"]
_NO_SIZE = ["-1", "abc", "[]", "[1]", "{a:1}", "nan", "inf", "-inf", "true", "null", "''"]
_NO_WORD = ["nope", "0", "[]", "[auto]", "{a:1}", "null", "true", "''", "1e400", "é", "nan"]
WRONG: dict[str, list[str]] = {
    "tau": [*_NO_WORD, "fc_inn", "[fc_in,nope]", "FC_IN", "q_proj.x"],
    "layer": ["2", "-3", "1.5", "abc", "[]", "{a:1}", "nan", "inf", "true", "null", "[0,7]", "9" * 30, "first", "''"],
    "rho": [
        "1.5",
        "-0.01",
        "abc",
        "[]",
        "{a:1}",
        "nan",
        "inf",
        "-inf",
        "true",
        "null",
        "[0.1,2]",
        "1e400",
        "''",
        "[[0]]",
    ],
    "seed": ["abc", "1.5", "[]", "[1]", "{a:1}", "nan", "inf", "true", "null", "''"],
    "sweep": ["[]", "[a]", "{a:1}", "true"],
    "objective": _NO_WORD,
    "resume": _NO_WORD,
    "store.path": ["null", "[]", "{a:1}", "true", "''", "' '"],
    "cache.factors_gb": _NO_SIZE,
    "evaluation.limit": _NO_COUNT,
    "evaluation.test_limit": _NO_COUNT,
    "evaluation.split": _NO_WORD,
    "evaluation.confirm": ["maybe", "2", "[]", "{a:1}", "null", "nan", "''"],
    "evaluation.exact": ["maybe", "2", "[]", "{a:1}", "null", "nan", "''"],
    "evaluation.batch_tokens": [*_NO_COUNT, "null"],
    "evaluation.activation_budget_gb": _NO_SIZE,
    "evaluation.host_budget_gb": _NO_SIZE,
    "cluster.workers": [*_NO_COUNT, "null", "some"],
    "cluster.cpus_per_worker": [*_NO_COUNT, "null"],
    "cluster.gpus_per_worker": ["-1", "1.5", "abc", "[]", "{a:1}", "nan", "inf", "true", "null", "''"],
    "cluster.max_attempts": [*_NO_COUNT, "null"],
    "cluster.address": ["null", "[]", "{a:1}", "true"],
    "model.dtype": _NO_WORD,
    "model.attn_implementation": _NO_WORD,
    "model.family": _NO_WORD,
    "model.device_map": _NO_WORD,
    "model.revision": ["null", "[]", "{a:1}", "true"],
    "model.path": [
        "null",
        "[]",
        "{a:1}",
        "true",
        "./nowhere",
        "/",
        "/dev/null",
        "''",
        "package://nope",
        "a/b/c",
        "$HOME",
    ],
    "model.roles": ["abc", "[]", "[1]", "1", "null", "true"],
    "dataset.format": _NO_WORD,
    "dataset.path": [
        "null",
        "[]",
        "{a:1}",
        "true",
        "./nowhere.csv",
        "/",
        "/dev/null",
        "''",
        "package://nope",
        "a",
        ".",
    ],
    "intervention.method": [*_NO_WORD, "lasr"],
    "search.name": [*_NO_WORD, "random"],
    "tracking.mode": _NO_WORD,
    "tracking.granularity": _NO_WORD,
    "dry_run": ["maybe", "2", "[]", "{a:1}", "null", "nan", "''"],
}

FLAGS = st.sampled_from(
    [
        ["-m"],
        ["-m"],
        ["-m"],
        ["--multirun"],
        ["-m", "-m"],
        ["--run"],
        ["-r"],
        ["--resolve"],
        ["--cfg", "job"],
        ["-c"],
        ["--cfg", "nope"],
        ["--cfg=hydra"],
        ["--info"],
        ["--info", "config"],
        ["-i", "defaults-tree"],
        ["--info=nope"],
        ["--help"],
        ["-h"],
        ["--hydra-help"],
        ["--version"],
        ["-p", "model"],
        ["--package", "nope"],
        ["-cn", "nope"],
        ["--config-name", "config"],
        ["--config-name"],
        ["--config-dir", "nope"],
        ["-cd", "."],
        ["-cp", "nope"],
        ["-cp"],
        ["--experimental-rerun", "nope"],
        ["--experimental-rerun", "config.pickle"],
        ["-sc"],
        ["-sc", "install=bash"],
        ["-sc", "query=bash"],
        ["--foo"],
        ["--multirn"],
        ["--multi"],
        ["-x"],
        ["-mx"],
        ["--"],
        ["-"],
        ["-1"],
        ["--=1"],
        ["--tau=fc_in"],
        ["-rho=0.1"],
        ["--rho", "0.1"],
        ["--cfg", "job", "--resolve"],
        ["--dry-run"],
        ["-é"],
        ["---"],
    ]
)
INFO = {"--info", "-i"}
ANSWERING = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "-sc", "--shell-completion", *INFO}
"""The flags that ask for words instead of a plan."""


QUICK = ("evaluation.test_limit=9",)
"""Put first, where whatever else is said of it wins: less to read in each plan."""


@st.composite
def mistyped(draw: st.DrawFn, names: st.SearchStrategy[str]) -> str:
    """A name with a character too many, too few, or in the wrong place."""
    name = draw(names)
    at = draw(st.integers(0, len(name) - 1))
    return draw(
        st.sampled_from(
            [
                name[:at] + name[at + 1 :],
                name[:at] + name[at] + name[at:],
                f"{name[:at]}{name[at + 1 :]}{name[at]}",
                name.upper(),
                f"{name}.x",
                f"{name}.0",
                f"{name}s",
                name.replace(".", "_"),
                f".{name}",
                f"{name}.",
            ]
        )
    )


_GROUPED = st.sampled_from(GROUP_NAMES)
_CHOSEN = st.one_of(
    *(st.sampled_from([f"{group}={name}" for name in names]) for group, names in CHOICES.items()),
    st.builds(
        "{}={}".format, _GROUPED, mistyped(st.sampled_from(["demo", "llama2", "fever", "laser", "grid", "none"]))
    ),
    st.builds("{}={}".format, _GROUPED, VALUES),
    st.sampled_from(
        [
            "model=[demo,gptj]",
            "+model=demo",
            "++model=demo",
            "~model",
            "~model=demo",
            "~model=gptj",
            "/model=demo",
            "model@x=demo",
            "model@=demo",
            "+model@guard=demo",
            "dataset@guard.dataset=fever",
            "guard=demo",
            "~guard",
            "+dataset@a.b=demo",
            "experiment=gptj_fever",
            "hydra=nope",
            "hydra/launcher=basic",
            "hydra/launcher=nope",
            "hydra/sweeper=basic",
            "hydra/job_logging=none",
            "hydra.verbose=true",
            "~search",
            "hydra.verbose=nope",
            "hydra.job.name=x",
            "+hydra.nope=1",
            "hydra.mode=MULTIRUN",
            "hydra.mode=nope",
            "hydra=null",
            "hydra.sweeper.params={rho: '0.1,0.2'}",
            "hydra.sweeper._target_=nope",
            "hydra.launcher._target_=os.getcwd",
            "+hydra.sweeper.x=1",
            "hydra.searchpath=[file://nope]",
            "hydra.searchpath=[nope]",
            "~hydra",
            "hydra.job.num=a",
            "intervention=clustered intervention.options.clusters=[1,2]",
            "guard=jsonl",
            "_self_=1",
            "defaults=[]",
        ]
    ),
)
_PREFIXES = st.sampled_from(["", "", "", "", "+", "++", "~", "~~", "+~", "@", "/"])
_ANY_KEY = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(KEYS),
    mistyped(st.sampled_from(KEYS)),
    NAMES,
    TEXTS,
    NAMES.map("hydra.{}".format),
)
GOOD = st.sampled_from(sorted(RIGHT)).flatmap(lambda key: RIGHT[key].map(lambda value: f"{key}={value}"))
SWEPT = st.sampled_from(["tau", "layer", "rho", "seed", "evaluation.limit"]).flatmap(
    lambda key: st.lists(RIGHT[key], min_size=1, max_size=3).map(lambda values: f"{key}={','.join(values)}")
)
ANY = st.one_of(
    st.builds("{}{}={}".format, _PREFIXES, _ANY_KEY, VALUES),
    st.builds("{}{}={}".format, _PREFIXES, st.sampled_from(KEYS), NUMBERS),
    st.builds(
        "{}{}={}".format, _PREFIXES, st.sampled_from(["tau", "layer", "rho", "intervention.options.seed"]), VALUES
    ),
    st.builds("{}{}".format, _PREFIXES, _ANY_KEY),
    _CHOSEN,
    TEXTS.filter(lambda text: not text.startswith("-")),
)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command line: mostly good overrides, one or two of any kind, flags among them."""
    words = draw(st.lists(GOOD, max_size=3))
    words += draw(st.lists(SWEPT, max_size=2)) if draw(st.booleans()) else []
    words += draw(st.lists(ANY, max_size=2))
    words = [word for override in draw(st.permutations(words)) for word in _typed(override)]
    for flag in draw(st.lists(FLAGS, max_size=2)) if draw(st.booleans()) else []:
        at = draw(st.integers(0, len(words)))
        words[at:at] = flag
    return [*QUICK, *words, "dry_run=true"]


def _typed(override: str) -> list[str]:
    return override.split() if override.startswith("intervention=clustered ") else [override]
