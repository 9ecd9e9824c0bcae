"""What is done between epochs - is training still healthy, how good is the model - and at the end."""

import json
import platform
from dataclasses import asdict
from typing import Any

import timm
import torch

import hpcfast
from hpcfast.config import Check
from hpcfast.data import feed, skips
from hpcfast.distributed import comm
from hpcfast.distributed.engines import choice
from hpcfast.evaluation import chosen_images, evaluate, rounds
from hpcfast.evaluation.cache import evaluate_cached
from hpcfast.models import saved
from hpcfast.runs import ettr, events, files
from hpcfast.training.guard import Health
from hpcfast.training.state import Run


def after_epoch(run: Run) -> None:
    """Ask the guard, which may undo the epoch, and the monitor, which may end the training."""
    epoch, every = run.course.epoch, run.config.evaluation.every
    healthy = not run.guard.on
    if run.guard.due(epoch, run.course.finished):
        with run.clock.training(), run.clock.part("guard"):  # it is a cost of training
            health = run.guard.examine(run.learner.model, run.data.held_out, run.world, run.stop_if_asked)
        run.record("guard", asdict(health))
        healthy = not run.guard.collapsed(health)
        if not healthy and _go_back(run, health):
            return
    if every and run.course.position.offset == 0 and epoch % every == 0:
        _monitor(run)
    run.unexamined = False
    if run.target_reached:
        run.save()
    if healthy:
        run.store.mark_healthy()


def _go_back(run: Run, health: Health) -> bool:
    """Answer a collapse: back to the last healthy checkpoint, on with another attack, if there is one left."""
    old, epoch, step = run.guard.attack, run.course.epoch, run.course.step
    found = f"collapse after epoch {epoch}: accuracy {health.seen:.2f} under {old.name}, "
    found += f"{health.strong:.2f} under {run.config.guard.attack.name}"
    if not run.guard.answer(health, epoch):
        run.reporter.say(f"{found}; guard.ladder has no other attack, so training goes on as it is")
        return False
    # What is not undone: the knowledge of the collapse, and the time and work that it has cost.
    spent = run.guard.history, run.course.images, run.clock.trained, run.clock.trained_cpu
    run.load_state_dict(run.store.load_healthy())
    run.guard.history, run.course.images, run.clock.trained, run.clock.trained_cpu = spent
    run.unexamined = False
    run.record("rollback", {"from_step": step, "to_step": run.course.step, "attack": run.guard.attack.model_dump()})
    run.save()
    run.store.mark_healthy()
    run.reporter.say(f"{found}; back to epoch {run.course.epoch}, on with {run.guard.attack.name}")
    return True


def _monitor(run: Run) -> None:
    check = run.config.evaluation.monitor
    run.record("eval_start", "monitor")
    comm.set_status(run.course.step, "evaluation")
    with run.clock.part("evaluation"):
        result = evaluate(
            run.learner.result, run.data.held_out, run.config, check, run.world, lambda done: run.stop_if_asked(),
            run.reporter.say,
        )  # fmt: skip
    _mention(run, result)
    clean, robust = result["clean_accuracy"], result["robust_accuracy"]
    run.record("clean_accuracy", clean)
    run.record("robust_accuracy", robust)
    run.record("eval_stop")
    if run.config.goal is not None and robust >= run.config.goal:
        run.target_reached = run.clock.stop()
        run.record("target_reached", robust)
    run.reporter.say(
        f"epoch {run.course.epoch}/{run.course.epochs:g}  clean {clean:.3f}  robust {robust:.3f} "
        f"({result['attack']['name']}, {result['n_eval']} images)"
    )


def _mention(run: Run, result: dict[str, Any]) -> None:
    if bad := result["bad_images"]:
        run.record("left_out", list(bad))
        run.reporter.say(f"left out of the evaluation: {skips.first_of(bad)}")


