"""The training loop: phases, checkpoints, exact resume."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from tnrd.image_io.completion import remove_leftovers
from tnrd.kernels.capture_lock import CAPTURE_LOCK
from tnrd.model import TNRD
from tnrd.training.checkpoint import read_checkpoint, write_checkpoint
from tnrd.training.cuda_graph import Batch, by_itself, recorded
from tnrd.training.data import CropSampler, large_enough
from tnrd.training.losses import weighted_mse
from tnrd.training.optimizers import build_optimizer, learning_rate, restored_optimizer, set_learning_rate
from tnrd.training.processes import Processes
from tnrd.training.recipe import Phase, Recipe
from tnrd.training.start import start_from
from tnrd.training.validation import array_denoiser, score

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Image = NDArray[np.uint8]


class Trainer:
    """Trains one model by one recipe.

    A phase begins from the averaged weights of the one before. Batch i of it depends on the seed and i alone, and the
    state (weights, average, optimiser, position) is written to ``checkpoint.pt`` in one rename, so that a run that was
    killed goes on to the same weights (on a GPU to nearly the same: the order of its sums is not fixed).

    Args:
        recipe: What to do.
        train_images: 8-bit training pictures.
        validation_images: 8-bit pictures for the reported PSNR; they never influence the weights.
        output: Folder of the checkpoint and of ``log.jsonl``.
        device: Where to train.
        progress: Show a progress bar.
        processes: This process among those that train the model together; all end with the same weights.
        board: Gets loss, learning rate and PSNR for TensorBoard, None for none.

    Raises:
        ValueError: A phase cannot be run on these pictures, or by these processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_images: list[Image],
        validation_images: list[Image],
        output: str | Path,
        device: str | torch.device = "cpu",
        progress: bool = True,
        processes: Processes | None = None,
        board: SummaryWriter | None = None,
    ) -> None:
        self.recipe = recipe
        self.processes = processes or Processes()
        if self.processes.count > 1 and any(phase.seconds for phase in recipe.phases):
            raise ValueError("Processes that train together need phases of iterations: their clocks are not one.")
        for phase in recipe.phases:
            large_enough(train_images, phase.crop)
            self.processes.check_batch(phase.batch)
        self.board = board
        self.train_images, self.validation_images = train_images, validation_images
        self.output = Path(output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(device)
        self.progress = progress and self.processes.is_first
        torch.manual_seed(recipe.seed)
        self.model = TNRD(recipe.model).to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.position = 0  # index into the flat list of segments
        self.iteration = 0  # in the segment
        self.elapsed = 0.0  # seconds in the segment
        self.updates = 0  # in all segments
        self.optimizer: torch.optim.Optimizer | None = None
        self.last_scores: dict[float, float] = {}
        self._stopped = False
        self._decay = torch.zeros((), device=self.device)  # of the moving average, for the coming update

    def load_initial(self, model: TNRD) -> None:
        """Start from the weights of another model, see :func:`tnrd.training.start.start_from`.

        Raises:
            ValueError: The shapes do not allow it.
        """
        self.model.load_state_dict(start_from(model, self.recipe.model).state_dict())
        self.average.load_state_dict(self.model.state_dict())

    def segments(self) -> list[tuple[int, Phase, range]]:
        """The run as (phase index, phase, steps trained) in order; a greedy phase gives one segment per step."""
        flat = []
        for index, phase in enumerate(self.recipe.phases):
            steps = range(self.recipe.model.stages)
            groups = [range(t, t + 1) for t in steps] if phase.stages == "greedy" else [steps]
            flat += [(index, phase, group) for group in groups]
        return flat

    def run(self, stop_after: float = math.inf) -> bool:
        """Train to the end of the recipe, or until ``stop_after`` seconds have passed; True at the end."""
        if self.device.type != "cuda":
            return self._run(time.monotonic() + stop_after)
        with torch.cuda.device(self.device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # its own: other runs on the same GPU go on beside it
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                ended = self._run(time.monotonic() + stop_after)
            torch.cuda.current_stream().wait_stream(stream)
        return ended

    def _run(self, deadline: float) -> bool:
        segments = self.segments()
        while self.position < len(segments):
            index, phase, steps = segments[self.position]
            self._train_segment(index, phase, steps, deadline)
            if not self._is_over(phase):
                return False
            self.position, self.iteration, self.elapsed, self.optimizer = self.position + 1, 0, 0.0, None
            self.save_checkpoint()
        return True

    def _train_segment(self, index: int, phase: Phase, steps: range, deadline: float) -> None:
        parameters = self._select(steps)
        if self.optimizer is None:
            self.optimizer = build_optimizer(phase, parameters)
            if self.iteration == 0:
                self.model.load_state_dict(self.average.state_dict())
        low, high = (level / 255 for level in self.recipe.sigma)
        sampler = CropSampler(
            self.train_images,
            phase.crop,
            phase.batch,
            (low, high),
            self.recipe.seed * 1000 + self.position,
            phase.sigma_exponent,
            self.device,
            self.recipe.recoloured,
        )
        update = by_itself(lambda batch: self._update(phase, steps, batch))
        if self.device.type == "cuda" and phase.optimizer == "adam" and self.processes.count == 1:
            update = recorded(lambda batch: self._update(phase, steps, batch))
        label = f"phase {index + 1} {phase.optimizer} {phase.stages} {steps.start + 1}-{steps.stop}"
        total = None if phase.seconds else phase.iterations
        start = time.monotonic() - self.elapsed
        bar = tqdm(total=total, initial=self.iteration, desc=label, disable=not self.progress, mininterval=2)
        with bar:
            while not self._is_over(phase) and not self._is_past(deadline):
                set_learning_rate(self.optimizer, learning_rate(phase, self.iteration, self.elapsed))
                adam = phase.optimizer == "adam"
                self._decay.fill_(min(phase.average, (1 + self.iteration) / (10 + self.iteration)) if adam else 0.0)
                # L-BFGS needs one objective: it keeps the batch of index 0.
                clean, noisy, sigma = map(self.processes.share, sampler(self.iteration if adam else 0))
                loss = update((clean, noisy, sigma))
                self.iteration, self.updates = self.iteration + 1, self.updates + 1
                self.elapsed = time.monotonic() - start
                bar.update()
                if self.iteration % self.recipe.validate_every == 0 or self._is_over(phase):
                    bar.set_postfix(self._report(float(loss), index, steps))
                if self.iteration % self.recipe.checkpoint_every == 0:
                    self.save_checkpoint()
        self.save_checkpoint()

    def stop(self) -> None:
        """End :meth:`run` after the update at work, with a checkpoint; from another thread."""
        self._stopped = True

    def _is_over(self, phase: Phase) -> bool:
        return self.elapsed >= phase.seconds if phase.seconds else self.iteration >= phase.iterations

    def _is_past(self, deadline: float) -> bool:
        return self._stopped or (deadline < math.inf and self.processes.any(time.monotonic() >= deadline))

    def _update(self, phase: Phase, steps: range, batch: Batch) -> Tensor:
        """Change the weights and their average; the loss before."""
        if self.optimizer is None:
            raise RuntimeError("An update needs an optimiser.")

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
            loss = self._loss(phase, *batch, steps)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            self.processes.average([loss, *gradients])
            return loss

        loss = torch.as_tensor(self.optimizer.step(closure)).detach()  # type: ignore[arg-type]
        with torch.no_grad():
            means: list[Tensor] = list(self.average.parameters())
            values: list[Tensor] = list(self.model.parameters())
            change = list(torch._foreach_sub(values, means))
            torch._foreach_mul_(change, 1 - self._decay)
            torch._foreach_add_(means, change)
        return loss

    def _loss(self, phase: Phase, clean: Tensor, noisy: Tensor, sigma: Tensor, steps: range) -> Tensor:
        target, _ = self.model.to_grid(clean, sigma.view(-1, 1, 1, 1))
        states = [u[:, : target.shape[1]] for u in self.model.states(noisy, sigma, steps=steps.stop)][1:]
        total = weighted_mse(states[-1], target, sigma, phase.loss_power)
        if phase.deep_supervision and len(states) > 1:
            inner = weighted_mse(torch.stack(states[:-1]), target, sigma, phase.loss_power)
            total = total + phase.deep_supervision * inner.mean()
        return total

    def _select(self, steps: range) -> list[nn.Parameter]:
        """Only the steps of this segment learn; the lift belongs to the first."""
        chosen: list[nn.Module] = [self.model.stage(t) for t in steps]
        if self.model.lift is not None and steps.start == 0:
            chosen.append(self.model.lift)
        self.model.requires_grad_(False)
        for module in chosen:
            module.requires_grad_(True)
        return [p for p in self.model.parameters() if p.requires_grad and p.numel()]

    def _report(self, loss: float, index: int, steps: range) -> dict[str, str]:
        self._refuse_divergence(loss)
        if not self.processes.is_first:
            return {}
        denoise = array_denoiser(self.average, strength=steps.stop / self.recipe.model.stages)
        with CAPTURE_LOCK:
            scores = {
                sigma: float(
                    np.mean([score(denoise, im / 255, sigma, i).psnr for i, im in enumerate(self.validation_images)])
                )
                for sigma in (self.recipe.validation_sigma if self.validation_images else ())
            }
        self.last_scores = scores
        row: dict[str, Any] = {
            "phase": index,
            "steps": steps.stop,
            "iteration": self.iteration,
            "loss": loss,
            "psnr": scores,
        }
        with open(self.output / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        if self.board is not None:
            rate = float(self.optimizer.param_groups[0]["lr"]) if self.optimizer is not None else math.nan
            values = {"loss": loss, "learning_rate": rate, **{f"psnr/{sigma:g}": v for sigma, v in scores.items()}}
            for name, value in values.items():
                self.board.add_scalar(name, value, self.updates)
            self.board.flush()
        return {f"{sigma:g}": f"{value:.2f}" for sigma, value in scores.items()}

    def save_checkpoint(self) -> None:
        """Write the whole state, or nothing.

        Raises:
            FloatingPointError: The training has diverged.
        """
        self._refuse_divergence()
        if not self.processes.is_first:
            return
        state = {
            "position": self.position,
            "iteration": self.iteration,
            "elapsed": self.elapsed,
            "updates": self.updates,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "scores": self.last_scores,
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
        }
        write_checkpoint(self.output / "checkpoint.pt", self.recipe, state)

    def _refuse_divergence(self, loss: float = 0.0) -> None:
        """Where the host waits for the GPU anyway: weights that are lost must not replace good ones."""
        weights = [*self.model.parameters(), *self.average.parameters()]
        with CAPTURE_LOCK:
            finite = bool(torch.stack([value.isfinite().all() for value in weights]).all())
        if not (finite and math.isfinite(loss)):
            raise FloatingPointError(
                f"The training of {self.recipe.name} has diverged within {self.updates} updates (loss or weights are "
                f"not finite); what {self.output} holds is kept."
            )

    def resume(self) -> bool:
        """Go on from the checkpoint in the output folder, if there is one.

        Raises:
            ValueError: It was written under another recipe, or by a version of other recipes or crops; or the
                processes do not find the same.
        """
        if self.processes.is_first:
            remove_leftovers([str(self.output)])
        state = read_checkpoint(self.output / "checkpoint.pt", self.recipe, self.device)
        names = ("position", "iteration", "updates")
        if not self.processes.agree(state and [state[name] for name in names]):
            raise ValueError(
                f"The processes do not find the same checkpoint: {self.output} must be a folder that all of them share."
            )
        if state is None:
            return False
        for name in (*names, "elapsed"):
            setattr(self, name, state[name])
        self.last_scores = state["scores"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if state["optimizer"] is not None:
            _, phase, steps = self.segments()[self.position]
            self.optimizer = restored_optimizer(phase, self._select(steps), state["optimizer"])
        return True
