"""`recspark run | show user | show item | search | models … | history | lineage | vacuum | unlock | doctor | version`."""

import datetime
from typing import Annotated

import typer

from recspark import __version__
from recspark.errors import UserError
from recspark.exits import guard

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A nightly batch recommender on Spark with a fine-tuned language model.",
)
show = typer.Typer(no_args_is_help=True, help="Print what a person would want to see of a user or an item.")
app.add_typer(show, name="show")
models = typer.Typer(no_args_is_help=True, help="The versions of the models: list, promote, roll back, read a card.")
app.add_typer(models, name="models")

ConfigOption = Annotated[str, typer.Option("--config", help="the deployment's YAML")]
DateOption = Annotated[
    datetime.datetime | None, typer.Option("--run-date", formats=["%Y-%m-%d"], help="default: today")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="override a setting; may be repeated")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="warnings and errors only")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="stack traces, and what Spark has to say")]


def day(given: datetime.datetime | None) -> datetime.date:
    return given.date() if given else datetime.date.today()


@app.command()
def run(
    config: ConfigOption,
    run_date: DateOption = None,
    start: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="first stage")] = None,
    stop: Annotated[str | None, typer.Option("--to", metavar="STAGE", help="last stage")] = None,
    overrides: SetOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="publish beyond the guardrails, too; the manifests say so")
    ] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run the pipeline's stages in order, in one Spark application."""
    from recspark import runner

    request = runner.Request(config, day(run_date), tuple(overrides or ()), verbose - quiet, force)
    raise typer.Exit(guard(lambda: runner.run(request, chosen(start, stop)), verbose))


def chosen(start: str | None, stop: str | None) -> list[str]:
    """Names of the stages from one to another, by default the night's; a stage outside it runs if an end of the range names it.

    Raises UserError for an unknown name or an empty range.
    """
    from recspark.pipeline import NIGHT, STAGES

    names = list(STAGES)
    for option, name in (("--from", start), ("--to", stop)):
        if name is not None and name not in names:
            raise UserError(f"{option} {name}: no such stage; stages are {', '.join(names)}")
    first = names.index(start) if start else 0
    last = names.index(stop) if stop else max(first, len(NIGHT) - 1)
    picked = [name for name in names[first : last + 1] if name in (*NIGHT, start, stop)]
    if not picked:
        raise UserError(f"--from {start} comes after --to {stop}; the order is {', '.join(names)}")
    return picked


@show.command("user")
def show_user(
    user_id: str,
    config: ConfigOption,
    run_date: DateOption = None,
    overrides: SetOption = None,
    top: Annotated[int, typer.Option(min=1, help="rows of each list")] = 10,
) -> None:
    """A user's history and recommendations, with titles and scores."""
    from recspark import show as shown

    raise typer.Exit(
        guard(lambda: shown.user(config, run_date.date() if run_date else None, overrides or [], user_id, top), False)
    )


@show.command("item")
def show_item(
    item_id: str,
    config: ConfigOption,
    run_date: DateOption = None,
    overrides: SetOption = None,
    top: Annotated[int, typer.Option(min=1, help="rows of each list")] = 10,
) -> None:
    """An item's text, and the items nearest to it."""
    from recspark import show as shown

    raise typer.Exit(
        guard(lambda: shown.item(config, run_date.date() if run_date else None, overrides or [], item_id, top), False)
    )


@app.command()
def search(
    query: str,
    config: ConfigOption,
    run_date: DateOption = None,
    overrides: SetOption = None,
    top: Annotated[int, typer.Option(min=1, help="items to print")] = 10,
    user_id: Annotated[str | None, typer.Option("--user", metavar="ID", help="whose preferences count beside")] = None,
) -> None:
    """The items that answer a query in free words, best first. (`recspark run --from search` answers a table of queries.)"""
    from recspark import search as searching

    date = run_date.date() if run_date else None
    raise typer.Exit(guard(lambda: searching.run(config, date, overrides or [], query, user_id, top), False))


@models.command("list")
def list_versions(
    config: ConfigOption,
    overrides: SetOption = None,
    name: Annotated[str, typer.Option("--name", metavar="MODEL", help="whose versions")] = "retriever",
) -> None:
    """The versions of a model, the newest first, and which is promoted."""
    from recspark import versions

    raise typer.Exit(guard(lambda: versions.show_versions(config, overrides or [], name), False))


@models.command()
def promote(version: str, config: ConfigOption, overrides: SetOption = None) -> None:
    """Make a version of the retriever the one that `embed.retriever: promoted` means."""
    from recspark import versions

    raise typer.Exit(guard(lambda: versions.promote(config, overrides or [], version), False))


@models.command()
def rollback(config: ConfigOption, overrides: SetOption = None) -> None:
    """Go back to the version that was promoted before; again to the one before that."""
    from recspark import versions

    raise typer.Exit(guard(lambda: versions.rollback(config, overrides or []), False))


@models.command()
def card(
    version: str,
    config: ConfigOption,
    overrides: SetOption = None,
    name: Annotated[str, typer.Option("--name", metavar="MODEL", help="whose version")] = "retriever",
) -> None:
    """A version's model card."""
    from recspark import versions

    raise typer.Exit(guard(lambda: versions.card(config, overrides or [], name, version), False))


@app.command()
def history(
    config: ConfigOption,
    overrides: SetOption = None,
    top: Annotated[int, typer.Option(min=1, help="nights to print")] = 20,
) -> None:
    """The nights of the lake, the newest first."""
    from recspark import history as nights

    raise typer.Exit(guard(lambda: nights.show_history(config, overrides or [], top), False))


@app.command()
def lineage(table: str, config: ConfigOption, run_date: DateOption = None, overrides: SetOption = None) -> None:
    """What a table of a run date (the newest) was made from, down to the raw data."""
    from recspark import history as nights

    date = run_date.date() if run_date else None
    raise typer.Exit(guard(lambda: nights.show_lineage(config, overrides or [], table, date), False))


@app.command()
def vacuum(
    config: ConfigOption,
    overrides: SetOption = None,
    keep: Annotated[int | None, typer.Option(min=1, metavar="N", help="the newest N dates stay")] = None,
    days: Annotated[int | None, typer.Option(min=0, metavar="N", help="dates of the last N days stay")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="do it; else it is only said")] = False,
) -> None:
    """Remove old nights, but for what is still needed."""
    from recspark import history as nights

    today = datetime.date.today()
    raise typer.Exit(guard(lambda: nights.vacuum(config, overrides or [], keep, days, delete, today), False))


@app.command()
def unlock(
    config: ConfigOption,
    run_date: DateOption = None,
    overrides: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="although its run seems to live")] = False,
) -> None:
    """Take away the lock of a run that you know to have died on another machine."""
    from recspark import locks

    raise typer.Exit(guard(lambda: locks.unlock(config, overrides or [], day(run_date), force), False))


@app.command()
def doctor(
    config: ConfigOption, run_date: DateOption = None, overrides: SetOption = None, verbose: VerboseOption = False
) -> None:
    """Check, before a night is wasted, that this machine and this configuration can run it."""
    from recspark import doctor as check

    raise typer.Exit(guard(lambda: check.run(config, overrides or [], day(run_date)), verbose))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    app()