def finish(run: Run) -> dict[str, Any]:
    """Evaluate, confirm a target that was reached, export, summarise."""
    config = run.config
    result = _measure(run, "final", config.evaluation.final)
    checks = config.evaluation.confirm if run.target_reached else ()
    summary = _summarise(run, result, [_measure(run, "confirm", check) for check in checks])
    if run.target_reached:
        run.reporter.say(_verdict(summary))
    run.record("run_stop", {"status": summary["status"]})  # before the summary: a run that has one is complete
    description = {
        "model": config.model.model_dump(),
        "classes": run.course.split.classes,
        "input": {"channels": config.data.channels, "size": config.data.size, "range": [0, 1]},
        "threat": config.threat.model_dump(),
    }

    def write() -> None:
        saved.write(run.dir, run.learner.result, description)
        files.save_text(run.dir.summary, json.dumps(summary, indent=1) + "\n")  # the last: with it a run is complete

    comm.on_root(write)
    return summary


def _measure(run: Run, purpose: str, check: Check) -> dict[str, Any]:
    """Evaluate the trained model, off the clock; what was measured before is not measured again."""
    model, split, config = run.learner.result, run.data.val, run.config
    tries = len(rounds(config, check, len(split.classes)))
    title = f"{purpose} evaluation, {check.attack.name}"
    task = run.reporter.task(title, tries * len(chosen_images(split, check, run.world)), "attacks")

    def progress(done: int) -> None:
        task.update(done)
        run.stop_if_asked()

    run.record("eval_start", purpose)
    comm.set_status(run.course.step, title)
    result, _ = evaluate_cached(
        model, split, run.data.identities["val"], config, check, run.world, run.dir.evaluations, progress,
        say=run.reporter.say,
    )  # fmt: skip
    run.record("eval_stop", {key: result[key] for key in ("attack", "clean_accuracy", "robust_accuracy")})
    _mention(run, result)
    task.close()
    return result


def _verdict(summary: dict[str, Any]) -> str:
    seconds, target = summary["target_reached_seconds"], summary["target"]
    found = ", ".join(f"{each['attack']['name']} {each['robust_accuracy']:.3f}" for each in summary["confirmation"])
    said = f"the monitor saw the target {target:g} after {seconds:,.1f} s; "
    if summary["time_to_robust_accuracy_seconds"] is None:
        return f"{said}not confirmed ({found}), so the run counts as not converged: raise target_margin"
    return f"{said}confirmed ({found})"


def _summarise(run: Run, result: dict[str, Any], confirmation: list[dict[str, Any]]) -> dict[str, Any]:
    """The contents of ``summary.json``: what was trained, what it reached (fractions), how long it took (seconds)."""
    config, clock, target = run.config, run.clock, run.config.target
    confirmed = target is not None and all(each["robust_accuracy"] >= target for each in confirmation)
    return {
        "status": "finished",
        "dataset": config.data.path.name,
        "data": run.data.summary(),
        "model": config.model.name,
        "method": config.attack.model_dump(),
        **config.threat.model_dump(),
        "world_size": run.world.size,
        "epochs": run.course.at,
        "steps": run.course.step,
        "images": run.course.images,
        "global_batch": run.course.global_batch,
        "seed": config.seed,
        **_measured(result),
        **{key: result[key] for key in ("balanced_accuracy", "classes", "confusion") if key in result},
        "train_images_per_second": run.course.images / clock.trained,
        "train_seconds": clock.trained,
        "train_cpu_seconds": clock.trained_cpu,
        "data_wait": clock.seconds["data_wait"] / clock.trained,
        "seconds": clock.seconds,
        "clock_seconds": clock.stop(),
        "ettr": comm.on_root(lambda: ettr.account(events.read(run.dir.events)).summary()),
        "wall_seconds": clock.wall,
        **run.rank_stats.summary(),
        "target": target,
        "target_margin": config.target_margin,
        "target_reached_seconds": run.target_reached,
        "time_to_robust_accuracy_seconds": run.target_reached if confirmed else None,
        "confirmation": [_measured(each) for each in confirmation],
        "catastrophic_overfitting": {"collapses": run.guard.history, "attack": run.guard.attack.model_dump()},
        "engine": comm.chosen()._asdict(),
        "loader": feed.name(run.course.split, run.config.data),
        "code": run.code,
        "precision": run.learner.network.precision,
        "device": str(run.world.device),
        "versions": {
            "hpcfast": hpcfast.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            **choice.versions(),
            **feed.versions(),
        },
    }


def _measured(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("clean_accuracy", "robust_accuracy", "n_eval", "ci95", "attack")}
