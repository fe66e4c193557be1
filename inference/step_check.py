"""A compiled step held to `pyro.infer.SVI`: the same loss and gradient under the same noise."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from .deck import dealt
from .graph import NoGraph, first_line
from .step import Example, Step, Training
from .warmup import warmed

__all__ = ["gap", "least", "most", "reference"]

ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative, between a graph and Pyro: sums in another order
AT_LEAST = {torch.float64: 1e-12, torch.float32: 1e-6}  # the same, that is always to be expected


def most(training: Training) -> float:
    """The gap that sums in another order explain."""
    return _by_precision(ROUNDING, training)


def least(training: Training) -> float:
    """The gap that is always to be expected."""
    return _by_precision(AT_LEAST, training)


def _by_precision(gaps: dict[torch.dtype, float], training: Training) -> float:
    return gaps[torch.float64 if training.data.dtype == torch.float64 else torch.float32]


def gap(step: Step, training: Training, examples: tuple[Example, ...]) -> float:
    """How far loss and gradient are from Pyro's own, relative, under the same noise."""
    state = training.start()
    try:
        return max(_gap_at(step, training, example) for example in examples)
    except (RuntimeError, ValueError, AssertionError) as error:  # a factorization that fails, say
        raise NoGraph(f"it could not be checked ({first_line(error)})") from error
    finally:
        training.write(state.flat)


def _gap_at(step: Step, training: Training, example: Example) -> float:
    training.write(example.state.flat)
    loss, gradient = reference(training, example.hand)
    torch.manual_seed(0)
    got_loss, got_gradient = step.one(*example.state, example.hand)[:2]
    largest = gradient.abs().max().clamp(min=torch.finfo(gradient.dtype).tiny)
    of_gradient = float((got_gradient - gradient).abs().max() / largest)
    of_loss = abs(float(got_loss) - loss) / max(1.0, abs(loss))
    return max(of_gradient, of_loss) if math.isfinite(of_gradient + of_loss) else math.inf


def reference(training: Training, hand: Tensor) -> tuple[float, Tensor]:
    """Loss, nats, and gradient, (P,), of Pyro's estimator at the parameters in its store, seed 0, the first step."""
    pairing, params = training.pairing, training.params.values()
    for value in params:
        value.grad = None
    torch.manual_seed(0)
    with torch.enable_grad(), dealt(training.deck.by_plate(hand)), warmed(0, training.course.warmup):
        loss = float(training.data.run(partial(pairing.elbo.loss_and_grads, pairing.program, pairing.guide)))
    gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in params]
    for value in params:
        value.grad = None
    return loss, torch.cat([gradient.reshape(-1) for gradient in gradients])
