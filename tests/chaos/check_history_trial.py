"""What happened in a trial, sorted by what it is about. Part of check_history.py."""

import collections

# Time after which a journal takes saves again when its volume has room.
RECOVERY_MS = 5_000


class Trial:
    """One history, sorted by what it is about."""

    def __init__(self, events, journal_rows):
        self.events = events
        self.journal = [row for row in journal_rows if row["player"] in players_of(events)]
        named = {}
        for event in events:
            named.setdefault(event["event"], []).append(event)
        self.named = named
        # What a backend knows of players who are not its own is not part of their history.
        homes = homes_of(events)
        rows = sorted(self.of("log"), key=lambda row: row["id"])
        stored = rows + self.of("document") + self.of("conflict")
        self.foreign = [row for row in stored if row.get("backend", 0) != homes.get(row["player"], 0)]
        # As it happened, with what a restored copy has undone, and as it is told by the database in the end.
        self.whole_log = [row for row in rows if row.get("backend", 0) == homes.get(row["player"], 0)]
        undone = set()
        for row in self.whole_log:
            if row["kind"] == "restored":
                mine = (other for other in self.whole_log if other["player"] == row["player"])
                undone |= {other["id"] for other in mine if row["version"] < other["id"] <= row["id"]}
        self.log = [row for row in self.whole_log if row["id"] not in undone and row["kind"] != "restored"]
        self.undone = [row for row in self.whole_log if row["id"] in undone and row["kind"] != "restored"]
        self.leases = [row for row in self.log if row["kind"] == "lease"]
        self.applied = [row for row in self.log if row["kind"] == "applied"]
        self.fenced = [row for row in self.log if row["kind"] == "conflict"]
        self.built_on = {}
        for event in self.of("attempted"):
            self.built_on[event["op"]] = [int(op) for op in event["from"]]
        self._ancestors = {}
        # How often rules had something to compare.
        self.compared = collections.Counter()

    def of(self, name):
        return self.named.get(name, [])

    def ancestors(self, op):
        """`op` and everything it was built on."""
        known = self._ancestors.get(op)
        if known is None:
            known, ahead = set(), [op]
            while ahead:
                step = ahead.pop()
                if step not in known:
                    known.add(step)
                    ahead.extend(self.built_on.get(step, []))
            self._ancestors[op] = known
        return known

    def documents(self, undone=False):
        """The applications of each document, in order; with those that a restored copy has undone, if wanted."""
        rows = {}
        for row in sorted(self.applied + self.undone if undone else self.applied, key=lambda row: row["id"]):
            if row["kind"] == "applied":
                rows.setdefault(document(row), []).append(row)
        return rows

    def held(self, rows):
        """By document: the saves that these rows contain."""
        held = {}
        for row in rows:
            held.setdefault(document(row), set()).update(self.ancestors(op_of(row)))
        return held

    def stored(self, name):
        """What the players' own backends have stored in the end."""
        return [event for event in self.of(name) if event not in self.foreign]


def players_of(events):
    return {player for event in events if event["event"] == "players" for player in event["players"]}


def homes_of(events):
    """By player: the number of the backend that has the account."""
    homes = {}
    for event in events:
        if event["event"] == "players":
            homes.update(zip(event["players"], event.get("backends", [])))
    return homes


def document(row):
    return (row["player"], row["key"])


def number(row):
    return (row["player"], row["epoch"], row["sequence"])


def process_of(event):
    return (event.get("server"), event.get("incarnation"))


def op_of(row):
    return int(row["value"]["op"])


def full_volumes(trial):
    """Server, beginning and end of each time in which a volume was full."""
    begun, full = {}, []
    for event in trial.events:
        if event["event"] == "volume_full":
            begun[event["server"]] = event["ms"]
        elif event["event"] == "volume_room":
            full.append((event["server"], begun.pop(event["server"]), event["ms"]))
    return full + [(server, begin, float("inf")) for server, begin in begun.items()]
