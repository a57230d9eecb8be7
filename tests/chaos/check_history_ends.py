"""The rules about ends and borders: exits, restored databases, foreign backends, journals that grow. Part of check_history.py."""

from check_history_trial import RECOVERY_MS, document, full_volumes, op_of, process_of

# A journal folder holds what is unsent and this many bytes per server, however much was saved: the log of a database up
# to its checkpoint, which is due at 4 MiB, and the rest.
JOURNAL_BYTES = 6 * 1024 * 1024
# What a save takes beside its ballast, generously, and how often it may lie there: in the log, in the file, twice.
SAVE_BYTES = 2_048
SAVE_COPIES = 4
# What the orchestrator says of a process.
SEEN_FROM_OUTSIDE = ("started", "terminating", "terminated", "killed", "crashed", "hang", "aftermath", "proxy")
# Saves that have to be tried until it can be said that none is taken.
ENOUGH_SAVES = 10


def no_lease_outlives_an_orderly_exit(trial):
    """(17) A server that ended with 0 and left the list holds nobody any more, whatever arrives late."""
    ids, left = {}, set()
    for event in trial.events:
        if event["event"] == "registered":
            ids.setdefault(process_of(event), set()).add(event["server_id"])
        elif event["event"] == "deregistered":
            left.add(process_of(event))
        elif event["event"] == "aftermath" and event["code"] == 0 and process_of(event) in left:
            trial.compared["exits_without_leases"] += 1
            for lease in event["leases"]:
                if lease["server_id"] in ids.get(process_of(event), ()):
                    yield f"ended in good order and still holds {lease}: {event}"


def exit_0_means_nothing_undelivered(trial):
    """(18) When a server ends with 0, everything it took is at the backend at that moment, and its journal is empty."""
    accepted, earned = {}, {}
    for event in trial.events:
        name, process = event["event"], process_of(event)
        if name == "accepted":
            accepted.setdefault(process, []).append(event)
        elif name == "earned":
            earned[process, document(event)] = event
        elif name == "attempted":
            # The game was asked, and what became of that save is told.
            if earned.get((process, document(event)), {}).get("op") == event["op"]:
                del earned[process, document(event)]
        elif name in ("lease_lost", "released"):
            earned = {(who, where): op for (who, where), op in earned.items() if (who, where[0]) != (process, event["player"])}
        elif name == "aftermath" and event["code"] == 0:
            trial.compared["exits_with_0"] += 1
            rows = [row for row in trial.applied + trial.fenced + trial.undone if row["kind"] != "lease"]
            held = trial.held(row for row in rows if row["id"] <= event["log_position"])
            for save in accepted.get(process, []):
                if save["op"] not in held.get(document(save), ()):
                    yield f"ended with 0, and op {save['op']} is not at the backend: {save} and {event}"
            for (who, where), save in earned.items():
                if who == process and save["op"] not in held.get(where, ()):
                    yield f"ended with 0, and nobody asked the game for op {save['op']}: {save} and {event}"
            # What its successor has put into the folder already is the successor's to deliver.
            later = {save["op"] for who, saves in accepted.items() if who[1] > event["incarnation"] for save in saves}
            for row in event["rows"] if alone(trial, event["server"]) else []:
                if op_of(row) not in later and op_of(row) not in held.get(document(row), ()):
                    yield f"ended with 0, and this is in its journal only: {row} and {event}"


def alone(trial, server):
    """Whether a server has its journal folder for itself."""
    journals = [other["journal"] for plan in trial.of("plan") for other in plan["plan"]["servers"]]
    return journals.count(journals[server]) == 1


def what_was_announced_saved_is_there(trial):
    """(19) At the end, each save that was announced as saved is in the document, or in a conflict. Of a backend that went
    back that is asked for what servers held when it did, and for all that was announced afterwards."""
    announced, kept_on, gone = {}, {}, set()
    ended = {"killed", "crashed", "terminating"}
    for event in trial.events:
        name, process = event["event"], process_of(event)
        if name == "saved" and (process, event["player"]) in gone:
            kept_on.setdefault(document(event), set()).update(event["ops"])
        elif name == "saved":
            under = dict.fromkeys(event["ops"], event.get("epoch"))
            announced.setdefault(process, {}).setdefault(document(event), {}).update(under)
        elif name == "conflicted" and "epoch" in event:
            # What was made under that lease is in the backend's conflict now, and with nobody else. The reports of a Godot
            # server are without the lease.
            saves = announced.get(process, {}).get(document(event), {})
            for op in [op for op, epoch in saves.items() if epoch == event["epoch"]]:
                kept_on.setdefault(document(event), set()).add(op)
                del saves[op]
        elif name in ("released", "lease_lost"):
            # From here on, others may hold what this server had; it does not look after it any more.
            gone.add((process, event["player"]))
            saves = announced.get(process, {})
            for where in [where for where in saves if where[0] == event["player"]]:
                kept_on.setdefault(where, set()).update(saves.pop(where))
        elif name == "loaded":
            gone.discard((process, event["player"]))
        elif name in ended:
            for where, ops in announced.pop(process, {}).items():
                kept_on.setdefault(where, set()).update(ops)
        elif name == "restored":
            kept_on.clear()
    for saves in announced.values():
        for where, ops in saves.items():
            kept_on.setdefault(where, set()).update(ops)
    # Whether a conflict stays until it is resolved is another rule's matter, and what a game made of it the game's.
    there = trial.held(trial.stored("document") + trial.fenced)
    for where, ops in kept_on.items():
        trial.compared["announced"] += len(ops)
        missing = ops - there.get(where, set())
        if missing:
            yield f"ops {sorted(missing)[:5]} of {where} were announced as saved and are nowhere"


