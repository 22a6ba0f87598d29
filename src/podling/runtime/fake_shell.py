"""A small shell without an operating system: what `command: ["sh", "-c", "echo hi; sleep 5; exit 3"]` does, on the
event loop's time.

Simulated containers honour the commands that people write into manifests to try things out (sleep, exit, echo, touch,
rm, cat, test, loops), so that a lesson's or a test's pod behaves in a simulation as it does on a node. Any other
command is taken for a server: it runs until it is stopped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from podling import clock
from podling.runtime import fake_script
from podling.runtime.fake_script import Node, Unparsable

#: Takes what a process writes: (stream, bytes), stream being "stdout" or "stderr".
Write = Callable[[str, bytes], None]

_EXPANSION = re.compile(r"\$\((?P<sub>[^)]*)\)|\$\{(?P<braced>[^}]*)\}|\$(?P<name>[A-Za-z_]\w*|[?$@#0-9])")
_DURATION = re.compile(r"([0-9.]+)([smhd]?)$")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHELLS = frozenset({"sh", "bash", "ash", "dash"})
#: A loop that goes round so often without time passing is a busy loop: it is taken to spin for ever.
_SPINS = 1000


class _Exit(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class _Unknown(Exception):
    """A command that is not built in."""


def seconds(text: str) -> float | None:
    """What `sleep TEXT` takes: `5`, `0.5`, `2m`; infinity is None. ValueError if it is no duration."""
    if text in ("infinity", "inf"):
        return None
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"sleep: invalid time interval '{text}'")
    return float(match[1]) * _UNITS[match[2]]


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


class Process:
    """A command being run, with the container's files (path -> content) and its own environment.

    `unknown(argv)` decides what a command that is not built in does: return an exit code, or wait.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        files: dict[str, bytes],
        write: Write,
        unknown: Callable[[Sequence[str]], Awaitable[int]],
    ) -> None:
        self._env = dict(env)
        self._files = files
        self._write = write
        self._unknown = unknown
        self._status = 0
        self._background: list[asyncio.Task[int]] = []
        self.handles_term = False
        self._on_term: Node | None = None

    async def run(self, argv: Sequence[str]) -> int:
        """Run to the end; returns the exit code."""
        try:
            return await self._argv(list(argv), self._write)
        except _Exit as end:
            return end.code
        finally:
            for task in self._background:
                task.cancel()

    async def terminate(self) -> int:
        """Run the handler that `trap ... TERM` installed; the exit code it ends with."""
        if self._on_term is None:
            return 143
        try:
            return await self._node(self._on_term, self._write)
        except _Exit as end:
            return end.code

    async def _argv(self, argv: list[str], write: Write) -> int:
        name = argv[0].rsplit("/", 1)[-1]
        if (name in _SHELLS and "-c" in argv[1:2]) or (name in _SHELLS and argv[1:2] in (["-ec"], ["-xc"], ["-lc"])):
            if len(argv) < 3:
                return 2
            try:
                tree = fake_script.parse(argv[2])
            except Unparsable:
                return await self._unknown(argv)
            return await self._node(tree, write)
        command = _COMMANDS.get(name)
        if command is None:
            return await self._unknown(argv)
        return await command(self, argv[1:], write)

    async def _node(self, node: Node, write: Write) -> int:
        match node:
            case fake_script.Simple():
                return await self._simple(node, write)
            case fake_script.Sequence():
                for item in node.items:
                    self._status = await self._node(item, write)
                return self._status if node.items else 0
            case fake_script.Background():
                self._background.append(asyncio.get_running_loop().create_task(self._job(node.body, write)))
                return 0
            case fake_script.AndOr():
                status = await self._node(node.left, write)
                return await self._node(node.right, write) if (status == 0) == node.both else status
            case fake_script.Not():
                return int(await self._node(node.body, write) == 0)
            case fake_script.If():
                taken = node.body if await self._node(node.condition, write) == 0 else node.otherwise
                return await self._node(taken, write)
            case fake_script.Loop():
                return await self._loop(node, write)
            case fake_script.For():
                status = 0
                for value in [field for word in node.words for field in self._fields(word)]:
                    self._env[node.name] = value
                    status = await self._node(node.body, write)
                return status

    async def _job(self, node: Node, write: Write) -> int:
        try:
            return await self._node(node, write)
        except _Exit as end:
            return end.code

    async def _loop(self, node: fake_script.Loop, write: Write) -> int:
        status, spins, before = 0, 0, clock.elapsed()
        while (await self._node(node.condition, write) == 0) == node.wanted:
            status = await self._node(node.body, write)
            after = clock.elapsed()
            spins = spins + 1 if after == before else 0
            before = after
            if spins > _SPINS:
                await _for_ever()
        return status

    async def _simple(self, node: fake_script.Simple, write: Write) -> int:
        argv: list[str] = []
        for word in node.words:
            assignment = re.match(r"([A-Za-z_]\w*)=", word) if not argv else None
            if assignment is not None:
                self._env[assignment[1]] = self._expand(word[assignment.end() :])
                continue
            argv.extend(self._fields(word))
        if argv and argv[0] == "exec":
            argv = argv[1:]
            if argv:
                raise _Exit(await self._argv(argv, self._redirected(node.redirects, write)))
        sink = self._redirected(node.redirects, write)
        self._status = await self._argv(argv, sink) if argv else 0
        return self._status

    def _redirected(self, redirects: tuple[tuple[str, str], ...], write: Write) -> Write:
        targets: dict[str, str] = {}
        merged = ""
        for operator, word in redirects:
            if ">&" in operator:
                merged = "stdout" if operator.endswith("1") else "stderr"
                continue
            path = self._expand(word)
            stream = "stderr" if operator.startswith("2") else "stdout"
            if path not in ("/dev/stdout", "/dev/stderr", "/proc/1/fd/1", "/dev/null", "/dev/termination-log"):
                self._files[path] = self._files.get(path, b"") if ">>" in operator else b""
            elif path == "/dev/termination-log":
                self._files.setdefault(path, b"")
            targets[stream] = path
        if not targets and not merged:
            return write

        def redirected(stream: str, data: bytes) -> None:
            stream = merged or stream
            path = targets.get(stream)
            if path is None or path in ("/dev/stdout", "/proc/1/fd/1"):
                write("stdout" if path else stream, data)
            elif path == "/dev/stderr":
                write("stderr", data)
            elif path != "/dev/null":
                self._files[path] = self._files.get(path, b"") + data

        return redirected

    def _fields(self, word: str) -> list[str]:
        """One word, or none if it was an unquoted expansion of nothing, or several if that had spaces in it."""
        value = self._expand(word)
        if word.startswith("$"):
            return value.split()
        return [value]

    def _expand(self, word: str) -> str:
        parts: list[str] = []
        for piece in re.findall(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\.|[^'\"\\]+", word, re.DOTALL):
            if piece[0] == "'":
                parts.append(piece[1:-1])
            elif piece[0] == '"':
                parts.append(_EXPANSION.sub(self._variable, re.sub(r'\\([$"\\])', r"\1", piece[1:-1])))
            elif piece[0] == "\\":
                parts.append(piece[1:])
            else:
                parts.append(_EXPANSION.sub(self._variable, piece))
        return "".join(parts)

    def _variable(self, match: re.Match[str]) -> str:
        if match["sub"] is not None:
            command = match["sub"].split()
            if command[:1] == ["date"]:
                return clock.now().strftime("%a %b %e %H:%M:%S UTC %Y")
            if command[:1] == ["hostname"]:
                return self._env.get("HOSTNAME", "")
            if command[:1] == ["cat"] and len(command) == 2:
                return self._files.get(command[1], b"").decode(errors="replace").rstrip("\n")
            return ""
        name = match["name"] or match["braced"]
        if name == "?":
            return str(self._status)
        if name == "$":
            return "1"
        name, _, default = name.partition(":-")
        return self._env.get(name, "") or default

    # The commands that are built in: (arguments, write) -> exit code.

    async def _sleep(self, args: list[str], write: Write) -> int:
        total = 0.0
        for arg in args:
            try:
                part = seconds(arg)
            except ValueError as error:
                write("stderr", f"{error}\n".encode())
                return 1
            if part is None:
                await _for_ever()
            else:
                total += part
        await asyncio.sleep(total)
        return 0

    async def _exit(self, args: list[str], write: Write) -> int:
        raise _Exit(int(args[0]) & 255 if args and args[0].isdigit() else self._status)

    async def _true(self, args: list[str], write: Write) -> int:
        return 0

    async def _export(self, args: list[str], write: Write) -> int:
        self._env.update(arg.partition("=")[::2] for arg in args if "=" in arg)
        return 0

    async def _false(self, args: list[str], write: Write) -> int:
        return 1

    async def _echo(self, args: list[str], write: Write) -> int:
        end = "\n"
        while args[:1] in (["-n"], ["-e"]):
            end = "" if args[0] == "-n" else end
            args = args[1:]
        write("stdout", (" ".join(args) + end).encode())
        return 0

    async def _printf(self, args: list[str], write: Write) -> int:
        text = args[0] if args else ""
        text = text.replace("\\n", "\n").replace("\\t", "\t")
        for arg in args[1:]:
            text = re.sub(r"%[sd]", lambda _, arg=arg: arg, text, count=1)  # type: ignore[misc]
        write("stdout", text.encode())
        return 0

    async def _touch(self, args: list[str], write: Write) -> int:
        for path in _operands(args):
            self._files.setdefault(path, b"")
        return 0

    async def _rm(self, args: list[str], write: Write) -> int:
        status = 0
        for path in _operands(args):
            doomed = [each for each in self._files if each == path or each.startswith(path.rstrip("/") + "/")]
            for each in doomed:
                del self._files[each]
            if not doomed and not any(arg.startswith("-") and "f" in arg for arg in args):
                write("stderr", f"rm: can't remove '{path}': No such file or directory\n".encode())
                status = 1
        return status

    async def _cat(self, args: list[str], write: Write) -> int:
        status = 0
        for path in _operands(args):
            content = self._files.get(path)
            if content is None:
                write("stderr", f"cat: can't open '{path}': No such file or directory\n".encode())
                status = 1
            else:
                write("stdout", content)
        return status

    async def _test(self, args: list[str], write: Write) -> int:
        if args and args[-1] == "]":
            args = args[:-1]
        if args[:1] == ["!"]:
            return int(await self._test(args[1:], write) == 0)
        match args:
            case ["-e" | "-f" | "-r" | "-d", path]:
                return int(path not in self._files)
            case ["-s", path]:
                return int(not self._files.get(path))
            case ["-n", text] | [text]:
                return int(not text)
            case ["-z", text]:
                return int(bool(text))
            case [left, "=" | "==", right]:
                return int(left != right)
            case [left, "!=", right]:
                return int(left == right)
            case [left, "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge" as how, right]:
                try:
                    return int(not _COMPARISONS[how](int(left), int(right)))
                except ValueError:
                    return 2
        return 2

    async def _trap(self, args: list[str], write: Write) -> int:
        if len(args) >= 2 and any(name in ("TERM", "SIGTERM", "15") for name in args[1:]):
            try:
                self._on_term = fake_script.parse(args[0])
            except Unparsable:
                self._on_term = None
            self.handles_term = True
        return 0

    async def _wait(self, args: list[str], write: Write) -> int:
        for task in self._background:
            await asyncio.wait([task])
        return 0

    async def _printenv(self, args: list[str], write: Write) -> int:
        if args:
            value = self._env.get(args[0])
            if value is None:
                return 1
            write("stdout", f"{value}\n".encode())
            return 0
        write("stdout", "".join(f"{name}={value}\n" for name, value in self._env.items()).encode())
        return 0

    async def _hostname(self, args: list[str], write: Write) -> int:
        write("stdout", (self._env.get("HOSTNAME", "") + "\n").encode())
        return 0

    async def _date(self, args: list[str], write: Write) -> int:
        write("stdout", clock.now().strftime("%a %b %e %H:%M:%S UTC %Y\n").encode())
        return 0


def _operands(args: list[str]) -> list[str]:
    return [arg for arg in args if not arg.startswith("-")]


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}

_COMMANDS: dict[str, Callable[[Process, list[str], Write], Awaitable[int]]] = {
    "sleep": Process._sleep,
    "exit": Process._exit,
    "true": Process._true,
    ":": Process._true,
    "set": Process._true,
    "cd": Process._true,
    "mkdir": Process._touch,
    "export": Process._export,
    "false": Process._false,
    "echo": Process._echo,
    "printf": Process._printf,
    "touch": Process._touch,
    "rm": Process._rm,
    "cat": Process._cat,
    "test": Process._test,
    "[": Process._test,
    "trap": Process._trap,
    "wait": Process._wait,
    "env": Process._printenv,
    "printenv": Process._printenv,
    "hostname": Process._hostname,
    "date": Process._date,
}


def knows(argv: Sequence[str]) -> bool:
    """Whether this shell can play the command; anything else is a server."""
    if not argv:
        return False
    name = argv[0].rsplit("/", 1)[-1]
    if name in _SHELLS:
        if len(argv) < 3 or not argv[1].endswith("c"):
            return False
        try:
            fake_script.parse(argv[2])
        except Unparsable:
            return False
        return True
    return name in _COMMANDS
