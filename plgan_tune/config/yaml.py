"""Read and write YAML 1.2.

The reader is for untrusted files: it refuses tags, aliases and duplicate keys, and keeps the line of every key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML, MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.representer import SafeRepresenter

from plgan_tune.config.domains import NAMES
from plgan_tune.config.errors import Finding, KeyPath, show

LONGEST = 2**19
"""Most characters of a text. This reader takes up to ten seconds for that many; a space file has some thousand."""

_MOST_KEYS = 1000
_MOST_ITEMS = 10_000
_DEEPEST = 32
_WIDTH = 110
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a YAML text.

    Attributes:
        value: Mappings, lists and scalars; None if the text is empty or malformed.
        lines: Key path -> line, counted from 1.
        findings: Everything that the reader refuses, in the order of the text.
        unread: Keys whose value was refused, and so differs from the text.
    """

    value: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    unread: tuple[KeyPath, ...] = ()


def read_yaml(text: str) -> Document:
    """Read one YAML 1.2 document. Raises nothing: everything that is refused is in `findings`."""
    if len(text) > LONGEST:
        return Document(None, findings=(too_long(len(text)),), unread=((),))
    reader = _Reader(YAML(typ="safe", pure=True))
    try:
        value = reader.document(text)
    except YAMLError as error:
        return Document(None, reader.lines, (*reader.findings, _malformed(error, text)), ((),))
    return Document(value, reader.lines, tuple(reader.findings), tuple(reader.unread))


def too_long(characters: int) -> Finding:
    """Return the finding for a text of this many characters or more."""
    return Finding((), f"must be at most {LONGEST // 1024:,} KiB long", f"{characters / 1024:,.0f} KiB or more")


def dump_yaml(mapping: Mapping[str, Any]) -> str:
    """Return a mapping as YAML 1.2 text, with keys in order, and each list and domain on one line.

    Args:
        mapping: Text -> mappings, lists, text, numbers, booleans or None.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.width = _WIDTH
    stream = StringIO()
    yaml.dump(mapping, stream)
    return stream.getvalue()


@dataclass(slots=True)
class _Reader:
    """Builds values from the parser's events, because only they tell an explicit tag from an implied one."""

    yaml: YAML
    lines: dict[KeyPath, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unread: list[KeyPath] = field(default_factory=list)

    def document(self, text: str) -> Any:
        """Return the value of the document."""
        value, documents = None, 0
        events = self.yaml.parse(text)
        for event in events:
            if not isinstance(event, DocumentStartEvent):
                continue
            documents += 1
            if documents > 1:
                raise _refusal("a file holds one document", event)
            if event.version not in (None, (1, 2)):
                raise _refusal("only %YAML 1.2 is read", event)
            value = self._value(next(events), events, ())
        return value

    def _value(self, event: Event, events: Iterator[Event], path: KeyPath, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise _refusal(f"nested deeper than {_DEEPEST} levels", event)
        if tag := getattr(event, "tag", None):
            self._leave_unread(event, path, "no tag is allowed: values are plain YAML", str(tag).replace(_TAG, "!!"))
        match event:
            case AliasEvent():
                self._leave_unread(event, path, "no alias is allowed: write the value out", f"*{event.anchor}")
                return None
            case SequenceStartEvent():
                return self._sequence(events, path, depth)
            case MappingStartEvent():
                return self._mapping(events, path, depth)
            case _:
                return self._scalar(event, path)

    def _sequence(self, events: Iterator[Event], path: KeyPath, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            if len(items) == _MOST_ITEMS:
                raise _refusal(f"a list of more than {_MOST_ITEMS:,} items", event)
            place = (*path, len(items))
            self.lines[place] = _line(event)
            items.append(self._value(event, events, place, depth + 1))
        return items

    def _mapping(self, events: Iterator[Event], path: KeyPath, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        keys = 0
        while not isinstance(event := next(events), MappingEndEvent):
            if (keys := keys + 1) > _MOST_KEYS:
                raise _refusal(f"a mapping of more than {_MOST_KEYS:,} keys", event)
            key = self._value(event, events, path, depth + 1)
            place = (*path, key if isinstance(key, str) else show(key))
            if not isinstance(key, str):
                self._refuse(event, place, "a key must be text", show(key))
            elif key in items:
                rule = f"a key may be given once, and line {self.lines[place]} has it already"
                self._refuse(event, place, rule, f"{key} again")
            self.lines.setdefault(place, _line(event))
            value = self._value(next(events), events, place, depth + 1)
            if isinstance(key, str):
                items.setdefault(key, value)
        return items

    def _scalar(self, event: Event, path: KeyPath) -> Any:
        assert isinstance(event, ScalarEvent)
        # A refused tag is ignored here, so that the rest of the file is still checked.
        plain = event.style is None
        tag = self.yaml.resolver.resolve(ScalarNode, event.value, (plain, not plain))
        node = ScalarNode(tag, event.value)
        try:
            match str(tag).removeprefix(_TAG):
                case "null":
                    return None
                case "bool":
                    return self.yaml.constructor.construct_yaml_bool(node)
                case "int":
                    return self.yaml.constructor.construct_yaml_int(node)
                case "float":
                    return self.yaml.constructor.construct_yaml_float(node)
        except ValueError:
            self._leave_unread(event, path, "must be a number that can be read", show(event.value))
        return event.value

    def _refuse(self, event: Event, path: KeyPath, rule: str, value: str) -> None:
        self.findings.append(Finding(path, rule, value, _line(event)))

    def _leave_unread(self, event: Event, path: KeyPath, rule: str, value: str) -> None:
        self._refuse(event, path, rule, value)
        self.unread.append(path)


class _Representer(SafeRepresenter):
    """Writes lists and domains in flow style, and no alias, even if two keys hold the same list object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sort_base_mapping_type_on_output = False

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's signature
        return True

    def represent_list(self, data: Any) -> SequenceNode:
        flow = not any(isinstance(item, Mapping) for item in data)
        return self.represent_sequence(f"{_TAG}seq", data, flow_style=flow)

    def represent_dict(self, data: Any) -> MappingNode:
        flow = not data or (len(data) <= 2 and next(iter(data)) in NAMES)  # a step or an order beside it
        return self.represent_mapping(f"{_TAG}map", data, flow_style=flow)

    def represent_str(self, data: Any) -> ScalarNode:
        # Plain `?0` in a flow sequence would be read as a key; ruamel quotes only `? 0`.
        return self.represent_scalar(f"{_TAG}str", data, style="'" if data.startswith("?") else None)


_Representer.add_representer(str, _Representer.represent_str)
_Representer.add_representer(list, _Representer.represent_list)
_Representer.add_representer(dict, _Representer.represent_dict)


def _line(event: Event) -> int:
    line: int = event.start_mark.line
    return line + 1


def _refusal(problem: str, event: Event) -> MarkedYAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _malformed(error: YAMLError, text: str) -> Finding:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    lines = text.splitlines()
    if mark is None:
        return Finding((), f"must be well-formed YAML 1.2 ({problem})", show(text[:80]))
    shown = show(lines[mark.line].strip()) if mark.line < len(lines) else "the end of the text"
    return Finding((), f"must be well-formed YAML 1.2 ({problem})", shown, mark.line + 1)
