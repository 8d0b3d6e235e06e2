"""The ``lekhai`` command. ``lekhai --help`` lists its verbs; each answers ``--help`` in well under a second.

Everything heavy is imported inside the verb that needs it. An error of ours ends with exit code 1 and its remedy,
without a traceback; any other error is a bug and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lekhai_helpers.bench_cli import bench_command
from lekhai_helpers.curate_cli import curate_command
from lekhai_helpers.export_cli import export_command
from lekhai_helpers.extract_cli import extract_command
from lekhai_helpers.fetch_cli import fetch
from lekhai_helpers.judge_cli import judge_app
from lekhai_helpers.ledger_cli import ledger_app
from lekhai_helpers.serve_cli import serve_app
from lekhai_helpers.write_cli import write_app


class _Commands(TyperGroup):
    """The verbs. An error of ours ends with its text, which names the remedy, and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (RuntimeError, ValueError, FileNotFoundError) as error:
            if not _written_for_the_user(error):
                raise
            typer.echo(f"\n{error}", err=True)
            raise typer.Exit(1) from None


def _written_for_the_user(error: Exception) -> bool:
    """Say whether the text is ours: a class of this package, or a missing file that we looked for (no errno)."""
    if isinstance(error, FileNotFoundError):
        return error.errno is None
    return type(error).__module__.startswith("lekhai_helpers.")


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a file of examples to a model that writes like them, on your own machine.",
)
data_app = typer.Typer(no_args_is_help=True, help="Your own examples, and public ones.")
app.add_typer(data_app, name="data")
app.add_typer(judge_app, name="judge")
app.add_typer(ledger_app, name="ledger")
app.add_typer(serve_app)  # without a name: their verbs are verbs of lekhai itself
app.add_typer(write_app)
app.command("export")(export_command)
app.command("bench")(bench_command)
app.command("extract")(extract_command)
app.command("curate")(curate_command)
data_app.command("fetch")(fetch)

Recipe = Annotated[str, typer.Option(help="What is made: a file of lekhai_helpers/recipes.")]
Profile = Annotated[str, typer.Option(help="Where: smoke, cpu, colab-t4, rtx5070, multi-gpu; auto asks the machine.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeat it.")]
RunLabel = Annotated[str | None, typer.Option("--run", help="A folder in runs/; without it, the newest run.")]


@app.command()
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the real matrix product and the 4-bit step.")
    ] = False,
) -> None:
    """Check machine, versions and real arithmetic; say which profile fits. Exit code 1 where something is wrong."""
    from lekhai_helpers.doctor import check

    findings = check(deep=not quick)
    for finding in findings:
        typer.echo(f"{finding.status:<5} {finding.name}: {finding.found}")
        if finding.status != "ok" and finding.remedy:
            typer.echo(f"      remedy: {finding.remedy}")
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


@app.command()
def run(
    recipe: Recipe = "lekhai",
    profile: Profile = "auto",
    name: Annotated[str, typer.Option(help="The run's name; its folder is runs/RECIPE-PROFILE-NAME.")] = "first",
    first: Annotated[int, typer.Option("--from", min=1, max=12, help="First notebook.")] = 1,
    last: Annotated[int, typer.Option("--to", min=1, max=12, help="Last notebook.")] = 12,
    only: Annotated[int | None, typer.Option(min=1, max=12, help="This notebook and no other.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is complete and unchanged.")] = False,
    overrides: Set = None,
) -> None:
    """Run the notebooks in order, each reading what the one before left."""
    from lekhai_helpers.core.recipe import parse_override
    from lekhai_helpers.pipeline import run_chain

    settings = dict(parse_override(text) for text in overrides or [])
    try:
        run_chain(
            recipe,
            profile,
            name,
            first=first,
            last=last,
            only=only,
            resume=resume,
            overrides=settings,
            console=_say,
        )
    except KeyboardInterrupt:
        typer.echo("\nStopped. What was finished is kept: the same command with --resume goes on.", err=True)
        raise typer.Exit(130) from None


@app.command()
def publish(
    build: Annotated[bool, typer.Option("--build", help="Write the notebooks from notebooks/src.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say whether notebooks and sources agree.")] = False,
    label: Annotated[str | None, typer.Option("--run", help="Take the outputs of this finished run.")] = None,
) -> None:
    """Make the notebooks: from their sources, or with the outputs of one clean run."""
    from lekhai_helpers import publish as notebooks
    from lekhai_helpers.closing import newest_run

    if not (build or check or label):
        raise typer.BadParameter("say what to do: --build, --run NAME or --check")
    written = notebooks.build() if build else []
    if label:
        finished = newest_run(label)
        written += [*notebooks.publish_run(finished), notebooks.draw_before_after(finished)]
    for path in dict.fromkeys(written):
        typer.echo(f"written: notebooks/{path.name}")
    problems = notebooks.check() if check else []
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)


@app.command()
def report(label: RunLabel = None) -> None:
    """Show what a run came to, and where its report.html lies."""
    from lekhai_helpers.closing import closing_summary, newest_run

    typer.echo(closing_summary(newest_run(label)))


@data_app.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(help="Your file, as the recipe reads it.")],
    recipe: Recipe = "lekhai",
    overrides: Set = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of groups, tones and lengths here.")] = None,
) -> None:
    """Read your examples as notebook 03 will, and name every problem by row. Exit code 1 where a row is unusable."""
    from lekhai_helpers.core.recipe import parse_override, resolve
    from lekhai_helpers.prepare.checks import check_file

    settings = resolve(recipe, "cpu", dict(parse_override(text) for text in overrides or []))
    data = settings.data
    table, problems = check_file(file, data.prompts, data.source, data.contract)
    for problem in problems:
        typer.echo(f"row {problem.row}  {problem.level}  {problem.column}: {problem.problem}")
    typer.echo(f"{int(table['usable'].sum())} of {len(table)} rows can be used")
    if plot:
        from lekhai_helpers.core.plots import data_overview
        from lekhai_helpers.prepare.contracts import words_of

        data_overview(table, words_of(settings)).savefig(plot, dpi=120)
        typer.echo(f"picture: {plot}")
    if any(problem.level == "error" for problem in problems):
        raise typer.Exit(1)


def _say(line: str) -> None:
    """Print a line at once, also into a pipe: a log that is read while the chain runs."""
    print(line, flush=True)


if __name__ == "__main__":
    app()
