"""The proxies through which downloads go: `core.proxy_*`, else the environment of the daemon (spec/config-keys.md 2).

Owns which server is reached through which; refuses to connect (`web.py`)."""

import ipaddress
import os
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult

from lxdnode.node.settings import Settings


@dataclass(frozen=True)
class Proxies:
    """`http` and `https`: the URL of the proxy for servers of that scheme, "" for none. `ignored`: hosts that are
    reached directly, with commas between; `*` is all, and a domain stands for what is below it, too."""

    http: str = ""
    https: str = ""
    ignored: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those in force."""
        return cls(
            settings.get("core.proxy_http") or _environment("HTTP_PROXY"),
            settings.get("core.proxy_https") or _environment("HTTPS_PROXY"),
            settings.get("core.proxy_ignore_hosts") or _environment("NO_PROXY"),
        )

    def find(self, server: SplitResult) -> str:
        """The URL of the proxy for a server, "" for none."""
        proxy = {"http": self.http, "https": self.https}.get(server.scheme, "")
        if not proxy or server.hostname is None or self._is_direct(server.hostname):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"

    def _is_direct(self, host: str) -> bool:
        if host == "localhost" or _is_loopback(host):
            return True
        domains = [one.strip().lower().removeprefix(".") for one in self.ignored.split(",")]
        return any(one == "*" or host == one or (one != "" and host.endswith(f".{one}")) for one in domains)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _environment(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower()) or ""
