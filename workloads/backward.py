"""The backward pass of a list of ops: gradients of inputs and of weights, in reverse order.

==================  ================================================================================================
product             gradient of its left operand, then that of its weights, which is kept for the optimizer
attention           five products for the forward pass's two (FlashAttention-2, arXiv 2307.08691, section 3.1.2)
row-wise function   the function once more, the gradient of its output read besides
sum over ranks      what a row-split layer sums going forward is copied going back, and the other way round, so the sum
                    stands before the norm that the branch began with (Megatron-LM, arXiv 1909.08053, figure 3)
==================  ================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from archsim.errors import InputError
from archsim.workloads.op import Attention, Collective, DType, Embedding, MatMul, Op, Role, Vector


def backward(ops: Sequence[Op], gradient: DType) -> tuple[Op, ...]:
    """The backward pass of ops that follow each other.

    Parameters
    ----------
    gradient: format in which gradients of weights are kept.

    Raises
    ------
    InputError: an op of whose gradient nothing is known.
    """
    return tuple(_backward(ops, gradient))


def _backward(ops: Sequence[Op], gradient: DType) -> Iterator[Op]:
    pending: list[Collective] = []
    products: list[str] = []  # since the last op that is none: their inputs' gradients are summed over the ranks
    for op in reversed(ops):
        match op:
            case Collective():
                pending.append(op)
            case MatMul():
                products.append(f"{op.name}_dgrad")
                yield from _product(op, gradient)
            case Attention():
                products = []
                yield replace(op, name=f"{op.name}_grad", after=None, passes=(5, 2))
            case Vector():
                if op.function in ("rmsnorm", "layernorm") and pending:
                    reduce = pending.pop()
                    producer = products[0] if len(products) == 1 else None
                    yield replace(reduce, name=f"{reduce.name}_grad", after=None, producer=producer)
                products = []
                yield replace(op, name=f"{op.name}_grad", after=None, inputs=op.inputs + 1, within="")
            case Embedding():
                yield _scatter(op, gradient)
            case _:
                raise InputError(f"nothing is known of the gradient of '{op.name}' ({op.kind})")
    for reduce in pending:
        yield replace(reduce, name=f"{reduce.name}_grad", after=None, producer=None)


def _product(op: MatMul, gradient: DType) -> Iterator[MatMul]:
    """[m, n] x [n, k] for the input, [k, m] x [m, n] for the weights; a bias's gradient is a sum within the latter."""
    yield replace(
        op,
        name=f"{op.name}_dgrad",
        after=None,
        k=op.n,
        n=op.k,
        bias=False,
        left_dtype=op.out_dtype,
        out_dtype=op.left_dtype,
    )
    if op.right is Role.WEIGHT:
        yield replace(
            op,
            name=f"{op.name}_wgrad",
            after=None,
            m=op.k,
            k=op.m,
            bias=False,
            right=Role.ACTIVATION,
            right_dtype=op.out_dtype,
            out_dtype=gradient,
            scales=None,
        )


def _scatter(op: Embedding, gradient: DType) -> Vector:
    """Rows of gradients added to those of the table."""
    return Vector(
        name=f"{op.name}_grad", function="add", rows=op.tokens, width=op.width, inputs=2, outputs=1, dtype=gradient
    )


def saved_bytes(ops: Sequence[Op], dropout: bool) -> int:
    """Bytes that the backward pass of ops needs of the forward one (arXiv 2205.05198, section 4.1).

    Left operands of products, queries, keys and values of attention, inputs of norms and activations; with dropout a
    byte for each element of a residual sum. What is summed or gathered is held by its consumer already.
    """
    total = 0
    for op in ops:
        if isinstance(op, MatMul):
            total += _int(op.left_bytes())
        elif isinstance(op, Attention):
            total += _int(op.query_bytes() + op.kv_bytes())
        elif isinstance(op, Vector) and op.function == "residual":
            total += _int(op.elements()) if dropout else 0
        elif isinstance(op, Vector) and op.function not in ("rotary", "convert", "add"):
            total += _int(op.dtype.bytes(op.inputs * op.elements()))
    return total


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a training step has one size")
    return value
