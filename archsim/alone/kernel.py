"""A GPU asked alone for a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from archsim.alone.question import Answer, Case, Column, Question, in_halves
from archsim.errors import InputError

_MOST = 2**31
_FIGURES = (
    "latency_us",
    "latency_low_us",
    "latency_high_us",
    "power_w",
    "energy_j",
    "pj_per_flop",
    "tflops",
    "gb_per_s",
    "bound",
    "tile",
    "split_k",
    "active_experts",
    "tokens_of_rank",
)
_USUAL = {"kv_dtype": "bfloat16", "tp": "1", "ep": "1", "distribution": "balanced"}


def _of_kernel(question: Question, settings: Mapping[str, str]) -> Question:
    """The columns of one kernel: words, and numbers, which are whole."""
    from archsim.kernels import MORE, OPS, WORDS

    op = settings["op of kernel"]
    if not op:
        return _of_any(question)
    columns = [column for column in question.columns if not column.setting and column.name not in OPS[op]]
    for name in (*OPS[op], *MORE.get(op, ())):
        shown = next((column for column in question.columns if column.name == name), Column(name, option=None))
        aliases = ("isl",) if name == "kv_len" else ("function",) if name == "op" else ()
        kind = replace(shown, usual=_USUAL.get(name, ""), aliases=aliases, most=_MOST)
        columns.append(kind if name in WORDS else replace(kind, kind="whole"))
    more = ["function" if name == "op" else name for name in (*OPS[op], *MORE.get(op, ()))]

    def answers(cases: Sequence[Case]) -> list[Answer]:
        return _answers(op, cases)

    return replace(
        question,
        columns=tuple(columns),
        needed=("device", *OPS[op]),
        answers=answers,
        more=(*more, "kernel", "measurement", "library"),
    )


def _answers(op: str, cases: Sequence[Case]) -> list[Answer]:
    """Answers of kernels of one op, chip by chip and kind by kind, so that one that fails leaves the others."""
    from archsim.config import load_spec
    from archsim.kernels import answer, kinds
    from archsim.machine import ChipSpec

    found: list[Answer] = [{}] * len(cases)
    for chip in dict.fromkeys(case["device"] for case in cases):
        mine = [i for i, case in enumerate(cases) if case["device"] == chip]
        try:
            spec = load_spec(chip, ChipSpec, category="chips")
        except InputError as error:
            found = [error if case["device"] == chip else answered for case, answered in zip(cases, found, strict=True)]
            continue

        def figures(asked: Sequence[Case], spec: ChipSpec = spec) -> list[Answer]:
            rows = zip(asked, answer(spec, op, asked), strict=True)
            return [{name: value for name, value in row.items() if name not in case} for case, row in rows]

        # A measured latency is no part of what is asked.
        asked = [
            {f"given_{name}" if name in _FIGURES else name: value for name, value in cases[i].items()} for i in mine
        ]
        for which in kinds(op, asked).values():
            for j, answered in zip(which, in_halves(figures, [asked[j] for j in which]), strict=True):
                found[mine[j]] = answered
    return found


_TOLD_BY = {
    "moe": ("num_tokens", "hidden", "inter"),
    "attention": ("phase", "batch", "heads", "kv_heads", "head_dim"),
    "elementwise": ("rows", "cols"),
    "gemm": ("m", "n", "k"),
}
"""Columns of which a case of each kernel has at least two."""
_ELSEWHERE = (
    (("message_bytes", "op_name", "nranks"), "an exchange between GPUs is asked of 'archsim collective'"),
    (("input_toks", "osl", "batch_size_per_gpu"), "a served model is asked of 'archsim serve'"),
    (("iteration_ms", "iter_time_s", "global_batch"), "a model's step is asked of 'archsim train'"),
    (("block",), "areas are asked of 'archsim show --chip ... --area'"),
)
_OF_A_CALL = ("latency_us", "latency_low_us", "latency_high_us", "energy_j")


def _op_of(case: Case) -> str:
    """The kernel that a case's columns tell.

    Raises
    ------
    InputError: they tell none.
    """
    found = {op: sum(1 for name in names if case.get(name)) for op, names in _TOLD_BY.items()}
    if found["gemm"] > 2 or max(found.values()) < 2:  # as a lone -m
        for names, where in _ELSEWHERE:
            if not found["gemm"] and any(case.get(name) for name in names):
                raise InputError(where)
        return "gemm"
    return max(found, key=lambda op: found[op] / len(_TOLD_BY[op]))


def _of_any(question: Question) -> Question:
    """The question where no kernel is named: each case's columns tell it, or its maker's table does."""
    from archsim.kernels import MORE, OPS

    each = {op: _of_kernel(question, {"op of kernel": op}) for op in OPS}

    def answers(cases: Sequence[Case]) -> list[Answer]:
        found, asked = list[Answer]([{}] * len(cases)), dict[str, list[tuple[int, Case, int]]]()
        for i, case in enumerate(cases):
            try:
                op, columns, calls = _asked(case)
                asked.setdefault(op, []).append((i, each[op].case(columns), calls))
            except InputError as error:
                found[i] = error
        for op, some in asked.items():
            for (i, _, calls), answer in zip(some, _answers(op, [case for _, case, _ in some]), strict=True):
                given = (
                    {} if isinstance(answer, InputError) else {n: calls * answer[n] for n in _OF_A_CALL if n in answer}
                )
                found[i] = answer if isinstance(answer, InputError) else answer | (given if calls > 1 else {})
        return found

    more = {name for op in OPS for name in (*OPS[op], *MORE.get(op, ()))} - {"op"}
    columns = tuple(column for column in question.columns if not column.setting)
    names = (*sorted(more), "function", "kernel", "measurement", "library")
    return replace(question, columns=columns, needed=(), answers=answers, more=names)


def _asked(case: Case) -> tuple[str, dict[str, str], int]:
    """Which kernel a case asks for, its columns, and how many calls of it."""
    from archsim.formats.kernel_tables import read

    table = read(case)
    if table is not None:
        return table.op, {**case, **table.columns}, table.calls
    return _op_of(case), dict(case), 1


def _unasked(cases: Sequence[Case]) -> list[Answer]:
    raise InputError("which kernel is asked for is not known")


_ABOUT = r"""Ask a GPU alone for a kernel: latency with its 5% to 95% band, power, energy, rate, bound and tile.

    \b
    archsim kernel --chip h100_sxm --op gemm --dtype bfloat16 -m 4096 -n 4096 -k 4096
    archsim kernel --chip a100_sxm --op attention --with phase=decode --with batch=16 --with isl=1 --with kv_len=4096 \
        --with heads=32 --with kv_heads=8 --with head_dim=128 --with window=4096
    archsim kernel --chip h100_sxm --op elementwise --with function=rmsnorm --with rows=4096 --with cols=8192
    archsim kernel --cases gemms.csv --out answers.csv       columns device, dtype, m, n, k
    archsim kernel --cases kernels.csv --json                rows of any kernels, those of LLMCompass and InferSim
    archsim kernel --op moe --cases moe.csv --json           num_tokens, hidden, inter, topk, experts, tp, ep, ...

    Latent attention: head_dim=576 v_head_dim=512 kv_shared=1. How a case was measured (column 'measurement': replay,
    power, profiler, ...) adds the host's gaps and sets the operands' activity.
""".replace(r"\b", "\b")

QUESTION = Question(
    name="kernel",
    about=_ABOUT,
    columns=(
        Column("device", "GPU: shipped name or file.", "--chip", "named", aliases=("gpu",)),
        Column(
            "op of kernel",
            "gemm, attention, moe or elementwise; what a row's columns tell where it is not given.",
            "--op",
            known=("gemm", "attention", "moe", "elementwise"),
            setting=True,
        ),
        Column("dtype", "bfloat16, float16, int8, fp8, fp8_block, ..."),
        Column("m", "Rows of the left-hand side.", "-m", metavar="M"),
        Column("n", "Columns of the right-hand side.", "-n", metavar="N"),
        Column("k", "Depth.", "-k", metavar="K"),
    ),
    answers=_unasked,
    needed=("device",),
    figures=_FIGURES,
    together=True,
    narrowed=_of_kernel,
    more=("kernel", "measurement", "library"),
    told_empty=("power_w",),
)
