"""Eager 1F1B: twice the micro-batches ahead, so that messages between stages are hidden (arXiv 2211.05322)."""

from archsim.workloads.step.schedule import Pass, Schedule


class Eager(Schedule):
    """One forward, one backward, after twice as many forward passes as there are stages behind."""

    parts = 1

    def passes(self, stage: int, stages: int, parts: int, micro_batches: int) -> list[Pass]:
        ahead = min(2 * (stages - 1 - stage), micro_batches)
        order = [Pass("forward", 0, m) for m in range(ahead)]
        for m in range(micro_batches - ahead):
            order += (Pass("forward", 0, ahead + m), Pass("backward", 0, m))
        return order + [Pass("backward", 0, m) for m in range(micro_batches - ahead, micro_batches)]
