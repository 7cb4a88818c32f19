"""What a Slurm job says of itself, and what it asks for; without Slurm."""

import pytest

from snakemake_executor_plugin_mace_slurm.request import cap
from snakemake_executor_plugin_mace_slurm.tag import Tag

JUDGING = Tag({"merge/a": "1", "evaluate/a": "2", "check/a": "3"}, ("r1_a8", "r2_a8"))


def test_a_comment_says_what_it_runs() -> None:
    assert str(JUDGING) == "merge/a=1 evaluate/a=2 check/a=3 r1_a8 r2_a8"
    assert Tag.read(str(JUDGING)).jobs == JUDGING.jobs
    many = str(Tag({"merge/cuts": "1"}, tuple(f"lora_r{i}_a8_s3" for i in range(200))))
    assert (
        len(many) < 1000 and many.endswith(" more") and Tag.read(many).jobs == {"merge/cuts": "1"}
    )


@pytest.mark.parametrize(
    ("wanted", "covered"),
    [
        ({"evaluate/a": "2", "check/a": "3"}, True),  # its first step is done
        ({"check/a": "3"}, True),
        ({"check/a": "4"}, False),  # made of something else
        ({"check/b": "3"}, False),
        ({"check/a": "3", "check/b": "3"}, False),
        ({"check/a": ""}, False),
    ],
)
def test_what_does_the_same(wanted: dict[str, str], covered: bool) -> None:
    assert JUDGING.covers(Tag(wanted)) is covered


class Job:
    """As much of a group of jobs as is asked of it."""

    def __init__(self, **resources: int | str) -> None:
        self._resources = resources

    @property
    def resources(self) -> dict[str, int | str]:
        return dict(self._resources)

    def is_group(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "most", "minutes", "extra"),
    [
        (240, None, 240, "--nice=1 --signal=URG@90"),
        (240, 60, 60, "--nice=1 --signal=URG@90"),
        (240, 1, 1, "--nice=1"),  # the warning would come at the start
        (4, None, 4, "--nice=1"),
    ],
)
def test_a_warning_that_would_come_at_once(
    asked: int, most: int | None, minutes: int, extra: str
) -> None:
    job = Job(runtime=asked, slurm_extra="--nice=1 --signal=URG@90")
    cap(job, most)
    assert job.resources == {"runtime": minutes, "slurm_extra": extra}
