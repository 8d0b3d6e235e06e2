"""``lekhai judge``: ``audit`` asks whether the judge can be trusted, ``label`` collects marks from people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lekhai_helpers.core.recipe import Settings
    from lekhai_helpers.measure.judge_audit import Audit
    from lekhai_helpers.measure.judge_client import Judge

judge_app = typer.Typer(no_args_is_help=True, help="The judge of texts, and whether it can be trusted.")

Run = Annotated[str | None, typer.Option("--run", help="A folder in runs/; without it, the newest run.")]


@judge_app.command("audit")
def audit_command(
    pairs: Annotated[int | None, typer.Option(min=1, help="Only so many of the pairs, evenly from all faults.")] = None,
    recipe: Annotated[str, typer.Option(help="Whose criteria, budget and prices.")] = "lekhai",
    profile: Annotated[str, typer.Option(help="Whose settings: smoke, cpu, colab-t4, rtx5070, multi-gpu.")] = "cpu",
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    label: Annotated[str | None, typer.Option("--run", help="Write the audit into this run's ledger too.")] = None,
) -> None:
    """Ask the judge of LEKHAI_JUDGE_URL or OPENAI_API_KEY about pairs with a known better side.

    Exit code 1 where it is not to be trusted. What was answered is kept: a second run goes on where one stopped.
    """
    from lekhai_helpers.closing import newest_run
    from lekhai_helpers.core.recipe import parse_override, resolve
    from lekhai_helpers.measure.judge_client import required

    run = newest_run(label) if label else None  # a wrong name is told before anything is paid for
    settings = resolve(recipe, profile, dict(parse_override(text) for text in overrides or []))
    judge = required(settings.judge)
    found = _audit(judge, settings, pairs)
    _show(found, judge)
    if run:
        with run.open_ledger() as ledger:
            ledger.add_audit(found.judge, found.rows(), passed=found.passed, sentence=found.sentence)
    if not found.passed:
        raise typer.Exit(1)


@judge_app.command("label")
def label_command(
    rater: Annotated[str, typer.Option(help="Your name or initials, the same at every sitting.")],
    texts: Annotated[int, typer.Option(min=1, help="How many texts, in all sittings together.")] = 20,
    label: Run = None,
) -> None:
    """Read texts of a run without knowing which model wrote them, and mark each by the criteria."""
    from lekhai_helpers.closing import newest_run
    from lekhai_helpers.measure.labels import label_in_terminal, open_tasks

    run = newest_run(label)
    with run.open_ledger() as ledger:
        tasks = open_tasks(ledger.responses(), ledger.labels(), rater, texts, run.settings.seed)
        done = label_in_terminal(
            tasks, run.settings.judge.criteria, rater, ledger.add_labels, ask=_ask, tell=typer.echo
        )
    typer.echo(f"{done} texts marked and saved, {len(tasks) - done} left")


def _ask(question: str) -> str:
    typer.echo(question, nl=False)
    return input()


def _audit(judge: Judge, settings: Settings, limit: int | None) -> Audit:
    from lekhai_helpers.measure.judge import family_of
    from lekhai_helpers.measure.judge_audit import audit, audit_pairs

    return audit(
        judge,
        audit_pairs(settings),
        settings.judge.criteria,
        limit,
        settings.seed,
        writer_family=family_of(settings.model.name),
        concurrency=settings.judge.concurrency,
        progress=lambda line: typer.echo(line, err=True),
    )


def _show(found: Audit, judge: Judge) -> None:
    columns = ["pairs", "by score", "by that criterion", "by choice", "flipped"]
    typer.echo(found.table()[columns].to_string(float_format="{:.0%}".format, na_rep="-"))
    for warning in found.warnings:
        typer.echo(f"note: {warning}")
    typer.echo(judge.usage.sentence)
    typer.echo(found.sentence)
