"""deploy/cloud/game-host.py against fakes of the metadata services of EC2 and Azure, strict about order, headers and body.

A program in place of systemctl notes what it is told. Neither cloud has seen this program.
"""

import hashlib
import http.server
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import counted

PROGRAM = Path(__file__).resolve().parents[2] / "deploy/cloud/game-host.py"
TOKEN = "a-token"
TIMEOUT_SECONDS = 60
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
INSTANCE = "/metadata/instance?api-version=2021-02-01"
BALANCED = "/metadata/loadbalancer?api-version=2020-10-01"
SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$FOLDER/calls"
[ "$1" != list-units ] || cat "$FOLDER/failed"
"""


class Metadata(http.server.BaseHTTPRequestHandler):
    """What both clouds have; `server.answers` are JSON documents or texts by path."""

    def do_PUT(self):
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        good = self.path == "/latest/api/token" and lifetime.isdigit() and 1 <= int(lifetime) <= 21600
        self.reply(200 if good else 400, TOKEN)

    def do_GET(self):
        if self.path.startswith("/latest/") and self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.reply(401, "")
        if self.path.startswith("/metadata/") and not self.is_azure():
            return self.reply(400, "")
        if self.path.startswith("/blob") and self.headers.get("Authorization") != "Bearer an-access-token":
            return self.reply(403, "")
        with self.server.lock:
            answer = self.server.answers.get(self.path)
            self.server.asked.append(self.path)
        if answer is None:
            return self.reply(404, "")
        return self.reply(200, answer if isinstance(answer, str) else json.dumps(answer))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != EVENTS or not self.is_azure():
            return self.reply(400, "")
        with self.server.lock:
            self.server.posted.append(body)
        return self.reply(200, "")

    def is_azure(self):
        return self.headers.get("Metadata") == "true" and "X-Forwarded-For" not in self.headers

    def reply(self, status, text):
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def event(kind="Terminate", resources=("game_0",), status="Scheduled"):
    return {
        "EventId": "an-event", "EventType": kind, "ResourceType": "VirtualMachine", "Resources": list(resources),
        "EventStatus": status, "NotBefore": "Mon, 30 Nov 2026 10:00:00 GMT",
    }


def instance(public=""):
    address = {"privateIpAddress": "10.0.0.4", "publicIpAddress": public}
    interface = {"ipv4": {"ipAddress": [address]}}
    return {"compute": {"name": "game_0"}, "network": {"interface": [interface]}}


class GameHost(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "failed").write_text("")
        (self.folder / "systemctl").write_text(SYSTEMCTL)
        (self.folder / "systemctl").chmod(0o755)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        self.server.lock, self.server.answers = threading.Lock(), {}
        self.server.asked, self.server.posted = [], []
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path, what):
        with self.server.lock:
            self.server.answers[path] = what

    def asked(self, path):
        with self.server.lock:
            return self.server.asked.count(path)

    def posted(self):
        with self.server.lock:
            return list(self.server.posted)

    def start(self, cloud, *arguments):
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "FOLDER": str(self.folder),
            "GAME_HOST_CLOUD": cloud,
            "GAME_HOST_METADATA": self.url,
            "GAME_HOST_ADDRESS_FILE": str(self.folder / "run/address.env"),
            "GAME_HOST_POLL_SECONDS": "0.02",
            "GAME_HOST_PATIENCE_SECONDS": "0.2",
            # A proxy must not be asked for metadata.
            "http_proxy": "http://127.0.0.1:9",
            "no_proxy": "" if arguments[0] in ("address", "watch") else "127.0.0.1",
        }
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, PROGRAM, *arguments], env=environment, **pipes)

    def run_host(self, cloud, *arguments):
        process = self.start(cloud, *arguments)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        return process.returncode, errors

    def watch(self, cloud):
        process = self.start(cloud, "watch")

        def end():
            process.kill()
            process.communicate()

        self.addCleanup(end)

    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, condition, what):
        end = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what}: {self.calls()}")
            time.sleep(0.01)

    def address(self):
        return (self.folder / "run/address.env").read_text()

    def test_ec2_has_an_address(self):
        self.answer("/latest/meta-data/public-ipv4", "203.0.113.7")
        self.assertEqual(self.run_host("aws", "address")[0], 0)
        self.assertEqual(self.address(), "BACKEND_PUBLIC_ADDRESS=203.0.113.7\n")

    def test_azure_has_an_address(self):
        self.answer(INSTANCE, instance("203.0.113.8"))
        self.assertEqual(self.run_host("azure", "address")[0], 0)
        self.assertEqual(self.address(), "BACKEND_PUBLIC_ADDRESS=203.0.113.8\n")

    def test_azure_has_an_address_of_the_standard_sku(self):
        self.answer(INSTANCE, instance())
        public = {"frontendIpAddress": "203.0.113.9", "privateIpAddress": "10.0.0.4"}
        self.answer(BALANCED, {"loadbalancer": {"publicIpAddresses": [public]}})
        self.assertEqual(self.run_host("azure", "address")[0], 0)
        self.assertEqual(self.address(), "BACKEND_PUBLIC_ADDRESS=203.0.113.9\n")

    def test_no_address_is_an_error(self):
        status, errors = self.run_host("aws", "address")
        self.assertEqual(status, 1)
        self.assertIn("the public address of this machine: there is none", errors)
        self.assertFalse((self.folder / "run").exists())

    def test_a_spot_notice_stops_the_servers_once(self):
        self.watch("aws")
        self.answer("/latest/meta-data/spot/instance-action", {"action": "terminate", "time": "2026-11-30T10:00:00Z"})
        self.until(lambda: "stop game-servers.target" in self.calls(), "no stop")
        self.answer("/latest/meta-data/spot/instance-action", None)
        self.until(lambda: "start --no-block game-servers.target" in self.calls(), "no start")
        self.assertEqual(self.calls().count("stop game-servers.target"), 1)

    def watch_azure(self, *events):
        self.answer(INSTANCE, instance())
        self.answer(EVENTS, {"DocumentIncarnation": 1, "Events": list(events)})
        self.watch("azure")

    def test_an_event_that_is_ours_alone_is_approved(self):
        self.watch_azure(event(resources=("game_1",)), event("Freeze"), event())
        self.until(self.posted, "not approved")
        self.assertEqual(self.posted(), [{"StartRequests": [{"EventId": "an-event"}]}])
        self.assertEqual(self.calls()[0], "stop game-servers.target")

    def ends_unapproved(self):
        self.until(lambda: "stop game-servers.target" in self.calls(), "no stop")
        self.answer(EVENTS, {"DocumentIncarnation": 2, "Events": []})
        # After the stop, and after everything that comes with it.
        self.until(lambda: "start --no-block game-servers.target" in self.calls(), "no start")
        self.assertEqual(self.posted(), [])

    def test_an_event_of_several_machines_is_not_approved(self):
        self.watch_azure(event(resources=("game_0", "game_1")))
        self.ends_unapproved()

    def test_an_event_is_not_approved_while_saves_are_left(self):
        (self.folder / "failed").write_text("game-server@7777.service loaded failed failed Game server\n")
        self.watch_azure(event("Preempt"))
        self.ends_unapproved()

    def test_events_of_others_stop_nothing(self):
        self.watch_azure(event(resources=("game_1",)), event("Freeze"))
        self.until(lambda: self.asked(EVENTS) > 2, "not asked")
        self.assertEqual(self.calls(), [])
        self.answer(EVENTS, {"DocumentIncarnation": 2, "Events": [event("Preempt")]})
        self.until(lambda: "stop game-servers.target" in self.calls(), "no stop")
        self.assertEqual(self.calls().count("stop game-servers.target"), 1)

    def test_stop_tells_what_may_be_left(self):
        self.assertEqual(self.run_host("aws", "stop")[0], 0)
        (self.folder / "failed").write_text("game-server@7778.service loaded failed failed Game server\n")
        status, errors = self.run_host("aws", "stop")
        self.assertEqual(status, 75)
        self.assertIn("game-server@7778.service", errors)

    def test_a_release_is_what_was_uploaded(self):
        token = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F"
        self.answer(token, {"access_token": "an-access-token"})
        self.answer("/blob", "release")
        place, digest = str(self.folder / "release"), hashlib.sha256(b"release").hexdigest()
        self.assertEqual(self.run_host("azure", "fetch", self.url + "/blob", digest, place), (0, ""))
        self.assertEqual(Path(place).read_text(), "release")
        status, errors = self.run_host("azure", "fetch", self.url + "/blob", "0" * 64, place + "2")
        self.assertEqual((status, Path(place + "2").exists()), (1, False))
        self.assertIn(digest, errors)

    def test_a_key_is_for_its_owner_only(self):
        token = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
        self.answer(token, {"access_token": "an-access-token"})
        self.answer("/blob/key?api-version=7.4", {"value": "the-key"})
        place = self.folder / "key"
        self.assertEqual(self.run_host("azure", "secret", self.url + "/blob/key", str(place)), (0, ""))
        self.assertEqual(place.read_text(), "the-key")
        self.assertEqual(stat.S_IMODE(place.stat().st_mode), 0o600)

    def test_ports_have_four_digits(self):
        self.assertEqual(self.run_host("aws", "start", "7777", "x; true")[0], 1)
        self.assertEqual(self.calls(), [])


if __name__ == "__main__":
    counted.run()
