"""The commands that change what readers see: each is a load of its own."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.summary import print_end
from jobs.cli.terminal import First, Last, fail, in_order, say, warn
from jobs.cli.work import all_below_landing, job, never_loaded, require_loads
from jobs.schedule_state import TRY_AGAIN
from jobs.settings import Settings
from jobs.wording import counted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.load import Wish

Accept = Annotated[
    list[str] | None,
    typer.Option(help="Let a critical expectation pass, by the name that its message gives; recorded with the load."),
]
Files = Annotated[list[str] | None, typer.Argument(help="Paths below the landing place.")]


def run(
    sample: Annotated[
        bool | None,
        typer.Option(
            help="Make sample input if the landing place is empty and nothing was ever loaded; by default only where"
            " LAKE_LANDING is not set."
        ),
    ] = None,
    accept: Accept = None,
) -> None:
    """Load all that is new in the landing place: check, publish, build the marts, validate, report.

    Exit status 1 if a critical expectation failed or the reference file was rejected; 75 if the load could not run for
    a reason that may pass: another run was at work, a service did not answer.
    """
    accepted = _known_reasons(accept)
    settings = Settings()
    if sample and "://" in settings.landing:
        raise fail(f"{settings.landing} is no folder: `lake sample --out DIR` makes input to be copied there")
    wanted = sample or (sample is None and "landing" not in settings.model_fields_set)
    wanted = look_at_landing(settings, sample=bool(wanted))

    from jobs.load import Wish

    work_on(Wish(accept=accepted), sample=wanted)


def retract(
    files: Files = None,
    load: Annotated[str | None, typer.Option(help="What a load brought.")] = None,
    meterpoint: Annotated[str | None, typer.Option(help="What any file says of a meterpoint.")] = None,
    first: First = None,
    last: Last = None,
) -> None:
    """Take readings away: those of files, of a load, or of a meterpoint. `lake rollback` brings them back.

    Readings of other files that they outweighed count again. A new version of a file is loaded as any other.
    """
    if not (files or load or meterpoint):
        raise fail("name files, --load ID or --meterpoint ID")
    dates = in_order(first, last)
    require_loads(Settings())

    from jobs.load import Wish
    from jobs.silver import Retraction

    work_on(Wish(kind="retract", retraction=Retraction(all_below_landing(files), load, meterpoint, *dates)))


def reload(
    files: Files = None,
    load: Annotated[str | None, typer.Option(help="All files that a load took.")] = None,
    accept: Accept = None,
) -> None:
    """Read files again as they are now, whatever is known of them: after a rollback, or where a new version has the
    size and time of the old one."""
    if not (files or load):
        raise fail("name files, or --load ID")
    accepted = _known_reasons(accept)
    require_loads(Settings())
    look_at_landing(Settings())

    from jobs.load import Wish

    work_on(Wish(kind="reload", again=all_below_landing(files), again_load=load, accept=accepted))


def rebuild(
    first: First = None,
    last: Last = None,
    from_files: Annotated[
        bool, typer.Option("--from-files", help="Read the dates' files in the landing place again, too.")
    ] = False,
    accept: Accept = None,
) -> None:
    """Build the marts anew, after a formula was changed; with --from-files readings too, after a rule was changed."""
    dates, accepted = in_order(first, last), _known_reasons(accept)
    require_loads(Settings())
    if from_files:
        look_at_landing(Settings())

    from jobs.load import Wish

    work_on(Wish(kind="rebuild", rebuild=dates, from_files=from_files, accept=accepted))


def rollback(
    load: Annotated[str | None, typer.Option(help="Id of the newest load or rollback; `status` lists them.")] = None,
) -> None:
    """Undo the newest load, or the newest rollback: publish again what was there before, after it was judged.

    The load's files stay known: `lake reload` reads them again, and new versions of them are loaded.
    """
    if not load:
        raise fail("say which load: --load ID; `lake status` lists them")
    require_loads(Settings())

    from jobs import rollback as undo

    with job() as this:
        summary = undo.run(this.start_spark(), this.settings, load, this.stage, warn)
    print_end(this, summary)


def work_on(wish: "Wish", *, sample: bool = False) -> None:
    """Carry out what a person asked for, say what came of it, and leave with the exit status that goes with it."""
    from jobs import load

    with job() as this:
        spark = this.start_spark()
        if sample:
            _sample_if_new(spark, this.settings)
        told: list[str] = []
        noted: list[str] = []
        summary = load.run(spark, this.settings, this.stage, wish, told.append, noted.append)
        this.changed = bool(summary or told)
        if not summary and "://" in this.settings.landing and wish.kind == "load":
            _warn_of_empty_store(this.settings)
    for text in told + noted:
        say(text)
    print_end(this, summary)


def _known_reasons(accept: list[str] | None) -> frozenset[str]:
    from jobs.accept import require_known
    from jobs.errors import LakeError

    if accept:
        try:
            require_known(accept)
        except LakeError as error:
            raise fail(str(error)) from None
    return frozenset(accept or ())


def look_at_landing(settings: Settings, *, sample: bool = False) -> bool:
    """Whether the landing place is empty and a sample is wanted there; without input for another reason it is told.

    Ends the command, before Spark starts, where there is no landing place. That of a new lakehouse is made.
    """
    from jobs import landing
    from jobs.stores import open_folder
    from meterlake import first_line

    place = settings.landing
    file_system, folder = open_folder(place, settings.s3_endpoint)
    if "://" in place:
        try:
            file_system.get_file_info(folder)
        except OSError as error:
            raise fail(f"the landing place {place} does not answer: {first_line(str(error))}", TRY_AGAIN) from None
        return False  # to look for input would list all that lies there
    if sample and never_loaded(settings):
        Path(folder).mkdir(parents=True, exist_ok=True)
    if not Path(folder).is_dir():
        raise fail(f"the landing place {place} is no folder: make it, mount it, or set LAKE_LANDING to another one")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise fail(f"the landing place {place} may not be read by this user")
    if landing.has_input(folder):
        return False
    if sample and landing.is_empty(file_system, folder):
        return True
    warn_of_no_input(place)
    return False


def warn_of_no_input(place: str) -> None:
    """Say what is looked for in a landing place that has nothing of it."""
    warn(f"{place} has no readings/**/*.json (or .jsonl, .gz) and no *.db")


def _warn_of_empty_store(settings: Settings) -> None:
    from jobs import landing
    from jobs.stores import open_folder

    found = landing.look(*open_folder(settings.landing, settings.s3_endpoint))
    if not (found.readings or found.reference):
        warn_of_no_input(settings.landing)


def _sample_if_new(spark: "SparkSession", settings: Settings) -> None:
    """A sample for a new lakehouse. In one that has loads an empty landing place is a delivery that is missing, and
    made-up readings would stand beside real ones."""
    from jobs import tables
    from jobs.sample import write_sample

    if tables.exists(spark, tables.LOADS) and tables.partitions(spark, tables.LOADS):
        warn_of_no_input(settings.landing)
        return
    made = write_sample(Path(settings.landing))
    say(f"{settings.landing} is empty: made a sample of {counted(made.readings, 'reading')} in it.")
