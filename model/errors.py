"""The error that a user can act on."""


class UserError(Exception):
    """One sentence for the user: what is wrong, where, and what to do.

    The command line prints it and exits with status 1; a traceback is shown with `--debug` only.
    """


def require(holds: bool, name: str, value: object, accepted: str) -> None:
    """Raises UserError, naming a value and what would be accepted, unless `holds`."""
    if not holds:
        raise UserError(f"The {name} is {value}; it must be {accepted}.")
