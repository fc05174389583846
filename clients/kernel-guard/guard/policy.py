# SPDX-License-Identifier: GPL-2.0
"""What the guard lets happen: nothing but what a policy file allows.

[deny]
action = inject         ; or stop: the VM stops

[allow NAME]            ; any number
writer = FUNCTION ...   ; that writes, or has called the function that writes
range = text            ; text, rodata, data or bss
"""
import configparser
import fnmatch

RANGES = ("text", "rodata", "data", "bss")
ACTIONS = ("inject", "stop")


class PolicyError(Exception):
    """The file is wrong; says where."""


class Policy:
    """Rules in the order of the file. Without a file: deny."""

    def __init__(self, path=None):
        self.action = "inject"
        self.rules = []
        if not path:
            return
        parser = configparser.ConfigParser(inline_comment_prefixes=(";",))
        try:
            with open(path, encoding="utf-8") as file:
                parser.read_file(file)
        except (OSError, configparser.Error) as error:
            raise PolicyError(f"{path}: {error}") from error
        for name in parser.sections():
            self._section(path, name, dict(parser[name]))

    def _section(self, path, name, keys):
        if name == "deny":
            self.action = keys.pop("action", "inject")
            if self.action not in ACTIONS:
                raise PolicyError(f"{path}: [deny]: action is inject or stop, not {self.action}")
        elif name.startswith("allow "):
            writers, where = keys.pop("writer", "").split(), keys.pop("range", "")
            if not writers or where not in RANGES:
                raise PolicyError(f"{path}: [{name}] needs writer = FUNCTION and range = one of "
                                  f"{', '.join(RANGES)}")
            self.rules.append((name[len("allow "):], writers, where))
        else:
            raise PolicyError(f"{path}: [{name}]: there are [deny] and [allow NAME]")
        if keys:
            raise PolicyError(f"{path}: [{name}]: {', '.join(keys)} is not known")

    def allows(self, where, functions):
        """The name of the rule that lets one of functions write there, or None."""
        for name, writers, place in self.rules:
            if place == where and any(fnmatch.fnmatchcase(function, writer)
                                      for function in functions for writer in writers):
                return name
        return None