def no_epoch_is_given_twice(trial):
    """(20) An epoch is given once, even by a database that went back: two holders would overwrite each other."""
    given = {}
    for row in trial.whole_log:
        if row["kind"] == "lease":
            if (row["player"], row["epoch"]) in given:
                yield f"an epoch was given twice: {given[row['player'], row['epoch']]} and {row}"
            given[row["player"], row["epoch"]] = row


def nothing_arrives_at_another_backend(trial):
    """(21) A backend knows nothing of the players of another one."""
    for row in trial.foreign:
        yield f"belongs to another backend: {row}"


def a_journal_stays_small(trial):
    """(22) A journal folder is as large as what was unsent at most, in the file and in its log, and a constant."""
    journals = [server["journal"] for plan in trial.of("plan") for server in plan["plan"]["servers"]]
    pads = pads_of(trial)
    unsent, largest = {}, {}
    for event in trial.events:
        server, _ = process_of(event)
        if event["event"] == "accepted":
            saves = unsent.setdefault(journals[server], {}).setdefault(document(event), {})
            saves[event["op"]] = SAVE_COPIES * (SAVE_BYTES + pads.get(event["op"], 0))
            # Of each document the newest save covers the others.
            documents = unsent[journals[server]].values()
            now = sum(max(saves.values(), default=0) for saves in documents)
            largest[journals[server]] = max(now, largest.get(journals[server], 0))
        elif event["event"] == "saved":
            saves = unsent.get(journals[server], {}).get(document(event), {})
            for op in event["ops"] or list(saves):
                saves.pop(op, None)
        elif event["event"] == "journal_size":
            trial.compared["journal_sizes"] += 1
            most = JOURNAL_BYTES * journals.count(event["journal"]) + largest.get(event["journal"], 0)
            if event["bytes"] > most:
                yield f"a journal of {event['bytes']} bytes, where {most} would do: {event}"


def pads_of(trial):
    """By operation: the bytes of ballast that the plan gives it."""
    pads = {}
    for plan in trial.of("plan"):
        for script in plan["plan"].get("players", []):
            for session in script["sessions"]:
                pads.update({save["op"]: save["pad"] for save in session["saves"] + session["late_saves"]})
    return pads


def a_volume_with_room_takes_saves(trial):
    """(23) A journal that found its volume full takes saves again when there is room."""
    for server, _, room in full_volumes(trial):
        tried = {
            event["op"]
            for event in trial.of("attempted")
            if event["server"] == server and room + RECOVERY_MS / 5 <= event["ms"] <= room + RECOVERY_MS
        }
        taken = {op for event in trial.of("journalled") if event["server"] == server for op in event["ops"]}
        if len(tried) < ENOUGH_SAVES:
            continue
        trial.compared["recoveries"] += 1
        if not tried & taken:
            yield f"server {server} took none of {len(tried)} saves after its volume had room again at {room} ms"


def whoever_can_leave_in_order_does(trial):
    """(24) A server that is told to stop while nothing stands in its way ends with 0, and never by a signal."""
    healthy = {process_of(event): event["healthy"] for event in trial.of("terminating")}
    # Before it has said anything, a process may not have come to where it looks after signals.
    spoken = {process_of(event) for event in trial.events if event["event"] not in SEEN_FROM_OUTSIDE}
    for event in trial.of("terminated"):
        if process_of(event) not in spoken:
            continue
        if event["code"] is None:
            yield f"told to stop, and ended by a signal: {event}"
        elif healthy.get(process_of(event)) and event["code"] != 0:
            yield f"nothing stood in its way, and it ended with {event['code']}: {event}"
