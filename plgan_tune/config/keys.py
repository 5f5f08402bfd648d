"""Every key of a space file and its allowed values, derived from the models so that no bound is written twice."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel

from plgan_tune.config.edition import ALLOWED, EDITION
from plgan_tune.config.errors import KeyPath
from plgan_tune.config.study import ResourcesSpec, SearchSpec
from plgan_tune.config.trial import TrialSpec

Keys = dict[str, "Keys | str"]
"""A section's keys. A text is a leaf, and says what is allowed: `a whole number >= 1`."""

_BOUNDS: Final = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def keys_of(model: type[BaseModel]) -> Keys:
    """Return the keys of a model, from its JSON schema."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def node(part: Mapping[str, Any]) -> Keys | str:
        for option in (part, *part.get("anyOf", ())):
            if "$ref" in option:
                return node(definitions[option["$ref"].rpartition("/")[2]])
        return section(part) if "properties" in part else _allowed(part)

    def section(part: Mapping[str, Any]) -> Keys:
        return {name: node(child) for name, child in part["properties"].items()}

    return section(schema)


def allowed(node: Keys | str) -> str:
    """Return what is allowed at a key, as text that follows "must be"."""
    return node if isinstance(node, str) else f"a mapping of {', '.join(node) or 'nothing'}"


def descend(keys: Keys, path: KeyPath) -> tuple[KeyPath, Keys | str]:
    """Follow `path` as far as its keys are known; return that part, and its keys or what is allowed there."""
    node: Keys | str = keys
    for depth, part in enumerate(path):
        if not isinstance(node, dict) or not isinstance(part, str) or part not in node:
            return path[:depth], node
        node = node[part]
    return path, node


def must_be_known(key: object, known: Iterable[str]) -> str:
    """Return the rule that an unknown key breaks, with the nearest known key or, if none is near, all of them."""
    known = list(known)
    ending = [name for name in known if name.endswith(f".{key}")]
    near = ending or get_close_matches(str(key), known, n=1)
    return f"must be a known key (nearest: {near[0]})" if near else f"must be one of {', '.join(known)}"


def every_path(keys: Keys, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every section and leaf."""
    for name, node in keys.items():
        yield f"{prefix}{name}"
        if isinstance(node, dict):
            yield from every_path(node, f"{prefix}{name}.")


def _allowed(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"const": value}:
            return f"{value}"
        case {"enum": values}:
            return f"one of {', '.join(map(str, values))}"
        case {"anyOf": options}:
            texts = sorted(map(_allowed, options), key=lambda text: text != "null")
            for text in texts:  # one of these, or a list of them
                texts = [other.replace(f", each {text}", " of these") for other in texts]
            return " or ".join(texts)
        case {"type": "array"}:
            parts = schema.get("prefixItems", [])
            length = f" of {len(parts)}" if parts else ""
            return f"a list{length}, each {_allowed(parts[0] if parts else schema['items'])}"
        case {"type": "integer" | "number" as kind}:
            bounds = [f"{sign} {_whole(schema[name])}" for name, sign in _BOUNDS.items() if name in schema]
            return f"a {'whole' if kind == 'integer' else 'finite'} number {' and '.join(bounds)}".rstrip()
        case _:
            named = {"boolean": "true or false", "string": "text", "null": "null"}
            return named.get(schema["type"], "a mapping")


def _whole(bound: float) -> int | float:
    return int(bound) if bound == int(bound) else bound


KNOWN: Final[Keys] = {
    "study": "text",
    EDITION: ALLOWED,
    "search": keys_of(SearchSpec),
    "resources": keys_of(ResourcesSpec),
    "trial": keys_of(TrialSpec),
}
"""The keys of a space file."""
