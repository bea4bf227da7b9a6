"""The noise levels of the queue and the step from each level to the next, vectorised over frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.method.noise import Noise, noise_of, to_device

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")


@dataclass(frozen=True)
class NoiseLevels:
    """A table with one row per level, level 0 the cleanest: x = alpha x0 + sigma e, and where the step goes.

    All coefficients are float64 on the CPU; steps are done in float32.

    Attributes:
        timestep: (L,) the timestep conditioning passed to the denoiser.
        alpha, sigma: (L,) signal and noise of the level. sqrt(abar) and sqrt(1 - abar) for diffusion models,
            1 - s and s for flow matching.
        target_alpha, target_sigma: (L,) the same after the step. That of level j is level j - 1.
        fresh: (L,) standard deviation of the fresh noise that the step adds (eta, DDPM, Euler ancestral); 0 for a
            deterministic step.
        removed: (L,) standard deviation that the fresh noise replaces; equals `fresh` but for DDPM "fixed_large".
        prediction: what the model predicts: one of "epsilon", "v_prediction", "sample", "flow_prediction".
        clip: bound on the predicted clean latent, or None.
        clip_direction: whether the direction towards noise is recomputed from the clipped prediction (DDPM).
        solver: (L, P, P + 1), the step of a solver with history, or None. A slot then holds P latents one after the
            other in the channel axis: the frame's own and P - 1 that the solver remembers of it. A step maps these P
            and the predicted clean latent linearly to the next P. (L, P, P + 2) where it also draws noise, which is
            the last that it maps.
        keeps_clean: whether a slot holds one latent more, the last: the clean latent that was last predicted of its
            frame, from which it can go on without a prediction (`cached.py`).
        entry: standard deviation of the noise that enters at the top level. A scheduler that counts in sigmas alone
            begins with less than 1 where its highest level has some signal left.
        end: timestep of what is clean, for models that are told where a step ends beside where it begins (flow maps);
            None: for all others.
    """

    timestep: Tensor
    alpha: Tensor
    sigma: Tensor
    target_alpha: Tensor
    target_sigma: Tensor
    fresh: Tensor
    removed: Tensor
    prediction: str = "epsilon"
    clip: float | None = None
    clip_direction: bool = False
    solver: Tensor | None = None
    entry: float = 1.0
    keeps_clean: bool = False
    end: float | None = None

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction type {self.prediction!r} is not one of {', '.join(PREDICTIONS)}")
        if self.prediction == "epsilon" and bool((self.alpha <= 0).any()):
            raise ValueError("a level without signal (zero terminal SNR) needs v_prediction, not epsilon")

    def __len__(self) -> int:
        return len(self.timestep)

    def told(self, level_BF: Tensor, target_BF: Tensor | None = None) -> Tensor:
        """What the denoiser is told of frames at these levels: (B, F) their timesteps; with an `end` (B, F, 2) these
        and where their steps end.

        Args:
            target_BF: the levels after the step, -1 for clean; None: the next lower ones. Those are told of frames that
                stay where they are, too: what they were told when they came there.
        """
        timestep = self.timestep[level_BF]
        if self.end is None:
            return timestep
        target = level_BF - 1 if target_BF is None else torch.minimum(target_BF, level_BF - 1)
        ends = torch.cat([self.timestep.new_tensor([self.end]), self.timestep])
        return torch.stack([timestep, ends[target + 1]], -1)

    @property
    def planes(self) -> int:
        """Latents that a slot holds: the frame's own, what the solver remembers, and the clean one that is kept."""
        return (1 if self.solver is None else self.solver.shape[1]) + self.keeps_clean

    def blank(self, noise_BCFHW: Tensor) -> Tensor:
        """Frames of noise as they enter at the top level, with room for what the solver will remember of them."""
        noise = noise_BCFHW if self.entry == 1.0 else self.entry * noise_BCFHW
        return torch.cat([noise, *[torch.zeros_like(noise)] * (self.planes - 1)], 1)

    @property
    def entering(self) -> dict[str, Any]:
        """How frames enter the queue: `planes` and `entry`, by name."""
        return {"planes": self.planes, "entry": self.entry}

    def latent(self, slots_BCFHW: Tensor) -> Tensor:
        """Of what slots hold, the frames' own latents, without what a solver remembers of them."""
        return slots_BCFHW[:, : slots_BCFHW.shape[1] // self.planes]

    def without_memory(self) -> "NoiseLevels":
        """The same levels, stepped without history, keeping nothing."""
        return replace(self, solver=None, keeps_clean=False)

    def keeping_clean(self) -> "NoiseLevels":
        """The same levels, with the clean latent that was last predicted kept in every slot."""
        return replace(self, keeps_clean=True)

    @classmethod
    def diffusion(
        cls,
        timestep: Tensor,
        alphas_cumprod: Tensor,
        target_alphas_cumprod: Tensor,
        *,
        eta: float = 0.0,
        prediction: str = "epsilon",
        clip: float | None = None,
    ) -> "NoiseLevels":
        """DDIM levels (arXiv 2010.02502, Eq. 12 and 16): eta = 0 is deterministic, eta = 1 is ancestral sampling.

        Args:
            timestep: (L,) ascending.
            alphas_cumprod, target_alphas_cumprod: (L,) abar of each level and of the target of its step.
            eta: share of fresh noise in [0, 1].

        Raises:
            ValueError: eta outside [0, 1].
        """
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, not {eta}")
        a, target = alphas_cumprod.double(), target_alphas_cumprod.double()
        fresh = eta * ((1 - target) / (1 - a) * (1 - a / target)).clamp_min(0).sqrt()
        sigma, target_sigma = (1 - a).sqrt(), (1 - target).sqrt()
        return cls(timestep, a.sqrt(), sigma, target.sqrt(), target_sigma, fresh, fresh, prediction, clip)

    @classmethod
    def flow(
        cls, timestep: Tensor, sigmas: Tensor, target_sigmas: Tensor, *, stochastic: bool = False
    ) -> "NoiseLevels":
        """Flow matching, x = (1 - s) x0 + s e, Euler step; `stochastic` replaces all noise at every step."""
        s, target = sigmas.double(), target_sigmas.double()
        fresh = target if stochastic else torch.zeros_like(s)
        return cls(timestep, 1 - s, s, 1 - target, target, fresh, fresh, "flow_prediction")

    @cached_property
    def _columns(self) -> Tensor:
        """(5, L) float32: alpha and sigma before and after the step, the latter less what fresh noise replaces."""
        kept = (self.target_sigma**2 - self.removed**2).clamp_min(0).sqrt()
        return torch.stack([self.alpha, self.sigma, self.target_alpha, kept, self.fresh]).to(torch.float32)

    @cached_property
    def _noisy(self) -> Tensor:
        """(L,) whether the step from a level draws noise."""
        if self.solver is None:
            return self.fresh > 0
        return (self.solver[:, :, -1] != 0).any(1) if self._solver_draws else torch.zeros(len(self), dtype=torch.bool)

    @cached_property
    def _adds_noise(self) -> bool:
        return bool(self._noisy.any())

    @property
    def _solver_draws(self) -> bool:
        return self.solver is not None and self.solver.shape[2] == self.solver.shape[1] + 2

    def _rows(self, level_BF: Tensor, like: Tensor, columns: slice) -> tuple[Tensor, ...]:
        """Some of the columns at these levels, each (B, 1, F, 1, 1), by one copy to the device."""
        rows = to_device(self._columns[columns, level_BF.cpu()], like.device)
        return rows[:, :, None, :, None, None].unbind()

    def _further(self, target_BF: Tensor, like: Tensor) -> tuple[Tensor, ...]:
        """Signal, and noise that is kept and that is fresh, of targets further down: as `_rows`."""
        anew = self._adds_noise
        if anew and not torch.equal(self.fresh, self.target_sigma):
            raise ValueError(
                Message(
                    "with eta, each level goes to the next one only: use ",
                    Setting("eta", 0),
                    " and a deterministic ",
                    "scheduler",
                )
            )
        alpha, sigma = (
            torch.cat([of_clean[:1], of_level]).to(torch.float32)[target_BF.cpu() + 1]
            for of_clean, of_level in ((self.target_alpha, self.alpha), (self.target_sigma, self.sigma))
        )
        none = torch.zeros_like(sigma)
        rows = torch.stack([alpha, none if anew else sigma, sigma if anew else none])
        return to_device(rows, like.device)[:, :, None, :, None, None].unbind()

    def renoise(self, clean_BCFHW: Tensor, noise_BCFHW: Tensor, level_BF: Tensor) -> Tensor:
        """Clean latents brought to their levels: alpha x0 + sigma e."""
        alpha, sigma = self._rows(level_BF, clean_BCFHW, slice(0, 2))
        return alpha * clean_BCFHW + sigma * noise_BCFHW

    def split(self, sample_BCFHW: Tensor, prediction_BCFHW: Tensor, level_BF: Tensor) -> tuple[Tensor, Tensor]:
        """The clean latent x0 and the noise e that a prediction means, both (B, C, F, H, W) float32."""
        x, y = sample_BCFHW.float(), prediction_BCFHW.float()
        return self._split(x, y, *self._rows(level_BF, x, slice(0, 2)))

    def prediction_of(self, sample_BCFHW: Tensor, clean_BCFHW: Tensor, level_BF: Tensor) -> Tensor:
        """The prediction that means this clean latent: what `split` splits, where nothing is clipped."""
        x, clean = sample_BCFHW.float(), clean_BCFHW.float()
        alpha, sigma = self._rows(level_BF, x, slice(0, 2))
        if self.prediction == "epsilon":
            return (x - alpha * clean) / sigma
        if self.prediction == "v_prediction":
            return (alpha * x - clean) / sigma
        return (x - clean) / sigma if self.prediction == "flow_prediction" else clean

    def _split(self, x: Tensor, y: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        clean, noise = self._unclipped(x, y, alpha, sigma)
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
            if self.clip_direction:
                noise = (x - alpha * clean) / sigma
        return clean, noise

    def _unclipped(self, x: Tensor, y: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        if self.prediction == "epsilon":
            return (x - sigma * y) / alpha, y
        if self.prediction == "v_prediction":
            return alpha * x - sigma * y, alpha * y + sigma * x
        if self.prediction == "flow_prediction":
            return x - sigma * y, x + (1 - sigma) * y
        return y, (x - alpha * y) / sigma

    def step(
        self,
        sample_BCFHW: Tensor,
        prediction_BCFHW: Tensor | None,
        level_BF: Tensor,
        noise_BCFHW: Tensor | None = None,
        *,
        target_BF: Tensor | None = None,
    ) -> Tensor:
        """One denoising step Phi of every frame from its own level to a lower one (Eq. 3).

        Args:
            sample_BCFHW: latents, frame f of row b at level `level_BF[b, f]`; C is P times as many channels where a
                solver remembers.
            prediction_BCFHW: the model's output after guidance; None: what means the clean latent that is kept.
            level_BF: (B, F) int64.
            noise_BCFHW: fresh standard normal noise; needed where `fresh` > 0.
            target_BF: (B, F) int64, the level after the step, -1 for clean; None: the next lower one.

        Returns:
            (B, C, F, H, W) float32.

        Raises:
            ValueError: a target further down, where the solver remembers or adds part of the noise anew.
        """
        if self.keeps_clean:
            return self._keeping_step(sample_BCFHW, prediction_BCFHW, level_BF, noise_BCFHW, target_BF)
        if prediction_BCFHW is None:
            raise ValueError("these levels keep no clean latents: a prediction is needed")
        needs_noise = self.needs_noise(level_BF)
        if needs_noise and noise_BCFHW is None:
            raise ValueError("these levels add fresh noise: noise_BCFHW is needed")
        if self.solver is not None:
            if target_BF is not None:
                raise ValueError("this solver steps from each level to the next one only: use a first-order scheduler")
            noise = noise_BCFHW if needs_noise else None
            return self._solver_step(self.solver, sample_BCFHW, prediction_BCFHW, level_BF, noise)
        x, y = sample_BCFHW.float(), prediction_BCFHW.float()
        alpha, sigma, target_alpha, kept, fresh = self._rows(level_BF, x, slice(0, 5))
        if target_BF is not None:
            target_alpha, kept, fresh = self._further(target_BF, x)
        clean, direction = self._split(x, y, alpha, sigma)
        result = target_alpha * clean
        result += kept * direction
        if needs_noise:
            result += fresh * noise_BCFHW
        return result

    def _keeping_step(
        self,
        sample_BCFHW: Tensor,
        prediction_BCFHW: Tensor | None,
        level_BF: Tensor,
        noise_BCFHW: Tensor | None,
        target_BF: Tensor | None,
    ) -> Tensor:
        """The step of these levels without what is kept, and that."""
        channels = sample_BCFHW.shape[1] // self.planes
        own, kept = sample_BCFHW.float().split([sample_BCFHW.shape[1] - channels, channels], 1)
        x = own[:, :channels]
        if prediction_BCFHW is None:
            prediction_BCFHW = self.prediction_of(x, kept, level_BF)
        else:
            kept, _ = self._unclipped(x, prediction_BCFHW.float(), *self._rows(level_BF, x, slice(0, 2)))
        after = self._keeping_nothing.step(own, prediction_BCFHW, level_BF, noise_BCFHW, target_BF=target_BF)
        return torch.cat([after, kept], 1)

    @cached_property
    def _keeping_nothing(self) -> "NoiseLevels":
        return replace(self, keeps_clean=False)

    def _solver_step(
        self, solver: Tensor, sample_BCFHW: Tensor, prediction_BCFHW: Tensor, level_BF: Tensor, noise: Tensor | None
    ) -> Tensor:
        planes_BPCFHW = sample_BCFHW.float().unflatten(1, (self.planes, -1))
        clean, _ = self.split(planes_BPCFHW[:, 0], prediction_BCFHW, level_BF)
        rows = solver.to(torch.float32)[level_BF.cpu()].to(clean.device).expand(len(clean), -1, -1, -1)
        inputs = [planes_BPCFHW, clean[:, None]]
        if noise is not None:
            inputs.append(noise.expand_as(clean)[:, None])
        rows = rows[..., : self.planes + len(inputs) - 1]
        return torch.einsum("bfpq,bqcfhw->bpcfhw", rows, torch.cat(inputs, 1)).flatten(1, 2)

    def needs_noise(self, level_BF: Tensor) -> bool:
        """Whether a step from any of these levels adds fresh noise."""
        return self._adds_noise and bool(self._noisy[level_BF.cpu()].any())

    def with_clipped_direction(self) -> "NoiseLevels":
        """The same levels, the direction towards noise following the clipped prediction (DDPM)."""
        return replace(self, clip_direction=True)

    def with_ancestral_variance(self, variance: Tensor) -> "NoiseLevels":
        """The same levels with another variance (L,) of the fresh noise (DDPM "fixed_large")."""
        return replace(self, fresh=variance.double().sqrt())

    def with_signal_scale(self, scale: Tensor, target_scale: Tensor) -> "NoiseLevels":
        """The same levels for a model that was trained on x = alpha s x0 + sigma e: s (L,) of each level, and of the
        target of its step."""
        return replace(self, alpha=self.alpha * scale.double(), target_alpha=self.target_alpha * target_scale.double())


def phi(
    levels: NoiseLevels,
    x_BCFHW: Tensor,
    prediction_BCFHW: Tensor | None,
    level_F: Tensor,
    target_F: Tensor,
    frames: Sequence[int],
    noise: Noise,
    use: str = "queue",
) -> Tensor:
    """Phi (Eq. 3): each frame from its level to its target, with the fresh noise that is drawn for it where the solver
    adds any. Without a prediction, with the clean latent that is kept of each."""
    fresh = None
    if levels.needs_noise(level_F):
        draws = [noise_of(noise, [g], int(j), x_BCFHW, use) for g, j in zip(frames, level_F, strict=True)]
        fresh = torch.cat(draws, 2)
    further = None if torch.equal(target_F, level_F - 1) else target_F[None]
    return levels.step(x_BCFHW, prediction_BCFHW, level_F[None], fresh, target_BF=further)
