"""Shows how far the reading of images is."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from plgan_tune.console.format import redrawn
from plgan_tune.data.decode import Progress as Told


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing while it is unknown."""
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


@contextmanager
def reading_images(console: Console) -> Iterator[Told]:
    """Show a bar with the rate and the time left while images are decoded; it goes when they are.

    Nothing is shown where a console cannot redraw. What is yielded is to be told how many images of how many are done.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not redrawn(console), transient=True) as bar:
        task = bar.add_task("reading the images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
