"""Values as they are written on a command line of Hydra: right ones of every kind, wrong ones, and what is neither."""

from __future__ import annotations

import math

from hypothesis import strategies as st

# A lone surrogate stands for a byte that is no UTF-8, as Python reads command lines. No line can hold a NUL.
CHARACTERS = st.one_of(
    st.characters(min_codepoint=1, max_codepoint=0x2FF, exclude_categories=()),
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    st.sampled_from("\udc80\udcff'\"\\${}[](),:=~+@/.- \t\n\r\x1b\x85 ‮ρτℓ"),
)
TEXTS = st.text(CHARACTERS, max_size=12)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)


def mentioned(text: str) -> str:
    """Text in the quotes of Hydra, which reads it back as it is."""
    return "'" + text.replace("\\'", "\\\\'").replace("'", "\\'") + "'"


_REFERENCES = r"""
${seed} ${rho} ${tau} ${nope} ${.name} ${..path} ${....} ${model} ${store.path} ${ ${model.nope} ${oc.env:HOME}
${oc.env:NO_SUCH_NAME} ${oc.env:NO_SUCH_NAME,0.5} ${oc.env:NO,null} ${oc.decode:'['} ${oc.decode:0.5}
${oc.create:{a:1}} ${oc.select:nope} ${oc.select:nope,1} $ ${oc.dict.keys:model} ${oc.dict.values:model}
${now:%Y} ${hydra:job.name} ${hydra:runtime.cwd} ${python_version:} ${nope:1} ${${seed}}
a${seed}b \${seed} ${seed ${} ${seed}${rho} [${seed},${nope}] {a:${seed}} ${hydra.job.num} ${oc.env:PATH}
"""
_SWEPT = """
range(0,3) range(4) range(3,0) range(3,0,-1) range(0,1,0.25) range(0,1,0) range(1) range(a,b) range()
range(0,1e9,1e9) range(0,inf) range(nan,1) range(0,2,step=1) range(-1,1) interval(0,1) interval(1,0)
interval(0,nan) interval(a,b) int(interval(0,9)) interval() choice(0,1) choice() choice(fc_in,fc_out)
choice([0,1],[2]) choice({a:1}) choice(null,0) choice(range(0,2)) glob(*) glob(demo) glob([l*,d*])
glob(*,exclude=demo) glob( glob() shuffle(0,1,2) shuffle(range(3)) sort(2,1) sort(2,a)
sort(range(3),reverse=true) tag(a,0,1) tag(interval(0,1)) float(1) int(0.5) int(a) str(1) bool(1) json_str([1])
float(nope) extend_list(1) extend_list(a,b) 0,1 0.1,0.2,0.3 fc_in,fc_out last,0 , 0, ,0 0,,1 [0],[1] [0,1],1
{a:1},{a:2} nope(1) choice( demo,nope demo,demo null,null true,false
"""
_SYMBOLS = r"""
null true false yes no on off none None ??? '' "" [] {} [[]] [{}] fc_in last each all auto demo ~ . .. / - -- -1
= a=b a:b \ {a:} 2020-01-01 12:30 0o17 !!python/name:os.system *a &a %s {0} [red] é 𝜌
"""
NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(-3, 40).map(str),
    st.floats().map(repr),
    st.floats(0, 1).map(repr),
    st.sampled_from(
        [
            "-0",
            "0x10",
            "1_000",
            "1e400",
            "-1e400",
            "1e-400",
            "nan",
            "inf",
            "-inf",
            "+inf",
            "NaN",
            ".5",
            "5.",
            "1e3",
            "9" * 400,
            "1" + "0" * 5000,
            "0." + "0" * 500 + "1",
            "٣",
            "1,5",
            "10%",
            "1/2",
            "- 1",
        ]
    ),
)
INTERPOLATIONS = st.sampled_from(_REFERENCES.split())
SWEEPS = st.one_of(
    st.sampled_from(_SWEPT.split()),
    st.lists(NUMBERS, min_size=2, max_size=4).map(",".join),
)
WORDS = st.sampled_from(
    [
        *_SYMBOLS.split(),
        "",
        "# no",
        "a #b",
    ]
)
PRIMITIVES = st.one_of(NUMBERS, WORDS, NAMES, TEXTS.map(mentioned), INTERPOLATIONS)
VALUES = st.one_of(
    PRIMITIVES,
    st.recursive(
        PRIMITIVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
            st.dictionaries(NAMES, inner, max_size=3).map(
                lambda items: f"{{{','.join(f'{key}:{value}' for key, value in items.items())}}}"
            ),
        ),
        max_leaves=6,
    ),
    SWEEPS,
    TEXTS,
    st.sampled_from(["[" * 60, "{a:" * 60, "[" * 60 + "]" * 60, "(" * 60, "a" * 5000, "," * 200]),
)

# Objects as a file holds them.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 40),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([math.nan, math.inf, -math.inf, 10**400, -(10**30), 2**63, 2**64]),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    NAMES,
    INTERPOLATIONS,
    WORDS,
)
OBJECTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(NAMES, TEXTS), inner, max_size=3)),
    max_leaves=6,
)
