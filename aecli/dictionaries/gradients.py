"""The gradients of a dictionary's loss, added up over the parts of a batch."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from aecli.dictionaries.places import Places, at_once

Memory = tuple[Tensor, Tensor] | None


class Weights(NamedTuple):
    """The parameters of a dictionary."""

    W_enc: Tensor
    """`(n, d)`."""
    W_dec: Tensor
    """`(n, d)`, of a transcoder `(n, e)`."""
    b_enc: Tensor
    """`(n,)`."""
    b_dec: Tensor
    """`(d,)`, or `(e,)`."""
    others: tuple[Tensor, ...]
    """Those of its selection."""


class Leaves(NamedTuple):
    """What the loss of R rows is differentiated by, as far as plain autograd goes."""

    a: Tensor
    """The pre-activations at M places, `(M,)`."""
    code: Tensor
    """z there, `(M,)`."""
    sums: Tensor
    """Σ_i z_i W_dec,i of each bag, `(bags, d)`."""


class Gradients:
    """The gradients of the loss of a batch by all weights, added up over its parts.

    Autograd differentiates the loss of a part by its pre-activations a and by what is decoded, S.
    With these at M places, Δ = ∂loss/∂a and G = ∂loss/∂S, and with Z for the code,

        dW_dec = Zᵀ G,  dW_enc = Δᵀ (x − b_dec),  db_enc = Σ Δ,  db_dec = −(Σ Δ) W_enc,

    beside what reaches the biases on other ways; a transcoder, which subtracts a constant c from x
    in place of b_dec, has nothing of db_dec here. Only the sums over the parts are held, in all
    two `(n, d)` tensors, whatever B is.

    Args:
        weights: by which the loss is differentiated.
        norms: ‖W_dec,i‖, `(n,)`, by which the loss is differentiated, too. None where they are 1
            and stay so: the gradient's part along each row is left out. It is then the gradient of
            the same function of W_dec,i / ‖W_dec,i‖.
        is_tied: whether b_dec is what is subtracted from x, and not a constant.
        memory: where the gradients of W_enc and W_dec are written; None for new memory.
    """

    def __init__(
        self, weights: Weights, norms: Tensor | None, is_tied: bool, memory: Memory = None
    ) -> None:
        self.weights, self.is_tied = weights, is_tied
        self.norms = None if norms is None else norms.requires_grad_()
        if memory is None:
            memory = torch.empty_like(weights.W_enc), torch.empty_like(weights.W_dec)
        # Other tensors on the same memory: autograd takes those that nobody else holds as they are.
        self.of_enc, self.of_dec = (tensor.detach() for tensor in memory)
        self.of_a = torch.zeros_like(weights.b_enc)
        small = [weights.b_enc, weights.b_dec, *weights.others]
        self._small = small if norms is None else [*small, norms]
        self._of_small = [torch.zeros_like(weight) for weight in self._small]
        self._is_begun = False

    def add(self, loss: Tensor, leaves: Leaves, places: Places, around: Tensor) -> None:
        """Add the gradients of a part of R rows; `around` is x − b_dec `(R, d)`, or x − c."""
        wanted = [
            (w, g) for w, g in zip(self._small, self._of_small, strict=True) if w.requires_grad
        ]
        small = [weight for weight, _ in wanted]
        of_a, of_sums, *of_small = torch.autograd.grad(
            loss, (leaves.a, leaves.sums, *small), allow_unused=True
        )
        for (_, added), gradient in zip(wanted, of_small, strict=True):
            if gradient is not None:
                added += gradient
        more = self._is_begun
        places.sums_by_latent(leaves.code.detach(), of_sums, self.of_dec, add=more)
        places.sums_by_latent(of_a, around, self.of_enc, add=more)
        self.of_a += places.totals(of_a)
        self._is_begun = True

    def finish(self) -> list[Tensor]:
        """Return the sums, in the order of the weights."""
        if self.norms is None:
            leave_out_along(self.weights.W_dec.detach(), self.of_dec)
        else:  # the gradient of a norm by its row is the row, of norm 1
            norms = self.norms.detach().clamp_min(torch.finfo(self.norms.dtype).tiny)
            share = self._of_small.pop() / norms
            self.of_dec.addcmul_(share[:, None], self.weights.W_dec.detach())
        of_b_enc, of_b_dec, *of_others = self._of_small
        of_b_enc += self.of_a
        if self.is_tied:
            of_b_dec -= self.of_a @ self.weights.W_enc.detach()
        return [self.of_enc, self.of_dec, of_b_enc, of_b_dec, *of_others]

    def attached_to(self, loss: Tensor) -> Tensor:
        """Return the loss, differentiable: by the weights its gradients are those added up."""
        weights = self.weights
        return _Attached.apply(loss, self.finish(), *weights[:-1], *weights.others)


def leave_out_along(rows: Tensor, gradients: Tensor) -> None:
    """Subtract from gradients `(n, d)` their parts along rows of norm 1, `(n, d)`."""
    size = at_once(rows.shape[1], rows.device) or len(rows)
    for row, gradient in zip(rows.split(size), gradients.split(size), strict=True):
        gradient.addcmul_(torch.linalg.vecdot(gradient, row)[:, None], row, value=-1)


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of a dictionary's loss can be taken only once")
        gradients, ctx.gradients = ctx.gradients, None
        for gradient in gradients:
            gradient *= grad
        return None, None, *gradients
