"""The digest of a step's code: what can change a result changes it, and nothing else does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lora.plan import code

FILES = {
    "__init__.py": "",
    "steps/__init__.py": '"""Steps."""\n',
    "steps/train.py": """
        '''Train.'''
        import logging
        from lora.deep.er import layer
        from lora import top
        from lora.deep import tail
        log = logging.getLogger(__name__)

        def train(n):
            '''Do it.'''
            log.info("training %d", n)
            if n < 0:
                raise ValueError(f"{n} is negative")
            from lora.lazy import late
            return layer.f(n) + top.g(n) + tail + late(n)
    """,
    "deep/__init__.py": "tail = 1\n",
    "deep/er/__init__.py": "",
    "deep/er/layer.py": "def f(n):\n    return n\n",
    "top.py": "def g(n):\n    return 2 * n\n",
    "lazy.py": "from .top import g\n\ndef late(n):\n    return g(n)\n",
    "other.py": "x = 1\n",
    "progress.py": "def show():\n    pass\n",
    "curves.py": """
        LIMIT = 3

        def dimers(x):
            return wall(x) < LIMIT

        def wall(x):
            return x

        def eos(x):
            return x
    """,
}
Edit = Callable[[str, str, str], None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """A small library of the shape of ours; the value replaces a text in one of its files."""
    import textwrap

    for name, text in FILES.items():
        path = tmp_path / "lora" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "lora")

    def edit(name: str, old: str, new: str) -> None:
        path = tmp_path / "lora" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        forget()

    forget()
    yield edit
    forget()


def forget() -> None:
    for cached in (code._read, code._parse, code._reached):
        cached.cache_clear()


CHANGES = [
    ("steps/train.py", "+ top.g(n)", "- top.g(n)"),
    ("deep/er/layer.py", "return n", "return n + 1"),  # a sub-package
    ("top.py", "2 * n", "3 * n"),  # from lora import top
    ("deep/__init__.py", "tail = 1", "tail = 2"),  # a name in a package
    ("lazy.py", "return g(n)", "return -g(n)"),  # imported in a function
]
SAME = [
    ("steps/train.py", "'''Train.'''", "'''Train, said otherwise.'''"),
    ("steps/train.py", "'''Do it.'''", "'''Do it: [n] -> eV.'''"),
    ("steps/train.py", '"training %d", n', '"training %d points, really", n + 1'),
    ("steps/train.py", 'f"{n} is negative"', 'f"n must not be negative, but is {n}"'),
    ("steps/train.py", "log = ", "# a comment\nlog  =   "),
    ("top.py", "return 2 * n", "return (\n        2\n        * n\n    )"),
    ("other.py", "x = 1", "x = 2"),  # nobody imports it
]


@pytest.mark.parametrize(("name", "old", "new"), CHANGES)
def test_what_can_change_a_result_changes_the_digest(
    package: Edit, name: str, old: str, new: str
) -> None:
    before = code.code_of("lora.steps.train")
    package(name, old, new)
    assert code.code_of("lora.steps.train") != before
    package(name, new, old)
    assert code.code_of("lora.steps.train") == before


@pytest.mark.parametrize(("name", "old", "new"), SAME)
def test_what_cannot_change_a_result_does_not(package: Edit, name: str, old: str, new: str) -> None:
    before = code.code_of("lora.steps.train")
    package(name, old, new)
    assert code.code_of("lora.steps.train") == before


def test_a_message_that_sets_a_name_counts(package: Edit) -> None:
    package("steps/train.py", '"training %d", n', '"training %d", (m := n)')
    before = code.code_of("lora.steps.train")
    package("steps/train.py", "(m := n)", "(m := n + 1)")
    assert code.code_of("lora.steps.train") != before


def test_modules_that_print_do_not_count(package: Edit) -> None:
    package("steps/train.py", "import logging", "import logging\nimport lora.progress")
    before = code.code_of("lora.steps.train")
    package("progress.py", "pass", "return 1")
    assert code.code_of("lora.steps.train") == before


@pytest.mark.parametrize("line", ["import lora.gone", "from lora.gone import x"])
def test_a_module_that_is_not_there_is_an_error(package: Edit, line: str) -> None:
    package("steps/train.py", "import logging", f"import logging\n{line}")
    with pytest.raises(LookupError, match=r"lora\.gone: there is no such module"):
        code.code_of("lora.steps.train")


def test_a_name_that_is_not_there_is_an_error(package: Edit) -> None:
    package("steps/train.py", "import tail", "import trail")
    with pytest.raises(LookupError, match=r"imports trail from lora\.deep, where it is not"):
        code.code_of("lora.steps.train")


def test_of_a_named_function_counts_what_it_reaches(package: Edit) -> None:
    before = code.code_of("lora.curves:dimers")
    package("curves.py", "def eos(x):\n    return x", "def eos(x):\n    return 2 * x")
    assert code.code_of("lora.curves:dimers") == before
    package("curves.py", "def wall(x):\n    return x", "def wall(x):\n    return -x")
    assert code.code_of("lora.curves:dimers") != before
    with pytest.raises(LookupError, match="has no holes"):
        code.code_of("lora.curves:holes")
