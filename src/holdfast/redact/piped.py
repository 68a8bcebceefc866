"""Passwords that a command reads: `echo X | cryptsetup …`, `kinit bob <<< X`, `chpasswd <<EOF`, `--key-file <(echo X)`.

Only commands that read nothing but a password from there, or whose flag says so (`--password-stdin`). Otherwise
`echo X | …` feeds data, and data stays.
"""

import re
from collections.abc import Iterator

from holdfast.redact.credentials import is_placeholder
from holdfast.redact.spans import RANKS, Span

# One of these words, in lower case, is in every command line below.
WORDS = (
    "cryptsetup", "cryptenroll", "kinit", "kpasswd", "sudo", "passw", "zfs", "ansible-vault", "veracrypt", "fscrypt",
    "stdin", "key-file", "keyfile", "passphrase", "with-token", "luks", "vault",
)  # fmt: skip
_BEFORE = r"(?:(?:sudo|doas|env|nohup|command|exec|ssh\s+\S+)\s+(?:-\S+\s+|\w+=\S*\s+)*)?[\"']?(?:/\S*/)?"
# The command's name, or a flag that says so. `users` reads lines of user:password; behind sudo's password follows data.
_READER = re.compile(
    rf"[ \t]*{_BEFORE}(?:(?P<users>chpasswd)|(?:cryptsetup(?:-reencrypt)?|systemd-cryptenroll|kinit|kpasswd|passwd"
    r"|smbpasswd|ansible-vault|veracrypt|fscrypt|zfs[ \t]+(?:load-key|change-key|create)))(?![\w-])"
    r"|(?P<sudo>[ \t]*sudo[ \t]+(?:-\S+[ \t]+)*(?:-\w*S|--stdin)(?![\w-]))"
    r"|[^\n|;]{0,200}?(?:--(?:password|passphrase|token|pw|secret)-stdin\b|--stdin-password\b|--with-token\b"
    r"|--passphrase-fd[ =]0\b|[ \t]-pass(?:in)?[ \t]+stdin\b"
    r"|--(?:key|pass\w*|vault-password)-file[ =](?:-|/dev/stdin)(?![\w/]))"
)
_PRODUCER = re.compile(r"(?:^|[\s;&|({\"'`])(?P<name>echo|printf)(?=[ \t])")
_ECHO = re.compile(r"[ \t]*(?P<name>echo|printf)(?=[ \t])")
_TO_KEY_FILE = re.compile(
    r"\s*(?:1?>{1,2}|\|\s*(?:sudo\s+)?tee\s)\s*\S*(?:key-?file|passphrase|vault[_-]pass|luks)[^\s|;&]*", re.IGNORECASE
)
# In the normalised copy an escaped line end is a line end: quotes may hold some.
_WORD = re.compile(r"""[ \t]*(?P<word>(?:"[^"]{0,200}"|'[^']{0,200}'|&(?=\w)|[^\s"'|;&<>()`])+)""")
_TO_PIPE = re.compile(r"""(?:[^\n;&|'"`]|'[^']{0,40}'|"[^"]{0,40}"){0,200}?\|(?!\|)""")
_OPTION = re.compile(r"-[neErs-]{1,3}")
_HERE = re.compile(r"(?P<string><<<)|<<-?\s*[\"']?(?P<end>[A-Za-z_]\w*)[\"']?[^\n]*\n|<\((?P<producer>)")
_BORDER = re.compile(r"\n|;|&&|\|\|?|\$\(|`")
REACH = 400


def find_piped(text: str, lower: str) -> Iterator[Span]:
    """Passwords on the standard input of commands; `lower` is `text` in lower case."""
    if "|" not in text and "<" not in text and ">" not in text:
        return
    for word in WORDS:
        if word in lower:
            break
    else:
        return
    for producer in _PRODUCER.finditer(text):
        yield from _produced(text, producer)
    for here in _HERE.finditer(text):
        yield from _here(text, here)


def _produced(text: str, producer: re.Match[str]) -> Iterator[Span]:
    """Words that `echo` or `printf` writes into a pipe to a reader, or into a file of keys."""
    words, end = _words(text, producer.end(), producer["name"] == "printf")
    if not words:
        return
    if _TO_KEY_FILE.match(text, end):
        if len(words) == 1 and " " not in text[slice(*words[0])]:
            yield from _secret(text, *words[0], users=False)
        return
    for _ in range(4):  # what lies between may be `tr` or `head`
        pipe = _TO_PIPE.match(text, end)
        if pipe is None:
            return
        end = pipe.end()
        reader = _READER.match(text, end)
        if reader:
            yield from _secret(text, words[0][0], words[-1][1], users=reader["users"] is not None)
            return


def _here(text: str, here: re.Match[str]) -> Iterator[Span]:
    """A here-string, a here-document or `<(echo X)` behind a reader on the same line."""
    before = text[max(0, here.start() - REACH) : here.start()]
    borders = list(_BORDER.finditer(before))
    command = before[borders[-1].end() if borders else 0 :]
    reader = _READER.match(command if here["producer"] is None else command.rstrip(" =") + " -")
    if reader is None:
        return
    users = reader["users"] is not None
    if here["string"]:
        words, _ = _words(text, here.end(), False)
        if words:
            yield from _secret(text, *words[0], users=users)
    elif here["producer"] is not None:
        producer = _ECHO.match(text, here.end())
        words, _ = _words(text, producer.end(), producer["name"] == "printf") if producer else ([], 0)
        if words:
            yield from _secret(text, words[0][0], words[-1][1], users=False)
    elif not reader["sudo"]:
        start = here.end()
        for line in text[start : start + 2000].split("\n")[: None if users else 1]:
            if line.strip() == here["end"]:
                return
            yield from _secret(text, start, start + len(line), users=users)
            start += len(line) + 1


def _words(text: str, start: int, formatted: bool) -> tuple[list[tuple[int, int]], int]:
    """(start, end) of the words from `start` on, without options and printf's format; and where they end."""
    found: list[tuple[int, int]] = []
    while len(found) < 12 and (match := _WORD.match(text, start)):
        start = match.end()
        if found or not _OPTION.fullmatch(match["word"]):
            found.append(match.span("word"))
    if formatted and len(found) > 1 and "%" in text[slice(*found[0])]:
        given = text[slice(*found[0])].strip("\"'")
        found = found[1:]
        if ":%s" in given and len(found) > 1:  # printf '%s:%s\n' user password
            found = found[1:]
    return found, start


def _secret(text: str, start: int, end: int, *, users: bool) -> Iterator[Span]:
    """The value without its quotes, and without `user:` where the reader takes such lines."""
    if end - start > 1 and text[start] in "\"'" and text[end - 1] == text[start]:
        start, end = start + 1, end - 1
    if users:
        user, colon, _ = text[start:end].partition(":")
        start += len(user) + 1 if colon and " " not in user else 0
    end = start + len(text[start:end].rstrip("\n"))
    value = text[start:end].strip()
    if len(value) > 2 and not is_placeholder(value):
        yield Span(start, end, "PASSWORD", RANKS["PASSWORD"])
