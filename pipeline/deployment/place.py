"""Where in our code an error arose: said in place of its message, which could quote a header."""

from __future__ import annotations

OURS = ("pipeline.", "transforms.")


def place_of(error: BaseException) -> str:
    """Module and line of ours in which an error was raised, or that called what raised it; empty if there is none.

    Example:
        >>> from transforms.recipe import known_phases
        >>> try:
        ...     known_phases(1, None)
        ... except ValueError as error:
        ...     place_of(error).partition(":")[0]
        'transforms.recipe'
    """
    place, trace = "", error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        place = f"{module}:{trace.tb_lineno}" if module.startswith(OURS) else place
        trace = trace.tb_next
    return place
