"""A real game server, asked by clients that are not ours: python-a2s and gamedig, unmodified, and raw sockets.

The game is the fixture game, headless; `cargo xtask server-query` starts the backend and says where everything is.
Prints a line for each check and "N passed, M failed" at the end.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

import a2s

TIMEOUT = 60.0
NAME = "Lily Pad Ω"
MODE = "race"
INFO = b"\xff\xff\xff\xff\x54Source Engine Query\x00"
ASKS_FOR_CHALLENGE = b"\xff\xff\xff\xff"


class Game:
    """The fixture game as a dedicated server, and the line by which it takes commands."""

    def __init__(self, home, *arguments):
        control = socket.create_server(("127.0.0.1", 0))
        control.settimeout(TIMEOUT)
        environment = dict(os.environ, HOME=str(home))
        for name in ("DATA", "CONFIG", "CACHE"):
            environment[f"XDG_{name}_HOME"] = str(home / name)
        self.log = open(home / "game.log", "w+", encoding="utf-8")
        command = [os.environ["GODOT4_BIN"], "--headless", "--path", os.environ["FIXTURE_GAME"], "--"]
        command += ["--server", "--role=server", f"--control={control.getsockname()[1]}", *arguments]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        self.line, _ = control.accept()
        self.line.settimeout(TIMEOUT)
        self.answers = self.line.makefile("r", encoding="utf-8")

    def send(self, **command):
        self.line.sendall((json.dumps(command) + "\n").encode())

    def ask(self, **command):
        self.send(**command)
        answer = json.loads(self.answers.readline())
        if "ok" not in answer:
            raise RuntimeError(f"the game says {answer}\n{self.text()}")
        return answer["ok"]

    def text(self):
        return pathlib.Path(self.log.name).read_text(encoding="utf-8", errors="replace")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def until(what, condition):
    """The first value of `condition` that is true."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {TIMEOUT} s")


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: got {actual!r}, expected {expected!r}")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_python_a2s(address, registered):
    """python-a2s reads what the server says of itself."""
    info = a2s.info(address, timeout=TIMEOUT)
    expected = {
        "server_name": NAME,
        "map_name": "lily",
        "player_count": 3,
        "max_players": 16,
        "port": registered["port"],
        "password_protected": False,
        "keywords": "calm,ranked",
        "version": "1.2.3",
    }
    equal({name: getattr(info, name) for name in expected}, expected, "A2S_INFO")
    rules = a2s.rules(address, timeout=TIMEOUT)
    equal(rules["room_id"], registered["server_id"], "room_id")
    equal((rules["mode"], rules["region"], rules["status"]), (MODE, "eu", "ready"), "A2S_RULES")
    equal(a2s.players(address, timeout=TIMEOUT), [], "A2S_PLAYER without BackendPeerAuth's players")


