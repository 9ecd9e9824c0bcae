"""What a run has reached, in one sentence: under the strongest attack on file (docs/report.md has the rule)."""

import math
from collections.abc import Sequence
from typing import Any

from hpcfast.component import components
from hpcfast.report.format import attack_spelled_out
from hpcfast.report.runs import Record

NORMS = {
    "Linf": "The limit of an attack: no pixel changes by more than eps, where black is 0 and white is 1.",
    "L2": "The limit of an attack: the Euclidean length of the whole change is at most eps, where black is 0, white 1.",
    "L1": "The limit of an attack: the changes of all pixels add up to at most eps, where black is 0 and white is 1.",
}


def strongest(record: Record) -> dict[str, Any] | None:
    """Of the final evaluation and those that ``hpcfast eval`` kept, the one that leaves least; None: there is none.

    Every attack bounds from above what the strongest possible one would leave, and the fewer its images, the less sure
    that is: the 95 % interval that ends lowest is what can be claimed. Of equally many images, the lowest accuracy.
    """
    found = [record.summary] if record.summary else []
    found += [result for result in record.evaluations.values() if _of_the_run(record, result)]
    return min(found, key=lambda each: (each["ci95"]["robust_accuracy"][1], each["robust_accuracy"]), default=None)


def _of_the_run(record: Record, result: dict[str, Any]) -> bool:
    """Whether it is of the run's own threat model and of its own images, as far as that is known."""
    threat, attack = record.config.threat, result["attack"]
    images = ((record.summary or {}).get("data") or {}).get("digests", {}).get("val")
    others = (result.get("about") or {}).get("images")
    same_images = images is None or others is None or images == others
    return same_images and attack["norm"] == threat.norm and math.isclose(attack["eps"], threat.eps)


def sentence(record: Record) -> str:
    """What was found, for people who read no further."""
    found = strongest(record)
    if found is None:
        return f"Unfinished, {record.progress}: no evaluation is on file yet."
    n, attack = found["n_eval"], found["attack"]
    right, held = (round(n * found[key]) for key in ("clean_accuracy", "robust_accuracy"))
    said = f"Of {n:,} test images the network classifies {right:,} rightly"
    if attack["name"] == "standard":
        return f"{said}; no attack is on file."
    left = f"{held:,}" if held else "none"
    return f"{said}, and {left} still after the strongest attack on file ({attack_spelled_out(attack)})."


def explained(records: Sequence[Record]) -> dict[str, str]:
    """What the attacks and norms on the page are, a sentence each; of attacks that others wrote nothing is known."""
    results = [each for record in records for each in (record.summary, *record.evaluations.values()) if each]
    trained = [name for record in records for name in (record.config.attack.name, *record.history.answers)]
    attacks = {word.split()[0] for word in (*trained, *(each["attack"]["name"] for each in results)) if word.split()}
    norms = {record.config.threat.norm for record in records} | {each["attack"]["norm"] for each in results}
    known = {name: getattr(attack, "plainly", "") for name, attack in components("hpcfast.attacks").items()} | NORMS
    return {name: known[name] for name in (*sorted(attacks), *sorted(norms)) if known.get(name)}
