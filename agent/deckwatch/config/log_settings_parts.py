"""Parts of the log settings that sources share: names of labels, and rules for lines."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .patterns import Pattern
from .values import Duration, Settings, Size

#: The label that has the tenant of an entry until it is pushed.
TENANT_LABEL = "__tenant_id__"
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _label_name(name: str) -> str:
    if not _LABEL.fullmatch(name) or len(name) > 1024:
        raise ValueError("a label name: letters, digits and _, and no digit at the beginning")
    if name == TENANT_LABEL:
        raise ValueError("another label name; set tenant_field, or the tenant of logs.loki")
    return name


LabelName = Annotated[str, AfterValidator(_label_name)]
Ratio = Annotated[float, Field(ge=0, le=1)]


class RuleSettings(Settings):
    """What a rule applies to. Everything that is given has to be true.

    `matches` is a regular expression in `field`: a field of the line, `level`, or `line` for its whole text. `match`
    has expressions for several fields. `longer_than` is the size of the text.
    """

    field: str = "line"
    matches: Pattern | None = None
    match: dict[str, Pattern] = Field(default_factory=dict)
    older_than: Duration | None = None
    longer_than: Size | None = None

    @model_validator(mode="after")
    def _says_something(self) -> RuleSettings:
        if self.matches is None and not self.match and self.older_than is None and self.longer_than is None:
            raise ValueError("matches, match, older_than or longer_than")
        if self.matches is None and "field" in self.model_fields_set:
            raise ValueError(f"matches: a regular expression for the field {self.field}")
        return self

    @property
    def patterns(self) -> tuple[tuple[str, Pattern], ...]:
        """The expressions, with the field of each."""
        first = ((self.field, self.matches),) if self.matches is not None else ()
        return (*first, *self.match.items())


class RedactSettings(Settings):
    """What `matches` becomes `replacement`; `kind` stands for a pattern that is well known.

    Of a pattern with a group called `secret`, only that group is replaced.
    """

    kind: Literal["email", "card", "token", "pattern"] = "pattern"
    matches: Pattern | None = None
    replacement: str = "***"


class SampleSettings(Settings):
    """Of the lines of this level, this ratio is kept (the first of each so many)."""

    level: str
    ratio: Ratio
