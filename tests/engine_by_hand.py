"""An engine alone, driven by hand at a made-up pace: what schedulers decide is asked of it."""

from __future__ import annotations

from archsim.workloads.engine import Engine
from archsim.workloads.sequences import Served


def cost(prompt_tokens: int, decodes: int) -> int:
    """Picoseconds of an iteration, for schedulers alone."""
    return 7 + 3 * prompt_tokens + decodes


def served(requests, limits, policy, look=lambda engine, coming: None, looks=1, ahead=False):
    """An engine driven by hand."""
    engine = Engine(limits, policy, looks, ahead)
    coming = [Served(n, r.arrival_ps, r.input, r.output, r.contents, r.arrival_ps) for n, r in enumerate(requests)]
    now = 0
    while True:
        while coming and coming[0].seen_ps <= now:
            engine.submit(coming.pop(0))
        iteration = engine.next(now)
        look(engine, coming)
        if iteration is None:
            if not coming:
                return engine
            now = coming[0].seen_ps
            continue
        start, ends = now, []
        for _ in range(iteration.steps):
            moved = 5 * iteration.fetched + 2 * iteration.stored
            now += moved + cost(sum(n for _, n in iteration.prompts), len(iteration.decodes))
            ends.append(now)
            if coming and not iteration.patient and now >= coming[0].seen_ps:
                break
        engine.ended(iteration, start, ends)
