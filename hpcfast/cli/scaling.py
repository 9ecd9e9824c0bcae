"""``hpcfast scaling``."""

import typer

from hpcfast.cli import scaling_check, scaling_predict, scaling_report, scaling_study

app = typer.Typer(no_args_is_help=True, help="How long to a given robust accuracy, on how many nodes, at what cost.")
app.command("plan")(scaling_study.plan)
app.command("run")(scaling_study.run)
app.command("collect")(scaling_study.collect)
app.command("report")(scaling_report.report)
app.command("predict")(scaling_predict.predict)
app.command("check")(scaling_check.check)
