"""A function that only fails, in place of another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn


def raising(error: BaseException | type[BaseException]) -> Callable[..., NoReturn]:
    """A function that raises this error, whatever it is given."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail
