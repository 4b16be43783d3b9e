"""`medaug turing`: can physicians tell synthetic images from real ones?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medaug_cli.commands import console, options

app = typer.Typer(
    help="Make and score a reader study, the Visual Turing Test.\n\n"
    "Example: medaug turing make real.h5 synthetic.h5 --n 100 --out study",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
)


@app.command()
def make(
    stores: Annotated[
        list[Path], typer.Argument(metavar="REAL.H5 SYNTHETIC.H5...", help="Stores of real and of synthetic images.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pages and the key.")] = Path("turing"),
    n: Annotated[int, typer.Option("--n", help="Total number of images, half of them synthetic.", min=2)] = 100,
    by: Annotated[
        Literal["auto", "class", "label", "none"],
        typer.Option(help="Balance by class of image, or by label of the largest lesion."),
    ] = "auto",
    split: Annotated[str, typer.Option(help="Split of the real images: train, val, test or all.")] = "test",
    readers: Annotated[
        int, typer.Option(help="Number of readers; each gets a page in its own order.", min=1, max=100)
    ] = 1,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Show a real and a synthetic image side by side; ask which is which.")
    ] = False,
    practice: Annotated[int, typer.Option(help="Additional images to practise on, with answers.", min=0)] = 10,
    repeats: Annotated[float, typer.Option(help="Share of questions that are asked twice.")] = 0.1,
    ask_class: Annotated[
        bool | None,
        typer.Option("--ask-class/--no-ask-class", help="Ask for the class.  [default: if there are several]"),
    ] = None,
    ask_lesion: Annotated[
        bool, typer.Option("--ask-lesion/--no-ask-lesion", help="Ask whether a lesion is where the box is.")
    ] = True,
    title: Annotated[str, typer.Option(help="Title of the pages.")] = "Real or synthetic?",
    seed: options.Seed = 0,
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write an offline page for each reader, and key.json, which stays with you.

    Example: medaug turing make real.h5 kept.h5 --n 100 --readers 3 --out study
    """
    from medaug_cli.turing import StudyOptions, make_study

    with console.steps("turing make") as step:
        key = make_study(
            StudyOptions(
                stores=stores, out=out, n=n, by=by, split=split, readers=readers, pairs=pairs, practice=practice,
                repeats=repeats, asks_class=ask_class, asks_lesion=ask_lesion, title=title, seed=seed,
                overwrite=overwrite, dry_run=dry_run, say=console.say, report=step,
            )
        )  # fmt: skip
    pages = [] if dry_run else [f"{one.name}.html" for one in key.readers]
    result = {"out": str(out), "key": None if dry_run else str(out / "key.json"), "pages": pages}
    text = f"{out}: send {', '.join(pages)} to the readers, one each; keep key.json, which says what is real"
    said = f"{out}: nothing is made yet" if dry_run else text
    console.answer(result | {"images": len(key.images)}, as_json, said)


@app.command()
def score(
    key: Annotated[Path, typer.Argument(metavar="KEY.JSON", help="The key.json of `turing make`.")],
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS.JSON...", help="Answer files exported from the readers' pages.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("turing-score"),
    margin: Annotated[
        float, typer.Option(help="How far from guessing (0.5) an accuracy may be and still count as guessing.")
    ] = 0.1,
    partial: Annotated[bool, typer.Option("--partial", help="Also score readers who have not finished.")] = False,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples for each interval.", min=100)] = 2000,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Score the readers' answers: accuracy, tests against guessing, d', agreement, and which images fooled whom.

    Example: medaug turing score study/key.json answers-*.json --out study-score
    """
    from medaug_cli.turing import ScoreOptions, score_study
    from medaug_cli.turing.report import sentences, tables

    with console.steps("turing score") as step:
        report = score_study(
            ScoreOptions(
                key=key, answers=answers, out=out, margin=margin, partial=partial, resamples=resamples, seed=seed,
                overwrite=overwrite, say=console.say, report=step,
            )
        )  # fmt: skip
    if as_json:
        console.answer(report.model_dump(mode="json"), True, "")
    else:
        for sentence in sentences(report):
            console.answer({}, False, sentence)
        for each in tables(report):
            console.show(each)
    console.say(f"{out}: turing.json, turing.csv, turing.html")
