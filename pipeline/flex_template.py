"""What a flex template's launcher gives, as options of `dawnchorus detect`."""

import argparse
from collections.abc import Sequence

from pipeline.detect_command import add_arguments

TRUE, FALSE = {"true", "1", "yes"}, {"false", "0", "no", ""}


def as_options(parameters: Sequence[str]) -> list[str]:
    """`--min_score=0.2` as `--min-score=0.2`, `--embeddings=true` as `--embeddings`.

    Parameters of templates have no hyphens, and always a value. What is not ours stays as it is.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    flags = {
        name: action.nargs == 0 for action in parser._actions for name in action.option_strings
    }
    options = []
    for parameter in parameters:
        name, is_valued, value = parameter.partition("=")
        ours = name.replace("_", "-")
        if name.startswith("--") and ours in flags:
            parameter = ours + is_valued + value
            if flags[ours] and value.lower() in TRUE:
                parameter = ours
            elif flags[ours] and is_valued and value.lower() in FALSE:
                continue
            elif is_valued and not value:
                continue  # A field of the template's form that was left blank.
        options.append(parameter)
    return options
