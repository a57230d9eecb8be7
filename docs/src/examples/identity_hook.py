#!/usr/bin/env python3
"""A hook for logins with Steam, and with accounts of your own. Needs nothing but Python.

  IDENTITY_HOOK_SECRET=…    the same text as the backend's --identity-hook-secret
  STEAM_APP_ID, STEAM_WEB_API_KEY    of your game; the key is the publisher's
"""

import json
import os
import urllib.parse
import urllib.request
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["IDENTITY_HOOK_SECRET"]
STEAM = os.environ.get("STEAM_WEB_API", "https://partner.steam-api.com")
# The game names the same text when it requests the ticket.
STEAM_IDENTITY = "backend"


class Refused(Exception):
    """The token is not valid."""


def steam(token: str) -> dict:
    query = urllib.parse.urlencode({
        "key": os.environ["STEAM_WEB_API_KEY"],
        "appid": os.environ["STEAM_APP_ID"],
        "ticket": token,
        "identity": STEAM_IDENTITY,
    })
    url = f"{STEAM}/ISteamUserAuth/AuthenticateUserTicket/v1/?{query}"
    with urllib.request.urlopen(url, timeout=4) as reply:
        answer = json.load(reply)["response"]
    player = answer.get("params", {})
    if player.get("result") != "OK" or player["publisherbanned"]:
        raise Refused
    return {"subject": player["steamid"]}


def own(token: str) -> dict:
    # Ask your own service here. This stands in for it.
    accounts = {"token-of-ada": ("user-17", "Ada")}
    if token not in accounts:
        raise Refused
    subject, name = accounts[token]
    return {"subject": subject, "display_name": name}


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        if not compare_digest(self.headers.get("Authorization", ""), f"Bearer {SECRET}"):
            # Not 401: that would tell the player that the ticket is not valid.
            return self.answer(500, {})
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verify = {"steam": steam, "own": own}[body["provider"]]
        try:
            self.answer(200, verify(body["token"]))
        except Refused:
            self.answer(401, {})
        except Exception as error:
            # The backend returns `unavailable`, and the game may try again. The token is not logged.
            self.log_error("%s: %s", body["provider"], type(error).__name__)
            self.answer(503, {})

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8430), Hook).serve_forever()
