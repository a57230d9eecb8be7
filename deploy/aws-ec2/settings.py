"""The settings of a deployment: one TOML file, checked before anything is asked of AWS."""

import ipaddress
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
# Of buckets and roles, with what is put around it.
NAME = re.compile(r"[a-z][a-z0-9-]{1,29}[a-z0-9]")
MAX_MACHINES = 50


class SettingsError(Exception):
    """A setting that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """What `settings.toml.example` describes."""

    name: str
    region: str
    instance_type: str
    export: Path
    server_key_file: Path
    backend_url: str
    machines: int = 1
    ports: tuple = (7777,)
    protocols: tuple = ("udp",)
    players: tuple = ("0.0.0.0/0",)
    disk_gib: int = 16
    spot: bool = False
    subnets: tuple = ()
    image_parameter: str = DEFAULT_IMAGE

    @property
    def query_ports(self):
        """As in the unit of systemd."""
        return tuple(20000 + port for port in self.ports)


def require(condition, name, what):
    if not condition:
        raise SettingsError(f"{name}: {what}")


def load(path):
    """Reads and checks a file of settings."""
    path = Path(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    known = Settings.__dataclass_fields__
    for name in found:
        require(name in known, name, f"unknown, known are {', '.join(known)}")
    for name in ("name", "region", "instance_type", "export", "server_key_file", "backend_url"):
        require(isinstance(found.get(name), str) and found[name], name, "must be a text that is not empty")
    for name in ("ports", "protocols", "players", "subnets"):
        if name in found:
            require(isinstance(found[name], list), name, "must be a list")
            found[name] = tuple(found[name])
    for name in ("export", "server_key_file"):
        found[name] = (path.parent / found[name]).resolve()
    settings = Settings(**found)
    check(settings)
    return settings


def check(settings):
    """Refuses what would be noticed too late, or never."""
    require(NAME.fullmatch(settings.name), "name", "3 to 31 small letters, digits and hyphens")
    machines = settings.machines
    require(isinstance(machines, int) and 1 <= machines <= MAX_MACHINES, "machines", f"1 to {MAX_MACHINES}")
    ports = settings.ports
    numbers = all(isinstance(port, int) and 1024 <= port <= 9999 for port in ports)
    require(ports and numbers and len(set(ports)) == len(ports), "ports", "different numbers from 1024 to 9999")
    protocols = set(settings.protocols)
    require(protocols and protocols <= {"udp", "tcp"}, "protocols", 'a list of "udp" and "tcp"')
    for network in settings.players:
        try:
            version = ipaddress.ip_network(network).version
        except (ValueError, TypeError) as error:
            raise SettingsError(f"players: {error}") from error
        require(version == 4, "players", f"{network}: the addresses of these machines are IPv4")
    require(settings.players, "players", "no network, so nobody could play")
    url = urlsplit(settings.backend_url)
    # The addon sends keys and tokens to other machines by HTTPS only.
    require(url.scheme == "https" and url.hostname, "backend_url", "must be an https:// URL")
    require("'" not in settings.backend_url, "backend_url", "has a quotation mark")
    require(isinstance(settings.disk_gib, int) and settings.disk_gib >= 8, "disk_gib", "at least 8")
    require(isinstance(settings.spot, bool), "spot", "true or false")
