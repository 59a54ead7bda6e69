"""Optimisers over stacked parameters: M configurations step at once, each with its own settings.

Parameters need no gradient of their own (`requires_grad`): gradients come from a callable.
Every parameter has the configurations along its first axis, (M, ...), and so have rates (M,). A
plain torch module is the case M = 1 with views: `[p.data[None] for p in module.parameters()]`.
The update rules are those of torch.optim.AdamW, torch.optim.SGD (Nesterov) and timm.optim.Lion;
decay is decoupled in all three, w <- w (1 - rate decay), and only for parameters that have one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Gradients = Callable[[], "list[Tensor]"]
"""Returns the gradients at the present parameters, one per parameter."""

_BETAS = {"adamw": (0.9, 0.999), "lion": (0.9, 0.99)}
_EPSILON = 1e-8
_MOMENTUM = 0.9
_MANY = 2**15
"""Weights from which on the kernel of torch is faster than the same rule in steps."""


class Optimiser(Protocol):
    """Changes parameters in place."""

    def step(self, gradients: Gradients, rates: "Sequence[float]") -> None:
        """Take one step with the given learning rates, one per configuration."""
        ...

    def state_dict(self) -> "dict[str, Tensor]":
        """Return what the next steps depend on besides the parameters; not a copy."""
        ...

    def load_state_dict(self, state: "Mapping[str, Tensor]") -> None:
        """Continue from a state; it is copied."""
        ...

    def keep(self, chosen: "Tensor", parameters: "list[Tensor]") -> None:
        """Go on with some of the configurations (their numbers), whose parameters these are."""
        ...


class Descent:
    """AdamW, SGD or Lion with optional clipping of the gradient."""

    def __init__(
        self,
        parameters: "list[Tensor]",
        *,
        rule: str,
        decays: Sequence[float],
        decayed: Sequence[bool],
        clips: Sequence[float] | None = None,
    ) -> None:
        """Start with empty moments.

        Args:
            parameters: Each of shape (M, ...), contiguous for "adamw"; changed in place.
            rule: "adamw", "sgd" or "lion".
            decays: Weight decay of each configuration.
            decayed: Which parameters decay.
            clips: Largest gradient norm of each configuration, over all its parameters.
        """
        import torch

        self._parameters, self._rule, self._decayed = parameters, rule, list(decayed)
        self._decays, self._clips = list(decays), None if clips is None else list(clips)
        n_moments = 2 if rule == "adamw" else 1
        self._moments = [[torch.zeros_like(p) for p in parameters] for _ in range(n_moments)]
        self._steps = 0

    def step(self, gradients: Gradients, rates: "Sequence[float]") -> None:
        """Take one step; `gradients` is called once, before anything is changed."""
        g = gradients()
        if self._clips is not None:
            _clip(g, self._clips)
        self._steps += 1
        if self._rule == "adamw" and sum(p.numel() for p in self._parameters) >= _MANY:
            self._fused_adamw(g, rates)
            return
        self._decay(rates)
        if self._rule == "adamw":
            self._adamw(g, rates)
            return
        update = self._sgd(g) if self._rule == "sgd" else self._lion(g)
        for p, u in zip(self._parameters, update, strict=True):
            p.sub_(u.mul_(_per_member(rates, p)))

    def state_dict(self) -> "dict[str, Tensor]":
        """Return the moments and the number of steps."""
        import torch

        state = {
            f"moment{k}.{i}": tensor
            for k, moment in enumerate(self._moments)
            for i, tensor in enumerate(moment)
        }
        return {**state, "steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: "Mapping[str, Tensor]") -> None:
        """Copy moments and number of steps."""
        for name, tensor in self.state_dict().items():
            if name != "steps":
                tensor.copy_(state[name])
        self._steps = int(state["steps"])

    def keep(self, chosen: "Tensor", parameters: "list[Tensor]") -> None:
        """Drop the other configurations."""
        self._parameters = parameters
        self._moments = [[tensor[chosen] for tensor in moment] for moment in self._moments]
        rows = chosen.tolist()
        self._decays = [self._decays[i] for i in rows]
        if self._clips is not None:
            self._clips = [self._clips[i] for i in rows]

    def _decay(self, rates: Sequence[float]) -> None:
        factors = [1 - rate * decay for rate, decay in zip(rates, self._decays, strict=True)]
        if any(factor != 1 for factor in factors):
            for p, decayed in zip(self._parameters, self._decayed, strict=True):
                if decayed:
                    p.mul_(_per_member(factors, p))

    def _adamw(self, g: "list[Tensor]", rates: Sequence[float]) -> None:
        one, two = _BETAS["adamw"]
        root = sqrt(1 - two**self._steps)
        rates = [rate * root / (1 - one**self._steps) for rate in rates]
        for p, gradient, m, v in zip(self._parameters, g, *self._moments, strict=True):
            m.lerp_(gradient, 1 - one)
            v.mul_(two).addcmul_(gradient, gradient, value=1 - two)
            p.addcdiv_(m * _per_member(rates, p), v.sqrt().add_(root * _EPSILON), value=-1)

    def _fused_adamw(self, g: "list[Tensor]", rates: Sequence[float]) -> None:
        """By the kernel of torch, which pays for many weights but knows one rate and one decay."""
        import torch

        if len(set(rates)) == len(set(self._decays)) == 1:
            for decayed, decay in ((True, self._decays[0]), (False, 0.0)):
                of = [i for i, d in enumerate(self._decayed) if d == decayed]
                self._kernel(self._parameters, g, of, rates[0], decay)
            return
        self._decay(rates)
        steps = [torch.zeros_like(p) for p in self._parameters]
        self._kernel(steps, g, range(len(g)), 1.0, 0.0)
        factors = g[0].new_tensor(rates)
        for p, step in zip(self._parameters, steps, strict=True):
            p.addcmul_(step, _shaped(factors, p))

    def _kernel(
        self, to: "list[Tensor]", g: "list[Tensor]", of: Iterable[int], rate: float, decay: float
    ) -> None:
        """Add the step of AdamW to those tensors, and move their moments on."""
        import torch
        from torch.optim.adamw import adamw

        p_, g_, m_, v_ = ([t[i] for i in of] for t in (to, g, *self._moments))
        done = [torch.tensor(float(self._steps - 1), device=g[0].device) for _ in p_]
        adamw(
            p_, [x.contiguous() for x in g_], m_, v_, [], done,
            fused=True, foreach=False, amsgrad=False, maximize=False,
            beta1=_BETAS["adamw"][0], beta2=_BETAS["adamw"][1], eps=_EPSILON,
            lr=rate, weight_decay=decay,
        )  # fmt: skip

    def _sgd(self, g: "list[Tensor]") -> "list[Tensor]":
        updates = []
        for buffer, gradient in zip(self._moments[0], g, strict=True):
            buffer.mul_(_MOMENTUM).add_(gradient)
            updates.append(gradient.add(buffer, alpha=_MOMENTUM))
        return updates

    def _lion(self, g: "list[Tensor]") -> "list[Tensor]":
        one, two = _BETAS["lion"]
        updates = []
        for moment, gradient in zip(self._moments[0], g, strict=True):
            updates.append(moment.lerp(gradient, 1 - one).sign_())
            moment.lerp_(gradient, 1 - two)
        return updates


class FriendlySam:
    """Friendly SAM around any optimiser: its gradient is taken at w + rho d / ||d||.

    d is the gradient less sigma times the moving average m of earlier raw gradients (the first step
    has d = g and starts m there); the norm is over all parameters of a configuration. Both passes
    see the same batch. sigma = 0 is SAM. Weight decay and clipping belong to the base step.
    Full-batch gradients make d vanish and the perturbation noise: use mini-batches.

    Source: Li et al. (CVPR 2024), https://arxiv.org/abs/2403.12350, algorithm 1.
    """

    def __init__(
        self,
        base: Optimiser,
        parameters: "list[Tensor]",
        *,
        rhos: Sequence[float],
        sigmas: Sequence[float],
        decays: Sequence[float],
        adaptive: bool = False,
    ) -> None:
        """Wrap an optimiser.

        Args:
            base: Takes the step, from the unperturbed parameters.
            parameters: Those of the base, each of shape (M, ...).
            rhos: Radius, for each configuration.
            sigmas: Share of m that is subtracted.
            decays: Decay of m.
            adaptive: d becomes w^2 d and the norm that of |w| d (ASAM).
        """
        self._base, self._parameters, self._adaptive = base, parameters, adaptive
        self._rhos, self._sigmas, self._decays = list(rhos), list(sigmas), list(decays)
        self._mean: list[Tensor] | None = None

    def step(self, gradients: Gradients, rates: Sequence[float]) -> None:
        """Take one step; `gradients` is called twice, the second time at the perturbed point."""
        d = self._direction(gradients())
        kept = [p.clone() for p in self._parameters]
        self._perturb(d)
        sharp = gradients()
        for p, original in zip(self._parameters, kept, strict=True):
            p.copy_(original)
        self._base.step(lambda: sharp, rates)

    def state_dict(self) -> "dict[str, Tensor]":
        """Return the base's state under "base." and the moving average under "mean."."""
        state = {f"base.{name}": tensor for name, tensor in self._base.state_dict().items()}
        return state | {f"mean.{i}": tensor for i, tensor in enumerate(self._mean or [])}

    def load_state_dict(self, state: "Mapping[str, Tensor]") -> None:
        """Copy the base's state and the moving average."""
        prefix = "base."
        self._base.load_state_dict({
            n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)
        })
        if "mean.0" in state:
            self._mean = [
                state[f"mean.{i}"].clone().to(p.device) for i, p in enumerate(self._parameters)
            ]

    def keep(self, chosen: "Tensor", parameters: "list[Tensor]") -> None:
        """Drop the other configurations."""
        self._base.keep(chosen, parameters)
        self._parameters = parameters
        if self._mean is not None:
            self._mean = [tensor[chosen] for tensor in self._mean]
        for name in ("_rhos", "_sigmas", "_decays"):
            setattr(self, name, [getattr(self, name)[i] for i in chosen.tolist()])

    def _direction(self, g: "list[Tensor]") -> "list[Tensor]":
        """Return g less sigma m, then move m on."""
        if self._mean is None:
            self._mean = [gradient.clone() for gradient in g]
            return list(g)
        d = []
        for mean, gradient in zip(self._mean, g, strict=True):
            d.append(gradient - _per_member(self._sigmas, mean) * mean)
            mean.lerp_(gradient, 1 - _per_member(self._decays, mean))
        return d

    def _perturb(self, d: "list[Tensor]") -> None:
        scaled = d
        if self._adaptive:
            scaled = [p.abs() * x for p, x in zip(self._parameters, d, strict=True)]
        scale = d[0].new_tensor(self._rhos) / (_norms(scaled) + 1e-12)
        for p, x, s in zip(self._parameters, d, scaled, strict=True):
            direction = p.abs() * s if self._adaptive else x
            p.add_(direction * _shaped(scale, p))


def _norms(tensors: "list[Tensor]") -> "Tensor":
    """Euclidean norm of each configuration over all tensors, (M,)."""
    import torch

    norms = [torch.linalg.vector_norm(t.flatten(1), dim=1) for t in tensors]
    together: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return together


def _clip(g: "list[Tensor]", clips: Sequence[float]) -> None:
    """As torch.nn.utils.clip_grad_norm_, for each configuration by itself."""
    factors = (g[0].new_tensor(clips) / (_norms(g) + 1e-6)).clamp(max=1)
    for gradient in g:
        gradient.mul_(_shaped(factors, gradient))


def _shaped(values: "Tensor", like: "Tensor") -> "Tensor":
    shape = [-1] + [1] * (like.ndim - 1)
    return values.view(shape)


def _per_member(values: Sequence[float], like: "Tensor") -> "Tensor | float":
    """A number when all configurations share it, else a tensor that broadcasts over `like`."""
    if all(value == values[0] for value in values):
        return values[0]
    return _shaped(like.new_tensor(values), like)
