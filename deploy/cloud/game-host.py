#!/usr/bin/env python3
"""Game servers on a virtual machine of Amazon EC2 or Azure. Needs Python 3.9 and systemd, nothing else.

The addon reads address and notices of these clouds by itself, for its own process. This program does it for the machine: it stops
all game servers, approves events when all of them are done, and starts them again if an event is cancelled. See docs/src/deploy-aws-ec2.md and docs/src/deploy-azure.md.

    game-host.py start PORT...            enables and starts one game server per port
    game-host.py stop                     stops them all; exit code 75 if a journal may have saves left
    game-host.py address                  writes the public address of this machine into a file for the units
    game-host.py watch                    stops the game servers when the cloud announces the end of this machine
    game-host.py fetch URL SHA256 FILE    gets a blob from Azure Storage as this machine's identity
    game-host.py secret URL FILE          gets a secret from Azure Key Vault as this machine's identity
"""

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

METADATA = os.environ.get("GAME_HOST_METADATA", "http://169.254.169.254")
ADDRESS_FILE = os.environ.get("GAME_HOST_ADDRESS_FILE", "/run/game-host/address.env")
POLL_SECONDS = float(os.environ.get("GAME_HOST_POLL_SECONDS", "2"))
# Azure's first answer about events may take two minutes.
EVENTS_TIMEOUT_SECONDS = 150
TIMEOUT_SECONDS = 5
PATIENCE_SECONDS = float(os.environ.get("GAME_HOST_PATIENCE_SECONDS", "300"))
TARGET = "game-servers.target"
SAVES_LEFT = 75
SECRET_MODE = 0o600

# The metadata services are on this machine's own link: a proxy must not be asked.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(path, headers=None, method="GET", body=None, timeout=TIMEOUT_SECONDS):
    """The text that the metadata service returns, or None if there is no such thing."""
    request = urllib.request.Request(METADATA + path, data=body, headers=headers or {}, method=method)
    try:
        with DIRECT.open(request, timeout=timeout) as reply:
            return reply.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


class Amazon:
    """IMDSv2, which needs a token."""

    def ask(self, path):
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        token = ask("/latest/api/token", lifetime, method="PUT")
        return ask("/latest/meta-data/" + path, {"X-aws-ec2-metadata-token": token})

    def address(self):
        return self.ask("public-ipv4")

    def notice(self):
        """A Spot instance is told two minutes ahead; others are told nothing."""
        action = self.ask("spot/instance-action")
        return None if action is None else (f"spot {json.loads(action)['action']}", None)

    def approve(self, event):
        """Nothing here can be approved."""


class Azure:
    """The instance metadata service, with its Scheduled Events."""

    ENDS = ("Preempt", "Terminate", "Reboot", "Redeploy")
    EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"

    def __init__(self):
        self.name = None

    def ask(self, path, timeout=TIMEOUT_SECONDS):
        reply = ask(path, {"Metadata": "true"}, timeout=timeout)
        return None if reply is None else json.loads(reply)

    def instance(self):
        return self.ask("/metadata/instance?api-version=2021-02-01")

    def address(self):
        for interface in self.instance()["network"]["interface"]:
            for address in interface["ipv4"]["ipAddress"]:
                if address.get("publicIpAddress"):
                    return address["publicIpAddress"]
        # Addresses of the Standard SKU are not in the document above.
        balanced = self.ask("/metadata/loadbalancer?api-version=2020-10-01")
        addresses = (balanced or {}).get("loadbalancer", {}).get("publicIpAddresses", [])
        return addresses[0]["frontendIpAddress"] if addresses else None

    def notice(self):
        self.name = self.name or self.instance()["compute"]["name"]
        document = self.ask(self.EVENTS, EVENTS_TIMEOUT_SECONDS) or {}
        for event in document.get("Events", []):
            if event["EventType"] in self.ENDS and self.name in event["Resources"]:
                return event["EventType"].lower(), event
        return None

    def approve(self, event):
        """Lets the event begin now. It would begin for every machine that it lists, so only if that is this one alone."""
        if event["EventStatus"] != "Scheduled" or event["Resources"] != [self.name]:
            return
        body = json.dumps({"StartRequests": [{"EventId": event["EventId"]}]}).encode()
        ask(self.EVENTS, {"Metadata": "true", "Content-Type": "application/json"}, "POST", body)

    def token(self, resource):
        """An access token of this machine's only identity."""
        query = urllib.parse.urlencode({"api-version": "2018-02-01", "resource": resource})
        return self.ask("/metadata/identity/oauth2/token?" + query)["access_token"]


