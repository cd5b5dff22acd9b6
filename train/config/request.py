"""From options and the file of ``--config`` to `TrainSettings`.

Options that were given win over the file. A YAML file holds options by name (``fine-tune`` or ``fine_tune``), with
paths as on the command line. Of another run's run.json all settings are taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from msgspec import structs

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.train.config.needs import NEEDS
from sonoedge.train.config.options import OPTIONS, RECIPES, Unfit
from sonoedge.train.records.run_card import CARD, TrainedCard, read_card
from sonoedge.train.records.settings import DEFAULT_COPIES, TrainSettings


@dataclass(frozen=True)
class Request:
    """A training that was asked for.

    Attributes:
        settings: what decides the run.
        others: options that do not, or have done so: ``recipe``, ``out``, ``overwrite``, ``cache``, ``workers``,
            ``log``.
        same_images: digest of the images of the run that is repeated; None if the images are chosen anew.
    """

    settings: TrainSettings
    others: Mapping[str, Any] = field(default_factory=dict)
    same_images: str | None = None


def request_of(options: Mapping[str, Any], config: str | PathLike[str] | None = None) -> Request:
    """What is asked for by options and, below them, by a file.

    Args:
        options: by the keys of `OPTIONS`; None stands for an option that was not given.
        config: a YAML file, a run.json or a run folder.

    Raises:
        DataError: the run.json is of an earlier or later version of SonoEdge.
        ModelError: it is no run card.
        UsageError: an unknown key, a value that an option does not take, options that contradict each other, or one
            that does nothing.
    """
    given = {name: value for name, value in options.items() if value is not None}
    base, same_images, in_file = None, None, dict[str, Any]()
    if config is not None:
        path = Path(config)
        if path.is_dir() or path.suffix == ".json":
            base, digest = _settings_of_run(path)
            chosen_anew = {"data", "classes", "split", "groups", "skip_unreadable"} & given.keys()
            same_images = None if chosen_anew else digest
        else:
            in_file = _read_yaml(path)
    values, names = {}, {}
    # What is given comes last, and wins.
    for options_of, place in ((in_file, f"{config}: "), (given, "--")):
        for name, value in options_of.items():
            names[name] = place + name.replace("_", "-")
            try:
                values[name] = OPTIONS[name](value)
            except Unfit as error:
                raise UsageError(f"{names[name]} {error}") from None
    others = {name: values.pop(name) for name in list(values) if name not in TrainSettings.__struct_fields__}
    settings = _settled(base, values, others.get("recipe"))
    _refuse_idle(settings, {name: label for name, label in names.items() if values.get(name) is not False})
    return Request(settings, others, same_images)


def config_text(settings: TrainSettings) -> str:
    """The YAML file that asks for these settings: all that do something."""
    import yaml

    idle = {need.option for need in NEEDS if not need.met(settings)}
    values = {name: getattr(settings, name) for name in OPTIONS if name in TrainSettings.__struct_fields__}
    shown = {
        name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None and name not in idle
    }
    return str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))


def _settled(base: TrainSettings | None, values: Mapping[str, Any], recipe: str | None) -> TrainSettings:
    """Settings from checked values, with the defaults that depend on the protocol."""
    if base is not None:
        if recipe is not None:
            raise UsageError("--recipe does nothing beside the run to repeat, which has all options already.")
        if "sweep" in values:
            base = structs.replace(base, fits=None)  # the new sweep chooses again
        settings = structs.replace(base, **values)
        # The other run's rate or epochs may do nothing under the protocol that was given.
        idle = {n.option for n in NEEDS if not n.met(settings)} & {"epochs", "batch_size", "learning_rate"}
        return structs.replace(settings, **dict.fromkeys(idle - values.keys()))
    if "data" not in values:
        raise UsageError("Name the images with --data, or in the file of --config.")
    chosen = {**RECIPES[recipe or "fused"], **values}
    frozen = chosen.get("protocol", "default") == "default"
    usual = {"maps": "stages", "augment": DEFAULT_COPIES} if frozen else {"maps": "last", "augment": 0}
    return TrainSettings(**{**usual, **chosen})


def _refuse_idle(settings: TrainSettings, names: Mapping[str, str]) -> None:
    """Refuse options that were given and do nothing; ``names`` says how they were, by option."""
    if settings.sweep and settings.protocol == "paper":
        raise UsageError("--sweep chooses what --protocol paper fixes: use one of them.")
    for need in NEEDS:
        if need.option in names and not need.met(settings):
            raise UsageError(f"{names[need.option]} does nothing here: {need.why}")


def _settings_of_run(path: Path) -> tuple[TrainSettings, str]:
    """Settings of a finished run, and the digest of its images."""
    file = path / CARD if path.is_dir() else path
    card = read_card(file)
    if not isinstance(card, TrainedCard):
        command = "distill" if "student" in card.settings.__struct_fields__ else "slim"
        raise UsageError(f"{file} is of a run that sonoedge {command} made: repeat it with that command.")
    return card.settings, card.dataset.digest


def _read_yaml(path: Path) -> dict[str, Any]:
    """Options by the keys of `OPTIONS`, as they stand in a file."""
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's numbers: in 1.1, which PyYAML reads, 1e-5 is text."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
    try:
        loader = Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        pairs = (
            [tuple(loader.construct_object(part, deep=True) for part in pair) for pair in node.value]
            if isinstance(node, yaml.MappingNode)
            else None
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        why = f"line {mark.line + 1}: {getattr(error, 'problem', error)}" if mark else error
        raise UsageError(f"Cannot read the configuration {path}: {why}.") from error
    if pairs is None:
        raise UsageError(f"{path} must hold options and values, such as `seed: 1`.")
    found: dict[str, Any] = {}
    for key, value in pairs:
        name = str(key).replace("-", "_")
        if name not in OPTIONS:
            (nearest,) = get_close_matches(name, OPTIONS, 1, 0.0)
            raise UsageError(f"{path}: unknown key {key!r}. The nearest known one is {nearest.replace('_', '-')}.")
        if name in found:
            raise UsageError(f"{path} has {key} twice.")
        if value is not None:
            found[name] = value
    return found
