"""A user's directory of configurations, whole and broken, and the command line that reads it."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st

from laser_sweep.cli import CONF

from .overrides import ANY, GOOD, GROUP_NAMES, KEYS, QUICK, RIGHT, mistyped
from .values import NAMES, OBJECTS, TEXTS

Files = dict[str, bytes]
DIRECTORY = "conf"
_OWN = "own"
_FILES = st.sampled_from(GROUP_NAMES)

_HEADERS = st.sampled_from(
    [
        "",
        "",
        "# @package _global_\n",
        "# @package _global_\n",
        "# @package nope\n",
        "# @package _group_\n",
        "# @package \n",
        "# @package a.b.c\n",
        "# @package\n# @package x\n",
        "# @package _global_.model\n",
        "# @package [\n",
        "\ufeff",
        "%YAML 1.1\n---\n",
        "---\n",
        "--- 1\n",
        "...\n",
        "\n\n",
    ]
)
_DEFAULTS = st.sampled_from(
    [
        ["own"],
        ["/experiment: own"],
        [{"/experiment": "own"}],
        [{"override /model": "nope"}],
        [{"override /model": "own"}],
        [{"/model": "demo"}],
        [{"override /dataset": "demo"}],
        ["_self_"],
        ["_self_", "_self_"],
        [{"override nope": "x"}],
        None,
        [],
        {},
        "demo",
        1,
        [None],
        [1],
        [[]],
        [{}],
        [{"a": "b", "c": "d"}],
        [{"/model": None}],
        [{"/model": ["demo"]}],
        [{"optional /model": "nope"}],
        [{"optional": "x"}],
        [{"/model@": "demo"}],
        ["${model}"],
        [{"/model": "${nope}"}],
        ["/model/demo"],
        ["/nope/nope"],
        ["../model/demo"],
        [{"/model@x": "demo"}],
        [{"override /guard": "jsonl"}],
        ["own", "own"],
        [{"override /search": "gradient"}],
        [{"override hydra/launcher": "basic"}],
        [{"override /hydra/launcher": "nope"}],
    ]
)
_BROKEN = st.sampled_from(
    [
        b"",
        b"\n",
        b"a: [1",
        b"a: b: c",
        b"\ta: 1",
        b"a: 1\na: 2",
        b"- 1\n- 2",
        b"just a word",
        b"1",
        b"null",
        b"a: 'b",
        b"a: *b",
        b"a: &a [*a]",
        b"a: &a\n  b: *a",
        b"<<: 1",
        b"<<: *x",
        b"{",
        b"]",
        b"? a\n? b",
        b"!!set {a}",
        b"a: !nope 1",
        b"!!map 1",
        b"rho: !!python/object/apply:os.system ['touch pwned']",
        b"!!python/object/new:os.getcwd []",
        b"rho: !!python/name:os",
        b"rho: !!float x",
        b"rho: !!int 1.5",
        b"rho: !!binary AAAA",
        b"tau: 2020-01-01",
        b"layer: 1:30",
        b"seed: 0o17",
        b"seed: 017",
        b"rho: .nan",
        b"rho: .inf",
        b"rho: -.inf",
        b"rho: 1e400",
        b"rho: 1e-2",
        b"layer: 99999999999999999999",
        b"dry_run: yes",
        b"tau: \xff\xfe",
        b"\xff\xfet\x00a\x00u\x00",
        b"\xef\xbb\xbftau: fc_in",
        b"tau: \x00",
        b"\x00",
        b"\x80\x81",
        b"tau: \xe2\x80\xa8",
        b"a: ${b}\nb: ${a}",
        b"rho: ${rho}",
        b"rho: ${.rho}",
        b"model: ${model}",
        b"rho: ???",
        b"model: ???",
        b"tau: ${oc.env:NO}",
        b"--- \na: 1\n--- \nb: 2",
        b"%FOO\n---\na: 1",
        b"1: 2",
        b"null: 1",
        b"true: 1",
        b"[1]: 2",
        b"{a: b}: c",
        b"1.5: x",
        b"'': 1",
        b"tau.x: 1",
        b"model.dtype: float16",
        b"_target_: os.getcwd",
        b"_self_: 1",
        b"defaults: 1",
        b"hydra: 1",
        b"hydra: {run: 1}",
        b"tau: |\n  fc_in\n",
        b"tau: >-\n  fc_in",
        b"a: " + b"[" * 300,
        b"a: " + b"[" * 300 + b"]" * 300,
        b"a: " + b"x" * 10000,
        b'# @package _global_\nstore: {path: "a\\0b"}',
        b'# @package _global_\nsweep: "a\\nb\\u2028c\\e[2J"',
        b"hydra: null",
        b'# @package _global_\ndataset: {path: "a\\0b.csv"}',
        b'# @package _global_\nmodel: {path: "a\\0b", name: "\\0"}',
        b"# @package _global_\ncluster: {env: {A: 1}}",
        b"# @package _global_\ncluster: {env: [A]}",
        b"# @package _global_\ntau: null",
    ]
)


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as a tree; of two keys that need the same place the later stays."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, last = key.split(".")
        at = tree
        for group in groups:
            if not isinstance(at.get(group), dict):
                at[group] = {}
            at = at[group]
        at[last] = value
    return tree


@st.composite
def _written(draw: st.DrawFn, group: str) -> bytes:
    """A file of settings, nearly always YAML."""
    whole = draw(st.booleans())  # what stands under its group, or over all
    keys = st.sampled_from(KEYS)
    own = [key.removeprefix(f"{group}.") for key in KEYS if key.startswith(f"{group}.")]
    if own and not whole:
        keys = st.sampled_from(own)
    tree = _nested(draw(st.dictionaries(st.one_of(keys, keys, mistyped(keys), NAMES, TEXTS), OBJECTS, max_size=4)))
    content: dict[str, Any] = {"defaults": draw(_DEFAULTS)} if draw(st.integers(0, 3)) == 3 else {}
    text = yaml.safe_dump({**content, **tree}, allow_unicode=draw(st.booleans()), sort_keys=False)
    header = "# @package _global_\n" if whole else draw(_HEADERS)
    written = f"{header}{text}".encode("utf-8", "surrogateescape")
    if draw(st.integers(0, 7)) == 7:
        cut = draw(st.integers(0, len(written)))
        written = written[:cut] + draw(st.binary(max_size=3)) + written[cut + 1 :]
    return written


@st.composite
def _copied(draw: st.DrawFn, group: str) -> bytes:
    """A file that is shipped, mostly with one change."""
    file = draw(st.sampled_from(sorted((CONF / group).glob("*.yaml"))))
    text = file.read_text()
    how = draw(st.integers(0, 4))
    if how == 0:
        return text.encode()
    tree = yaml.safe_load(text) or {}
    header = text.partition("\n")[0] + "\n" if text.startswith("# @package") else ""
    key = draw(st.sampled_from(sorted(tree)))
    if how == 1:
        del tree[key]
    elif how == 2:
        tree[draw(mistyped(st.just(key)))] = tree.pop(key)
    elif isinstance(tree[key], dict) and tree[key] and draw(st.booleans()):
        tree[key][draw(st.sampled_from(sorted(tree[key])))] = draw(OBJECTS)
    else:
        right = RIGHT.get(key, RIGHT.get(f"{group}.{key}"))
        tree[key] = yaml.safe_load(draw(right)) if right is not None and how == 3 else draw(OBJECTS)
    return (header + yaml.safe_dump(tree, allow_unicode=draw(st.booleans()), sort_keys=False)).encode()


@st.composite
def conf_cases(draw: st.DrawFn) -> tuple[list[str], Files]:
    """A command line with `--config-dir`, and the files under that directory."""
    files: Files = {}
    words = []
    for group in draw(st.lists(_FILES, min_size=1, max_size=2, unique=True)):
        files[f"{DIRECTORY}/{group}/{_OWN}.yaml"] = draw(
            st.one_of(_copied(group), _copied(group), _written(group), _BROKEN)
        )
        words.append(f"{draw(st.sampled_from(['', '', '', '+']))}{group}={_OWN}")
    if draw(st.integers(0, 19)) == 19:
        name = draw(
            st.sampled_from(["config.yaml", "own.yaml", "model/demo.yaml", f"model/{_OWN}.yml", "hydra/help/x.yaml"])
        )
        files[f"{DIRECTORY}/{name}"] = draw(_BROKEN)
        words += draw(st.sampled_from([[], ["--config-name=own"], ["--config-name", "config"]]))
    words += draw(st.lists(st.one_of(GOOD, GOOD, ANY), max_size=2))
    at = draw(st.integers(0, len(words)))
    words[at:at] = draw(
        st.sampled_from([["--config-dir", DIRECTORY], ["-cd", DIRECTORY], [f"--config-dir={DIRECTORY}"]])
    )
    words += draw(st.sampled_from([[], ["-m"]]))
    return [*QUICK, *words, "dry_run=true"], files