def check_gamedig(address, registered):
    """gamedig, type protocol-valve, reads the same."""
    modules = os.environ["GAMEDIG_MODULES"]
    script = (
        "import { GameDig } from 'gamedig';"
        "const state = await GameDig.query({ type: 'protocol-valve', host: '127.0.0.1', givenPortOnly: true,"
        f" port: {address[1]}, requestRules: true, socketTimeout: 20000 }});"
        "console.log(JSON.stringify(state));"
    )
    command = ["node", "--input-type=module", "--eval", script]
    run = subprocess.run(command, cwd=modules, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    equal(run.returncode, 0, f"gamedig's exit code ({run.stderr})")
    state = json.loads(run.stdout)
    found = [state["name"], state["map"], state["numplayers"], state["maxplayers"], state["password"]]
    equal(found, [NAME, "lily", 3, 16, False], "gamedig")
    equal(state["raw"]["rules"]["room_id"], registered["server_id"], "gamedig's rules")


def check_room_list(address, registered):
    """The room list carries the port."""
    request = urllib.request.Request(os.environ["BACKEND_URL"] + "/v1/rooms")
    key = pathlib.Path(os.environ["BACKEND_SERVER_KEY_FILE"]).read_text(encoding="utf-8").strip()
    request.add_header("authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
        rooms = json.load(reply)["rooms"]
    ports = {room["room_id"]: room.get("query_port") for room in rooms}
    equal(ports[registered["server_id"]], address[1], "query_port of the room")


def check_amplification(address, _registered):
    """Nobody gets more bytes than they sent before their address is proven."""
    questions = {
        "A2S_INFO": INFO,
        "A2S_INFO, wrong challenge": INFO + b"abcd",
        "A2S_PLAYER": b"\xff\xff\xff\xff\x55" + ASKS_FOR_CHALLENGE,
        "A2S_RULES": b"\xff\xff\xff\xff\x56" + ASKS_FOR_CHALLENGE,
        "A2S_RULES, wrong challenge": b"\xff\xff\xff\xff\x56abcd",
        "A2S_RULES, cut": b"\xff\xff\xff\xff\x56",
        "A2S_INFO, cut": INFO[:-1],
        "A2A_PING": b"\xff\xff\xff\xff\x69",
        "ping": b"\xff\xff\xff\xffpbcq1" + bytes(8) + bytes(15),
        "ping, cut": b"\xff\xff\xff\xffpbcq1" + bytes(8) + bytes(14),
        "room": b"\xff\xff\xff\xffrbcq1" + bytes(8) + bytes(1_183),
        "room, cut": b"\xff\xff\xff\xffrbcq1" + bytes(8) + bytes(1_182),
        "fragmented": INFO + bytes(3_000),
        "one byte": b"\xff",
        "nothing": b"",
    }
    sent_in_all = received_in_all = 0
    for what, question in questions.items():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.send(question)
            received = 0
            # A ping behind it: what comes before its answer is all that the question brought.
            nonce = os.urandom(8)
            client.settimeout(TIMEOUT)
            client.send(b"\xff\xff\xff\xffpbcq1" + nonce + bytes(15))
            while True:
                answer = client.recv(65_536)
                if answer[9:17] == nonce:
                    break
                received += len(answer)
            if received > len(question):
                raise AssertionError(f"{what}: {len(question)} bytes brought {received}")
            print(f"       {what}: {len(question)} bytes in, {received} out")
            sent_in_all += len(question)
            received_in_all += received
    print(f"       in all: {sent_in_all} bytes in, {received_in_all} out")


def check_hang(game, address, _registered):
    """A game that hangs answers, and says that it does."""
    with tempfile.TemporaryDirectory() as folder:
        release = pathlib.Path(folder) / "release"
        game.ask(do="hang", until=str(release))

        def status():
            return a2s.rules(address, timeout=TIMEOUT)["status"]

        until("an unhealthy status", lambda: status() == "unhealthy")
        if "EVENT unhung" in game.text():
            raise AssertionError("the game did not hang for long enough")
        keywords = a2s.info(address, timeout=TIMEOUT).keywords
        equal(keywords, "status:unhealthy,calm,ranked", "keywords")
        release.touch()
        until("a status that is well again", lambda: status() == "ready")


def check_taken_port(home, _address, _registered):
    """A port that is taken is a warning, and the server runs on."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        taken.bind(("::", 0))
        port = taken.getsockname()[1]
        game = Game(home, "--name=Taken", f"--port={free_port()}", f"--query-port={port}")
        registered = game.ask(do="register")
        equal(registered["query_port"], 0, "bound query port")
        if f"query_port: UDP port {port} cannot be used" not in game.text():
            raise AssertionError(f"no warning\n{game.text()}")
        game.end()


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        (home / "other").mkdir()
        game = Game(
            home,
            f"--name={NAME}",
            f"--port={free_port()}",
            "--stall-seconds=2",
            f"--mode={MODE}",
            "--map=lily",
            "--region=eu",
            "--version=1.2.3",
            "--tags=calm,ranked",
        )
        registered = game.ask(do="register")
        game.ask(do="set_players", players=3)
        address = ("127.0.0.1", int(registered["query_port"]))
        checks = [
            check_python_a2s,
            check_gamedig,
            check_room_list,
            check_amplification,
            lambda *where: check_hang(game, *where),
            lambda *where: check_taken_port(home / "other", *where),
        ]
        names = ["python-a2s", "gamedig", "room list", "amplification", "hang", "taken port"]
        for name, check in zip(names, checks, strict=True):
            try:
                check(address, registered)
                print(f"ok   {name}")
                passed += 1
            except Exception:  # noqa: BLE001  Each check is reported, whatever its end.
                print(f"FAIL {name}")
                traceback.print_exc(file=sys.stdout)
                failed += 1
        if failed:
            print(game.text())
        game.end()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
