"""Shipped configs by name, and what a text in a config means: a file or a name."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.config.tree import Origin
from archsim.errors import nearest
from archsim.files import at_home, is_file
from archsim.formats import ENDINGS

CONFIGS = Path(__file__).parents[1] / "configs"
"""Where the shipped configs are, a folder for each category."""
SUFFIXES = (".yaml", ".yml", ".json")


def shipped(category: str) -> dict[str, Path]:
    """Name to file of the shipped configs of a category: chips, systems, models, technology, runs, sweeps."""
    files = (CONFIGS / category).iterdir() if (CONFIGS / category).is_dir() else ()
    return {path.stem: path for path in sorted(files) if path.suffix in SUFFIXES}


def ships(category: str, name: str) -> bool:
    """Whether a file of that whole name, its ending too, ships in a category's folder."""
    return is_file(CONFIGS / category / name)


def names_file(text: str) -> bool:
    """Whether a text means a file, not the name of a shipped config."""
    return text.endswith((*SUFFIXES, *ENDINGS)) or text.startswith((".", "/", "~"))


def _plain(name: str) -> str:
    return re.sub(r"[-. ]", "_", name).casefold()


_RELEASE = re.compile(r"[-_](instruct|chat|hf|it|pt|base|v\d+(\.\d+)?|\d{4})$", re.IGNORECASE)


def _published(text: str) -> str:
    """The name within an id under which a model is published, ``owner/name``, without what tells its releases apart."""
    _, slash, name = text.partition("/")
    if not slash:
        return text
    while (short := _RELEASE.sub("", name)) != name:
        name = short
    return re.sub(r"^(meta|mistralai)[-_]", "", name, flags=re.IGNORECASE)


def resolve_named(category: str, text: str, near: Origin | None = None) -> Path:
    """The file that a name of a category, or a path, means.

    Parameters
    ----------
    near: where the text is written; a path is relative to that file's folder.
    """
    near = near or Origin("argument")
    if names_file(text):
        return Path(near.file).parent / at_home(text)
    known = shipped(category)
    wanted = _plain(text.removeprefix(f"{category}/"))
    published = _plain(_published(text))
    for name, path in known.items():
        if _plain(name) in (wanted, published):
            return path
    raise near.error(f"no {category.removesuffix('s')} is called '{text}': {nearest(wanted, known)}")


def locate(text: str, near: Origin | None = None) -> Path:
    """The file that a name of whatever category, or a path, means; see :func:`resolve_named`."""
    near = near or Origin("argument")
    category, slash, _ = text.partition("/")
    if names_file(text) or (slash and category in {folder.name for folder in CONFIGS.iterdir()}):
        return resolve_named(category, text, near)
    everything = {
        f"{folder.name}/{name}": path
        for folder in sorted(CONFIGS.iterdir())
        if folder.is_dir()
        for name, path in shipped(folder.name).items()
    }
    found = [name for name in everything if _plain(name.partition("/")[2]) == _plain(text)]
    home = Path(near.file).parent.name
    found = [name for name in found if name.startswith(home + "/")] or found
    if len(found) == 1:
        return everything[found[0]]
    if found:
        raise near.error(f"'{text}' may be {' or '.join(found)}: write which")
    names = {name.partition("/")[2] for name in everything}
    raise near.error(f"no config is called '{text}': {nearest(text, names)}")
