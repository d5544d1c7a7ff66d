"""Configs: YAML to typed specs and back, with the place of every value kept.

A file may build on others, at any depth::

    extends: tpu_v4i                 # a shipped name, a file, or a list of them; the child wins
    memories: {hbm: {capacity: 16 GiB}}
    notes: null                      # a null takes an inherited key away
    engines: !include engines.yaml   # the whole value from another file

Text that ends in .yaml, .yml or .json, or starts with ``.``, ``/`` or ``~``, is a file, relative to the file
it is written in; any other is a shipped name, such as ``tpu_v4i`` or ``chips/tpu_v4i``, in which dashes,
dots, underscores and case are equal. A field of a spec marked :class:`Named` takes such a text for its value.

A config may name any config file (.yaml, .yml, .json) that its reader may read, in whatever folder and through links
too, and what it holds becomes a part of the resolved config: run configs that you would run as a script. It names
nothing else: a device, a pipe or a file of another ending is refused.

YAML is read by the rules of YAML 1.2: ``on`` is a word, ``1e9`` a number, ``12:30`` neither. JSON is YAML.
"""

from archsim.config.expected import File, Named
from archsim.config.names import CONFIGS, locate, resolve_named, shipped
from archsim.config.reader import tree_of
from archsim.config.resolved import override, parse_value
from archsim.config.spec import build, load_spec, load_tree
from archsim.config.tree import Origin, Source, Tree, dump, merge
from archsim.config.written import digest, files_of, to_yaml

__all__ = [
    "CONFIGS",
    "File",
    "Named",
    "Origin",
    "Source",
    "Tree",
    "build",
    "digest",
    "dump",
    "files_of",
    "load_spec",
    "load_tree",
    "locate",
    "merge",
    "override",
    "parse_value",
    "resolve_named",
    "shipped",
    "to_yaml",
    "tree_of",
]
