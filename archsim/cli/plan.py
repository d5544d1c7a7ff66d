"""``archsim plan``: the best way to use a machine."""

from __future__ import annotations

from typing import Annotated

import typer

from archsim.errors import InputError, Problem


def command(
    serve: Annotated[bool, typer.Option("--serve", help="Plan a service.")] = False,
    model: Annotated[str, typer.Option(help="Model: shipped name, its name at Hugging Face, or a file.")] = "",
    system: Annotated[str, typer.Option(help="Chip or system: shipped name or file.")] = "",
    rate: Annotated[float, typer.Option(help="Requests of a second.")] = 1.0,
    input: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 1000,
    output: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 200,
    slo: Annotated[str, typer.Option(help="Objectives of nine of ten requests: ttft=500ms,tpot=20ms.")] = "",
    gpus: Annotated[int, typer.Option(min=1, max=2**20, help="Chips that there are at most.")] = 64,
    engine: Annotated[str, typer.Option(help="vllm, sglang, trtllm, or a file.")] = "vllm",
    precision: Annotated[str, typer.Option(help="Weights: bf16, fp8, nvfp4, int4, ...")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Find the best way to use chips: how they are grouped, and how few will do.

    \b
    archsim plan --serve --model llama-3.1-8b --system h100_sxm --rate 20 --slo ttft=500ms,tpot=20ms
    archsim plan --serve --model qwen3-32b --system h100_sxm --rate 8 --input 2000 --output 500 --slo ttft=1s --json

    Ways are ranked by their chips, then by the energy of a token; 'apart' has workers for prompts and for answers.
    """
    from archsim.cli.output import console, print_json
    from archsim.cli.tables import table
    from archsim.deploy import Deployment, engine_named
    from archsim.serve_cases import objectives_of
    from archsim.serving_plan import Asked, plan

    if not serve:
        raise InputError("say what is planned: --serve")
    for name, value in (("--model", model), ("--system", system)):
        if not value:
            raise InputError([Problem("is missing", name)])
    if not rate > 0:
        raise InputError([Problem(f"expected more than 0 requests of a second, not {rate:g}", "--rate")])
    deployment = Deployment(model, system, engine_named(engine), weights=precision)
    ways = plan(deployment, Asked(rate, input, output, objectives_of(slo), gpus))
    if json:
        print_json(ways)
        return
    heads = list(ways[0])
    console().print(table(heads, [tuple(way.values()) for way in ways], heads[1:]))
