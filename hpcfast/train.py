"""The training loop: batch, attack, loss, one backward, allreduce, step.

``hpcfast train CONFIG`` alone, or under ``horovodrun -np N`` or ``mpirun -np N``. Every random number is a
function of (seed, epoch or step, rank), so that a checkpoint needs to hold none.
"""

from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hpcfast import checkpoint, comm, events, export, models, rundir
from hpcfast.attacks.noise import seed_of
from hpcfast.clock import Clock
from hpcfast.comm import World
from hpcfast.config import RunConfig
from hpcfast.data import Batch, dali, folder
from hpcfast.errors import UserError
from hpcfast.evaluate import chosen_images, evaluate
from hpcfast.progress import Reporter, Task
from hpcfast.rundir import RunDirectory


def train(config: RunConfig, world: World, overwrite: bool = False) -> dict[str, Any]:
    """Train, or go on with, or report the finished run that ``config`` names; a collective of all ranks.

    Returns:
        The run's summary (see docs/run-directory.md).

    Raises:
        UserError: the data or the run directory does not suit ``config``; nothing has been overwritten.
    """
    splits = comm.together(lambda: folder.read(config.data.path))
    _check_sizes(config, world, *splits)
    run = RunDirectory(config.folder)
    with ExitStack() as held:

        def claim() -> None:
            held.enter_context(rundir.claim(config, overwrite))

        comm.on_root(claim)
        reporter = held.enter_context(Reporter(world.is_root))
        summary = comm.on_root(run.read_summary)
        if summary:
            reporter.say(f"{run.path} is finished already; summary.json there has its numbers")
            return summary
        return Trainer(config, world, splits, reporter).run()


def _check_sizes(config: RunConfig, world: World, train_split: folder.Split, val_split: folder.Split) -> None:
    """Refuse now what would otherwise fail hours later."""
    images = len(train_split)
    for check in (config.evaluation.monitor, config.evaluation.final):
        chosen_images(val_split, check, world)
    for phase in config.phases or [config.phase(0)]:
        if images < phase.batch_size * world.size:
            raise UserError(
                f"data.path: {config.data.path}/train has {images} images, fewer than one global batch of "
                f"{phase.batch_size} images x {world.size} ranks; lower the batch_size to at most "
                f"{images // world.size}" + (", or use fewer ranks" if world.size > 1 else "")
            )


