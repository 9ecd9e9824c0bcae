"""``hpcfast scaling predict``."""

from typing import Annotated

import typer

from hpcfast.cli import options
from hpcfast.cli.scaling_study import File, read


def predict(
    study: File,
    nodes: Annotated[str, typer.Option(help="node counts: 1,2,6 or 1..4096, by powers of two")] = "1..4096",
    mtbf: Annotated[
        float | None, typer.Option(help="hours between failures of one node: also say what they cost", min=0.01)
    ] = None,
    checkpoint: Annotated[
        float, typer.Option(help="with --mtbf: seconds that writing one keeps the run waiting", min=0.001)
    ] = 30,
    restart: Annotated[float, typer.Option(help="with --mtbf: seconds from a failure to the next step", min=0)] = 120,
    json: options.Json = None,
) -> None:
    """Predict time to robust accuracy, efficiency, cost and the knee for node counts that were not measured."""
    from dataclasses import asdict

    from hpcfast.runs.files import save_text
    from hpcfast.runs.progress import console
    from hpcfast.scaling import collect
    from hpcfast.scaling.predict import forecast
    from hpcfast.scaling.predict.failures import Failures

    given, _ = read(study)
    failing = Failures(mtbf * 3600, checkpoint, restart) if mtbf else None
    found, refused = forecast.forecasts(collect.rows(given), counts(nodes), given.price_per_node_hour, failing)
    for each in found:
        console(160).print(each.table().terminal())
        print("\n".join(each.notes), end="\n\n")
    for line in refused:
        print(f"no prediction for {line}")
    page = given.folder / "prediction.md"
    save_text(page, forecast.markdown(given.title, found, refused))
    print(f"page: {page}")
    options.write_json(json, {"forecasts": [asdict(each) for each in found], "refused": refused})


def counts(text: str) -> list[int]:
    """Read ``1,2,6`` or ``1..4096`` (both ends, and the doublings of the first between them).

    Raises:
        UserError: it is neither.
    """
    from hpcfast.errors import UserError

    try:
        first, dots, last = text.partition("..")
        found = [int(part) for part in ((first, last) if dots else text.split(","))]
        if min(found) < 1 or (dots and found[0] > found[1]):
            raise ValueError
    except ValueError:
        raise UserError(f"--nodes {text}: give counts of 1 or more, as 1,2,6 or as 1..4096") from None
    if dots:
        start, end = found
        return [*(start * 2**i for i in range(end.bit_length()) if start * 2**i < end), end]
    return found
