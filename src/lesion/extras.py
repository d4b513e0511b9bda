"""Optional dependencies: import one, or say the exact install command."""

from importlib.util import find_spec

from lesion.errors import MissingExtra


def need(command: str, *modules: str, extra: str = "train") -> None:
    """Raise MissingExtra unless all `modules` can be imported; imports none of them."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"`lesion {command}` needs the {extra!r} extra: {', '.join(missing)} not installed",
            hint=f'pip install "lesion[{extra}]"',
        )