class Trainer:
    """The state of one run on this rank."""

    def __init__(
        self, config: RunConfig, world: World, splits: tuple[folder.Split, folder.Split], reporter: Reporter
    ) -> None:
        self.config, self.world, self.reporter = config, world, reporter
        self.train_split, self.val_split = splits
        self.dir = RunDirectory(config.folder)
        self.ball = config.threat.ball
        self.generator = torch.Generator(world.device)
        torch.manual_seed(config.seed)
        self.model = config.model.build(len(self.train_split.classes)).to(world.device)
        self.optimizer = comm.distribute(config.optim.build(self.model), self.model, config.compression)
        self.epoch = self.step = self.images = 0
        past = events.read(self.dir.events) if world.is_root else []
        self.clock = Clock(started=past[0]["time"] if past else None)
        self.log = events.EventLog(self.dir.events if world.is_root else None)

    def run(self) -> dict[str, Any]:
        """Train to the end and return the summary."""
        self._restore()
        self._record("run_start", {"world_size": self.world.size, "device": str(self.world.device)})
        total = sum(self._steps(epoch) * self._global_batch(epoch) for epoch in range(self.config.epochs))
        task = self.reporter.task("training", total, "images", done=self.images)
        while self.epoch < self.config.epochs:
            self._train_epoch(task)
            self.epoch += 1
            comm.average_buffers(self.model)
            if self.config.evaluation.every and self.epoch % self.config.evaluation.every == 0:
                self._monitor()
            self._save()
        task.close()
        summary = self._finish()
        self._record("run_stop", {"status": summary["status"]})
        self.log.close()
        return summary

    def _global_batch(self, epoch: int) -> int:
        return self.config.phase(epoch).batch_size * self.world.size

    def _steps(self, epoch: int) -> int:
        return len(self.train_split) // self._global_batch(epoch)

    def _train_epoch(self, task: Task) -> None:
        config, phase = self.config, self.config.phase(self.epoch)
        global_batch, steps = self._global_batch(self.epoch), self._steps(self.epoch)
        order = folder.train_order(len(self.train_split), config.seed, self.epoch, self.world.size, phase.batch_size)
        seed = seed_of(config.seed, self.epoch, self.world.rank)
        torch.manual_seed(seed)
        data = dali.batches(
            self.train_split,
            order,
            config.data.model_copy(update={"size": phase.size}),
            dali.Shard.of(self.world, config.data.threads),
            phase.batch_size,
            seed,
        )
        meter, note = torch.zeros(2, device=self.world.device), ""
        self._record("epoch_start")
        self.model.train()
        with self.clock.training():
            for i, batch in enumerate(data):
                at = self.epoch + i / steps
                lr = config.optim.scaled_lr(global_batch) * config.schedule.factor(at, config.epochs)
                meter += self._step(batch, lr)
                if self.step % config.log_every == 0 or i + 1 == steps:
                    note = self._log(meter, lr, at)
                self.images += global_batch
                task.update(self.images, f"epoch {at:.1f}/{config.epochs}  {note}")
        self._record("epoch_stop")

    def _step(self, batch: Batch, lr: float) -> Tensor:
        """One step of adversarial training; returns the sum of (loss, 1), still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.generator.manual_seed(seed_of(self.config.seed, self.step, self.world.rank))
        x = self.config.attack.perturb(self.model, batch.x, batch.y, self.ball, self.generator)
        loss = F.cross_entropy(self.model(x), batch.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return torch.stack((loss.detach(), torch.ones_like(loss)))

    def _log(self, meter: Tensor, lr: float, at: float) -> str:
        """Record the mean loss since the last call, over all ranks, and reset ``meter``."""
        total, count = comm.total(meter.double().cpu()).tolist()
        meter.zero_()
        loss = total / count
        if not loss < float("inf"):
            raise UserError(
                f"training has diverged: the loss is {loss} at step {self.step} (epoch {at:.2f}). "
                f"Lower optim.lr (now {self.config.optim.lr}) or lengthen schedule.warmup."
            )
        self._record("train_loss", loss)
        self._record("learning_rate", lr)
        return f"loss {loss:.3f}  lr {lr:.3g}"

    def _monitor(self) -> None:
        self._record("eval_start")
        result = evaluate(self.model, self.val_split, self.config, self.config.evaluation.monitor, self.world)
        for key in ("clean_accuracy", "robust_accuracy"):
            self._record(key, result[key])
        self._record("eval_stop")
        self.reporter.say(
            f"epoch {self.epoch}/{self.config.epochs}  clean {result['clean_accuracy']:.3f}  robust "
            f"{result['robust_accuracy']:.3f} ({result['attack']['name']}, {result['n_eval']} images)"
        )

    def _finish(self) -> dict[str, Any]:
        """Evaluate, export, summarise."""
        config = self.config
        images = len(chosen_images(self.val_split, config.evaluation.final, self.world))
        task = self.reporter.task("final evaluation", images, "images")
        self._record("eval_start")
        result = evaluate(self.model, self.val_split, config, config.evaluation.final, self.world, task.update)
        self._record("eval_stop")
        task.close()
        summary = export.summary(config, self.world, result, self.images, self.clock)
        if self.world.is_root:
            export.write(self.dir, config, self.model, self.train_split.classes, summary)
        return summary

    def _save(self) -> None:
        self._record("checkpoint_start")
        if self.world.is_root:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "images": self.images,
                "trained_seconds": self.clock.trained,
                "world_size": self.world.size,
            }
            checkpoint.save(self.dir.checkpoints, self.step, state)
        self._record("checkpoint_stop")

    def _restore(self) -> None:
        """Take up the last checkpoint where there is one; rank 0 reads it for all."""
        state = comm.on_root(lambda: checkpoint.load_last(self.dir.checkpoints))
        if state is None:
            comm.broadcast_parameters(self.model)
            return
        if state["world_size"] != self.world.size:
            raise UserError(
                f"{self.dir.path} was begun on {state['world_size']} ranks and cannot go on with {self.world.size}; "
                f"start {state['world_size']} ranks, or give another name= or --overwrite to begin anew"
            )
        models.load_weights(self.model, state["model"], str(self.dir.checkpoints))
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.images = state["epoch"], state["step"], state["images"]
        self.clock.trained = state["trained_seconds"]
        self.reporter.say(f"going on with {self.dir.path} after epoch {self.epoch}/{self.config.epochs}")

    def _record(self, key: str, value: Any = None) -> None:
        self.log.write(key, value, step=self.step, epoch=self.epoch)