def cloud():
    """The cloud that the start-up script has named."""
    name = os.environ.get("GAME_HOST_CLOUD")
    clouds = {"aws": Amazon, "azure": Azure}
    if name not in clouds:
        sys.exit(f"GAME_HOST_CLOUD is {name!r}: set it to aws or azure, in /etc/game/cloud.env")
    return clouds[name]()


def patiently(action, what):
    """Repeats an action: early after the start, neither network nor rights are there."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            result = action()
            if result is not None:
                return result
            problem = "there is none"
        except (OSError, ValueError, KeyError) as error:
            problem = str(error)
        if time.monotonic() > until:
            sys.exit(f"{what}: {problem}")
        print(f"{what}: {problem}, trying again", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)


def systemctl(*arguments):
    return subprocess.run(["systemctl", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def write_secret(path, content):
    """Readable by the owner only, from the first byte on, and there as a whole or not at all."""
    unfinished = path + ".unfinished"
    if os.path.exists(unfinished):
        os.remove(unfinished)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(unfinished, path)


def start(ports):
    units = ["game-host-address.service", "game-host-watch.service", TARGET]
    units += [f"game-server@{port}.service" for port in ports]
    systemctl("daemon-reload")
    systemctl("enable", *units)
    # A game server has started when it is listed, which waits for the backend. This script does not.
    systemctl("start", "--no-block", *units)


def stop():
    """Returns whether everything has arrived at the backend, as far as the exit codes tell."""
    systemctl("stop", TARGET)
    shown = systemctl("list-units", "--all", "--plain", "--no-legend", "--state=failed", "game-server@*.service")
    left = [line.split()[0] for line in shown.splitlines() if line.strip()]
    for unit in left:
        print(f"{unit} has failed: its journal may have saves that are not at the backend", file=sys.stderr)
    return not left


def write_address():
    address = patiently(cloud().address, "the public address of this machine")
    os.makedirs(os.path.dirname(ADDRESS_FILE), exist_ok=True)
    with open(ADDRESS_FILE, "w", encoding="utf-8") as file:
        file.write(f"BACKEND_PUBLIC_ADDRESS={address}\n")
    print(f"players reach this machine at {address}")


def watch():
    """One stop per notice. If an event is cancelled or over and the machine is still there, the servers start again."""
    here = cloud()
    stopped = False
    while True:
        try:
            notice = here.notice()
            if notice and not stopped:
                reason, event = notice
                print(f"notice: {reason}; stopping the game servers", flush=True)
                stopped = True
                if stop() and event:
                    here.approve(event)
            elif not notice and stopped:
                print("the notice is gone: starting the game servers", flush=True)
                systemctl("start", "--no-block", TARGET)
                stopped = False
        except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
            print(f"cannot tell whether this machine ends: {error}", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)


def get_as_this_machine(url, resource):
    """What is at a URL of Azure, with the machine's own token."""
    def get():
        headers = {"Authorization": "Bearer " + Azure().token(resource), "x-ms-version": "2021-08-06"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as reply:
            return reply.read()
    return patiently(get, url)


def fetch(url, digest, path):
    content = get_as_this_machine(url, "https://storage.azure.com/")
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        sys.exit(f"{url}: its SHA-256 is {found}, expected {digest}")
    write_secret(path, content)


def secret(url, path):
    reply = get_as_this_machine(url + "?api-version=7.4", "https://vault.azure.net")
    write_secret(path, json.loads(reply)["value"].encode())


def main(arguments):
    command, rest = (arguments[0], arguments[1:]) if arguments else (None, [])
    if command == "start" and rest and all(port.isdigit() and len(port) == 4 for port in rest):
        start(rest)
    elif command == "stop" and not rest:
        return 0 if stop() else SAVES_LEFT
    elif command == "address" and not rest:
        write_address()
    elif command == "watch" and not rest:
        watch()
    elif command == "fetch" and len(rest) == 3:
        fetch(*rest)
    elif command == "secret" and len(rest) == 2:
        secret(*rest)
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
