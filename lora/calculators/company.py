"""Work in several threads whose questions to a model are answered together.

A check of a model asks for predictions one after the other, each of a few small structures, and so
does a run of molecular dynamics; a model answers many at once in little more time than one.  So
several checks, or runs, go on side by side, each in a thread of its own, until each of them waits
for an answer; then all their questions are answered at once.  A model answers while all threads
wait, and who asks together depends on the work alone: two runs are equal.

    with several models:    Company(answer).run(works)
    within a work:          together(works), which is one after the other outside of a company
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")
Place = tuple[int, ...]  # of a thread: of its work, of the work within it, ...

_own = threading.local()  # company and place of a thread


class _LeftError(Exception):
    """Raised in threads that wait when another has failed."""


class _Group:
    """Works that one thread waits for."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.results: list[Any] = [None] * n
        self.errors: dict[int, BaseException] = {}
        self.done = threading.Event()


class Company:
    """Threads that ask together.

    Attributes:
        answer: What answers questions, [n] to [n], in the thread that called `run`.
    """

    def __init__(self, answer: Callable[[list[Any]], list[Any]]) -> None:
        """Keep what answers.

        Args:
            answer: It gets all questions at once, in the order of the works that ask.
        """
        self.answer = answer
        self._changed = threading.Condition()
        self._busy = 0  # threads that will ask or end
        self._asked: dict[Place, tuple[Any, Future[Any]]] = {}
        self._failed = False

    def run(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """Return what works return, in their order.

        Args:
            works: The works, which call `ask` and `together`.

        Raises:
            Exception: What the first work, or the answer, raises.
        """
        group = _Group(len(works))
        self._busy, self._failed = len(works), False
        self._start(group, works, ())
        try:
            while self._wait():
                questions, futures = zip(
                    *(self._asked.pop(place) for place in sorted(self._asked)), strict=True
                )
                self._answer(list(questions), futures)
        finally:
            self._leave()
        return _results_of(group)

    def ask(self, question: Any) -> Any:
        """Return the answer to a question of the work of this thread.

        Args:
            question: What `answer` takes.
        """
        future: Future[Any] = Future()
        with self._changed:
            if self._failed:
                raise _LeftError
            self._asked[_own.place] = question, future
            self._changed.notify_all()
        return future.result()

    def within(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """Return what works return that are parts of the work of this thread; it waits for them.

        Args:
            works: The parts.
        """
        group = _Group(len(works))
        with self._changed:
            self._busy += len(works) - 1  # this thread asks nothing while they do
        self._start(group, works, _own.place)
        group.done.wait()
        return _results_of(group)

    def _answer(self, questions: list[Any], futures: Sequence[Future[Any]]) -> None:
        try:
            found = self.answer(questions)
            assert len(found) == len(questions)
        except BaseException:
            for future in futures:
                future.set_exception(_LeftError())
            raise
        for future, one in zip(futures, found, strict=True):
            future.set_result(one)

    def _start(self, group: _Group, works: Sequence[Callable[[], Result]], place: Place) -> None:
        for i, work in enumerate(works):
            args = (group, i, work, (*place, i))
            threading.Thread(target=self._work, args=args, daemon=True).start()

    def _work(self, group: _Group, i: int, work: Callable[[], Any], place: Place) -> None:
        """Be a thread."""
        _own.company, _own.place = self, place
        try:
            group.results[i] = work()
        except BaseException as error:  # which the thread that waits for it raises
            group.errors[i] = error
        with self._changed:
            group.left -= 1
            if place[:-1] and not group.left:  # the thread that waits for it goes on in its stead
                group.done.set()
            else:
                self._busy -= 1
            if group.errors and not place[:-1]:
                self._fail()
            self._changed.notify_all()

    def _wait(self) -> bool:
        """Wait until all threads ask; return False when all have ended, or one has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or len(self._asked) == self._busy)
            return bool(self._busy) and not self._failed

    def _fail(self) -> None:
        self._failed = True
        for _, future in self._asked.values():
            future.set_exception(_LeftError())
        self._asked.clear()

    def _leave(self) -> None:
        """See all threads end."""
        with self._changed:
            self._fail()
            self._changed.wait_for(lambda: not self._busy)


def together(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return what works return, in their order; in a company they ask together.

    Args:
        works: Parts of the work of this thread.

    Raises:
        Exception: What the first of them that fails raises.
    """
    company: Company | None = getattr(_own, "company", None)
    if company is None or not works:
        return [work() for work in works]
    return company.within(works)


def _results_of(group: _Group) -> list[Any]:
    """Return the results of a group, or raise its first error."""
    own = {i: x for i, x in group.errors.items() if not isinstance(x, _LeftError)}
    for errors in (own, group.errors):
        if errors:
            raise errors[min(errors)]
    return group.results
