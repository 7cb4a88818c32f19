"""Jobs that an earlier start left in the queue, because it was killed.

All Slurm jobs of one results folder have the same name, in every start, and say in their comment
what they run and from what.  So a new start finds them: it waits for those that do what it would
submit, and cancels those whose settings, code or inputs are not those of now.
"""

import time
from collections.abc import Callable

from snakemake_executor_plugin_mace_slurm.ask import ask, queue
from snakemake_executor_plugin_mace_slurm.tag import Tag

ASK_AGAIN = 5.0  # seconds after which a queue that gave no answer is asked again
PATIENCE = 300.0  # seconds for a cancelled job to write its checkpoint and go


class Earlier:
    """What earlier starts left in the queue.

    Attributes:
        tags: What each of them runs, by number.
    """

    def __init__(self, name: str) -> None:
        """Ask for the jobs of that name."""
        self.name = name
        found = queue(name)
        while found is None:  # none in the queue and no answer are not the same
            time.sleep(ASK_AGAIN)
            found = queue(name)
        self.tags = {x.number: Tag.read(x.comment) for x in found.values()}

    def drop(self, stale: Callable[[Tag], bool]) -> list[str]:
        """Cancel those that are stale; return what they ran."""
        numbers = [number for number, tag in self.tags.items() if stale(tag)]
        if numbers:
            ask("scancel", *numbers)
        return [f"{self.tags[x].name} (job {x})" for x in numbers]

    def take(self, tag: Tag, wait: Callable[[float], bool]) -> str:
        """Return the number of the job that does what would be submitted; "" where there is none.

        One that does it in part, or from something else, is cancelled and its end waited for, so
        that no job holds a GPU while it waits for another.

        Args:
            tag: What would be submitted.
            wait: Waits for seconds; True where snakemake ends meanwhile.
        """
        for number in [x for x, other in self.tags.items() if other.meets(tag.jobs)]:
            cancelled, until = False, time.monotonic() + PATIENCE
            while time.monotonic() < until:
                there = queue(self.name)
                if there is None:
                    until += ASK_AGAIN + 1.0  # no answer is no sign that it will not go
                    if wait(ASK_AGAIN):
                        return ""
                    continue
                if there is not None and number not in there:
                    break
                if there and there[number].goes_on:
                    if self.tags[number].covers(tag):
                        return number
                    if not cancelled:
                        ask("scancel", number)
                        cancelled = True
                if wait(1.0):
                    return ""
        return ""
