"""What ends a step early: a mistake of the user, a pause; and the exit codes that say so."""


class UserError(Exception):
    """A mistake in what the user gave: one line with where, what, and what to do."""


EXIT_CODE = 75  # EX_TEMPFAIL: nothing is wrong, run it again


class Paused(Exception):  # noqa: N818  (it is no error)
    """A training that stopped early and goes on from its checkpoint when it is run again."""
