"""`deckwatch completion`: scripts that complete commands and options in a shell."""

from __future__ import annotations

import argparse
import sys

#: A function that bash and zsh call; zsh reads bash's completions with bashcompinit.
_BASH = """_deckwatch() {{
    local words
    case "${{COMP_WORDS[*]:1:COMP_CWORD-1}}" in
{cases}
    *) words="" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _deckwatch deckwatch
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    parser.set_defaults(command=_completion)


def _completion(options: argparse.Namespace) -> int:
    from deckwatch.cli import complete_parser  # this module is loaded by it

    words = dict(_words(complete_parser(), ()))
    if options.shell == "fish":
        sys.stdout.write(_fish(words))
    else:
        start = "autoload -U +X bashcompinit && bashcompinit\n" if options.shell == "zsh" else ""
        sys.stdout.write(start + _bash(words))
    return 0


def _words(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """The words that may follow each command, with their help."""
    words: dict[str, str] = {}
    below: list[tuple[tuple[str, ...], dict[str, str]]] = []
    # argparse has no public way to list its arguments and commands.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                words[name] = helps.get(name, "")
                below += _words(command, (*path, name))
        elif action.option_strings:
            words[action.option_strings[-1]] = action.help or ""
        elif action.choices is not None:
            words.update(dict.fromkeys(map(str, action.choices), ""))
    return [(path, words), *below]


def _bash(words: dict[tuple[str, ...], dict[str, str]]) -> str:
    """The longest command first, since options may follow it."""
    cases = []
    for path in sorted(words, key=len, reverse=True):
        pattern = f'"{" ".join(path)}"*' if path else '""'
        cases.append(f"    {pattern}) words={' '.join(words[path])!r} ;;")
    return _BASH.format(cases="\n".join(cases))


def _fish(words: dict[tuple[str, ...], dict[str, str]]) -> str:
    lines = []
    for path, found in words.items():
        condition = "; and ".join(f"__fish_seen_subcommand_from {name}" for name in path) or "__fish_use_subcommand"
        for word, text in found.items():
            what = f"-l {word.lstrip('-')}" if word.startswith("--") else f"-a {word}"
            if word.startswith("-") and not word.startswith("--"):
                continue
            lines.append(f"complete -c deckwatch -n {condition!r} {what} -d {_quoted(text)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
