"""``archsim plan``: ways to use a machine, ranked: to train on it, or to serve with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsim.errors import InputError, Problem

if TYPE_CHECKING:
    from archsim.serving.deploy import Deployment
    from archsim.serving.plan import Asked

Text = str | None


def command(
    train: Annotated[bool, typer.Option("--train", help="Plan a step of training.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Plan a service.")] = False,
    model: Annotated[Text, typer.Option(help="Model: shipped name, its name at Hugging Face, or a file.")] = None,
    system: Annotated[Text, typer.Option(help="System, or chip to serve with: shipped name or file.")] = None,
    device: Annotated[Text, typer.Option(help="Training: GPU, in its usual machine.")] = None,
    gpus: Annotated[Text, typer.Option(help="GPUs: in all to train on; at most, to serve with (64 if absent).")] = None,
    precision: Annotated[Text, typer.Option(help="fp16, bf16, fp8, mxfp8, nvfp4, int4, ...")] = None,
    batch: Annotated[Text, typer.Option(help="Training: sequences of a step.")] = None,
    seq: Annotated[Text, typer.Option(help="Training: tokens of a sequence; the model's longest if absent.")] = None,
    framework: Annotated[Text, typer.Option(help="Training: shipped framework or file.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Training: plans that are shown.")] = 15,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="For all plans or points.")] = None,
    rate: Annotated[float, typer.Option(help="Serving: requests of a second.")] = 1.0,
    input: Annotated[int, typer.Option(min=1, help="Serving: tokens of a prompt.")] = 1000,
    output: Annotated[int, typer.Option(min=1, help="Serving: tokens of an answer.")] = 200,
    gpu_hour: Annotated[float, typer.Option(help="Serving: USD of an hour of a chip, for money per token.")] = 0.0,
    kwh: Annotated[float, typer.Option(help="Serving: USD of a kWh beside it.")] = 0.0,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Serving: for a page with throughput against speed.")
    ] = None,
    slo: Annotated[str, typer.Option(help="Serving: objectives of nine of ten requests: ttft=500ms,tpot=20ms.")] = "",
    engine: Annotated[str, typer.Option(help="Serving: vllm, sglang, trtllm, or a file.")] = "vllm",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Find the best ways to use chips. Training: all legal cuts, by memory and time, and why each loser loses. Serving:
    how chips are grouped, and how few will do, by chips and by the energy of a token.

    \b
    archsim plan --train --model gpt3-175b --system selene --gpus 1024 --batch 1536 --precision fp16
    archsim plan --train --model llama-3-70b --device h100_sxm --gpus 64 --batch 256 --precision fp8 --out answers.csv
    archsim plan --serve --model llama-3.1-8b --system h100_sxm --rate 20 --slo ttft=500ms,tpot=20ms
    archsim plan --serve --model qwen3-8b --system l40s --rate 4 --slo tpot=50ms --gpu-hour 1.2 --report page.html
    """
    if train == serve:
        raise InputError("say what is planned: --train or --serve")
    if train:
        asked = {"model": model, "system": system, "device": device, "gpus": gpus, "global_batch": batch, "seq": seq}
        plan_training(asked | {"precision": precision, "framework": framework}, top, out, json)
        return
    from archsim.serving.classes import objectives_of
    from archsim.serving.deploy import Deployment, engine_named
    from archsim.serving.plan import Asked

    for name, value in (("--model", model), ("--system", system)):
        if not value:
            raise InputError([Problem("is missing", name)])
    if not rate > 0:
        raise InputError([Problem(f"expected more than 0 requests of a second, not {rate:g}", "--rate")])
    for name, usd in (("--gpu-hour", gpu_hour), ("--kwh", kwh)):
        if not 0 <= usd < 1e6:
            raise InputError([Problem(f"expected USD from 0 on, not {usd:g}", name)])
    deployment = Deployment(str(model), str(system), engine_named(engine), weights=precision or "")
    wanted = Asked(rate, input, output, objectives_of(slo), _gpus(gpus or "64"), gpu_hour, kwh)
    plan_serving(deployment, wanted, out, report, json)


def _gpus(text: str) -> int:
    from archsim.units import whole

    try:
        return whole(text, 1, 2**20)
    except InputError as error:
        raise InputError([Problem(problem.message, "--gpus") for problem in error.problems]) from None


def plan_serving(deployment: Deployment, asked: Asked, out: Path | None, report: Path | None, as_json: bool) -> None:
    """Rank the ways to serve and print them; 'apart' has workers for prompts and for answers."""
    from archsim.cli.output import console, output_file, print_json
    from archsim.cli.tables import table
    from archsim.files import csv_text, write_text
    from archsim.report.plan import page
    from archsim.serving.plan import plan

    output_file(out)
    output_file(report)
    found = plan(deployment, asked)
    ways = found.ways
    if out is not None:
        write_text(out, csv_text(found.points))
    if report is not None:
        title = f"{deployment.model} on {deployment.chip}, {asked.rate:g} requests a second"
        write_text(report, page(title, ways, found.points))
    if as_json:
        print_json({"ways": ways, "points": found.points})
        return
    heads = [head for head in ways[0] if any(way[head] is not None for way in ways)]
    console().print(table(heads, [tuple(way[head] for head in heads) for way in ways], heads[1:]))


def plan_training(asked: Mapping[str, str | None], top: int, out: Path | None, as_json: bool) -> None:
    """Rank the plans, print the best, write all."""
    from archsim.alone.sheet import placed
    from archsim.alone.train import QUESTION
    from archsim.cli.output import console, output_file, print_json, progress
    from archsim.cli.tables import table
    from archsim.files import csv_text, write_text
    from archsim.training.cases import setup_of
    from archsim.training.plans import plans

    output_file(out)
    case = {name: text for name, text in asked.items() if text}
    for name, flag in (("model", "--model"), ("gpus", "--gpus"), ("global_batch", "--batch")):
        if name not in case:
            raise InputError([Problem("is missing", flag)])
    gpus = _gpus(case.pop("gpus"))
    try:
        setup = setup_of(QUESTION.case(case))
        with progress("plans") as told:
            found = plans(setup, gpus, told)
    except InputError as error:
        raise InputError([placed(problem, QUESTION) for problem in error.problems]) from None
    best = found[0] if found[0].found is not None else None
    rows = [plan.row(best) for plan in found]
    if out is not None:
        write_text(out, csv_text(rows))
    if as_json:
        print_json(rows if out is None else rows[:top])
        return
    shown = rows[:top] + [row for row in rows[top:] if "fit" in row["why"]][:3]
    columns = tuple(shown[0])
    console().print(table(columns, [tuple(row.values()) for row in shown], columns[:-1]))
    fit = sum(plan.over_bytes <= 0 for plan in found)
    console().print(f"{len(found)} plans, {fit} fit {setup.timer.memory_bytes / 1e9:.0f} GB; {setup.framework.name}")
