"""The rules about saves: what was acknowledged, applied, kept and found again. Part of check_history.py."""

from check_history_trial import RECOVERY_MS, document, full_volumes, number, op_of, process_of

UNSAFE_EVENTS = {
    "crashed": "a game server ended by itself",
    "hang": "a game server did not obey SIGTERM",
    "garbled": "a game server said something that is no JSON",
    "script_error": "a script in Godot failed",
    "undelivered": "a game server did not deliver what it had although all was healed",
    "world_unreachable": "a world could not be read or taken although all was healed",
    "chunks_unreadable": "a chunk could not be read although it was listed",
    "world_lost": "a world was lost that nobody else had asked for",
    "chunks_put_aside": "changes of a world were put aside although nobody else had taken it",
    "unreachable": "a player could not be loaded although all was healed",
    "journal_failed": "a journal failed on a healthy disk",
}


def local_acknowledgements_are_covered(trial):
    """(1) What was acknowledged locally is applied, kept as a conflict or in a journal: itself, or something built on it."""
    undone = [row for row in trial.undone if row["kind"] != "lease"]
    held = trial.held(trial.applied + trial.fenced + trial.journal + undone)
    for event in trial.of("journalled"):
        for op in event["ops"]:
            if op not in held.get(document(event), ()):
                yield f"op {op} was acknowledged locally and is lost: {event}"


def everything_is_applied_once(trial):
    """(2) No number and no save is applied twice. A number counts the saves of a player, whatever the document."""
    numbers, ops = {}, {}
    for row in trial.applied:
        if number(row) in numbers:
            yield f"applied twice under one number: {numbers[number(row)]} and {row}"
        if op_of(row) in ops:
            yield f"op {op_of(row)} is applied twice: {ops[op_of(row)]} and {row}"
        numbers[number(row)] = ops[op_of(row)] = row


def versions_epochs_and_sequences_grow(trial):
    """(3) Versions grow by one, epochs never go down, sequences grow within an epoch."""
    for rows in trial.documents().values():
        if rows[0]["version"] != 1:
            yield f"the first version is not 1: {rows[0]}"
        for before, after in zip(rows, rows[1:]):
            if after["version"] != before["version"] + 1:
                yield f"the version does not grow by one: {before} then {after}"
            if after["epoch"] < before["epoch"]:
                yield f"the epoch goes down: {before} then {after}"
            if after["epoch"] == before["epoch"] and after["sequence"] <= before["sequence"]:
                yield f"the sequence does not grow: {before} then {after}"


def nothing_fenced_is_applied(trial):
    """(4) A save is applied under the player's current epoch only; nothing is both applied and kept as a conflict."""
    current = {}
    for row in trial.log:
        if row["kind"] == "lease":
            if row["epoch"] <= current.get(row["player"], 0):
                yield f"an epoch was given twice: {row}"
            current[row["player"]] = row["epoch"]
        elif row["kind"] == "applied" and row["epoch"] != current.get(row["player"]):
            yield f"applied under another epoch than {current.get(row['player'])}: {row}"
    fenced = {op_of(row): row for row in trial.fenced}
    for row in trial.applied:
        if op_of(row) in fenced and not brought_in_twice(trial, row, fenced[op_of(row)]):
            yield f"op {op_of(row)} is both applied and a conflict: {row} and {fenced[op_of(row)]}"


def brought_in_twice(trial, applied, conflict):
    """After a restore, who made a save sends it again, and so does who had only loaded it since, under the later lease."""
    has_loaded = any(
        event["player"] == conflict["player"]
        and event["documents"].get(conflict["key"], {}).get("op") == op_of(conflict)
        for event in trial.of("loaded")
    )
    return has_loaded and bool(trial.of("restored")) and conflict["epoch"] > applied["epoch"]


def remote_acknowledgements_are_true(trial):
    """(5) What was acknowledged as committed is committed, itself or something built on it."""
    applied = trial.documents(undone=True)
    fenced = [row for row in trial.fenced + trial.undone if row["kind"] == "conflict"]
    for event in trial.of("saved"):
        rows = [row for row in applied.get(document(event), []) if covers(row, event)]
        if not rows:
            yield f"acknowledged as committed, but not applied: {event}"
            continue
        for op in event["ops"]:
            if not any(op in trial.ancestors(op_of(row)) for row in rows):
                yield f"op {op} was acknowledged as committed, but not applied: {event}"
        # Sent again to a backend that went back, it may have a lower version than the first time.
        lowest = min(row["version"] for row in rows)
        if event["version"] < lowest:
            yield f"committed as version {event['version']}, but applied as {lowest}: {event}"
    for event in trial.of("conflicted"):
        if not any(document(row) == document(event) and covers(row, event) for row in fenced):
            yield f"told to be kept as a conflict, but it is not: {event}"


def covers(row, event):
    """Godot's signals name no numbers: there, the version has to do, and of a conflict only the document is known."""
    if "epoch" in event:
        return row["epoch"] == event["epoch"] and row["sequence"] >= event["sequence"]
    return "version" not in event or row["version"] == event["version"]


def a_handover_shows_the_last_save(trial):
    """(6) Who leaves a server in good order finds the last save made there on the next one."""
    accepted, leaving, expected, joining, lost = {}, {}, {}, {}, set()
    fenced = {op_of(row) for row in trial.fenced}
    for event in trial.events:
        name, process = event["event"], process_of(event)
        if name == "accepted":
            accepted[process, document(event)] = event["op"]
        elif name == "journalled":
            # What a game has made of a conflict is no save of its script, and takes the place of the one it is built on.
            for op in event["ops"]:
                if accepted.get((process, document(event))) in trial.built_on.get(op, ()):
                    accepted[process, document(event)] = op
        elif name == "leaving":
            player = event["player"]
            # Whoever has left may be told to leave once more: there is nothing new to be found then.
            mine = [key for key in accepted if key[0] == process and key[1][0] == player]
            leaving[process, event["leave"]] = {key[1]: accepted.pop(key) for key in mine}
        elif name == "released":
            saves = leaving.pop((process, event["leave"]), {})
            if event["unsaved"] == 0 and event["conflicted"] == 0:
                expected.update({where: op for where, op in saves.items() if op not in fenced})
            elif not trial.of("restored"):
                # What was not delivered in time is asked for when the server says that it was.
                for where, op in saves.items():
                    accepted.setdefault((process, where), op)
        elif name == "lease_lost":
            lost.add((process, event["player"]))
        elif name == "restored":
            # Nobody who has left is held anywhere any more: what a copy has lost of them is lost. A release that is under way
            # has the rest of the trial to be judged by.
            expected.clear()
            joining.clear()
            accepted = {key: op for key, op in accepted.items() if (key[0], key[1][0]) not in lost}
        elif name == "joining":
            player = event["player"]
            joining[process, event["join"]] = {where: op for where, op in expected.items() if where[0] == player}
        elif name == "loaded":
            lost.discard((process, event["player"]))
            for (player, key), op in joining.pop((process, event["id"]), {}).items():
                trial.compared["handovers"] += 1
                seen = event["documents"].get(key, {}).get("op")
                if seen is None or op not in trial.ancestors(int(seen)):
                    yield f"the player left with op {op} of {key} and finds {seen} on the next server: {event}"


def every_application_builds_on_the_one_before(trial):
    """(7) No save overwrites one that its server did not know: that would be a loss, too."""
    for rows in trial.documents().values():
        for before, after in zip(rows, rows[1:]):
            if op_of(before) not in trial.ancestors(op_of(after)):
                yield f"overwritten unseen: {before} by {after}"


def a_number_stands_for_one_save(trial):
    """(8) Wherever a number turns up, it stands for the same save."""
    known = {}
    undone = [row for row in trial.undone if row["kind"] != "lease"]
    for row in trial.applied + trial.fenced + trial.journal + undone:
        before = known.setdefault(number(row), row)
        if op_of(before) != op_of(row):
            yield f"one number, two saves: {before} and {row}"
    for event in trial.of("journalled"):
        row = known.get(number(event)) if "epoch" in event else None
        if row is not None and event["ops"] and op_of(row) not in event["ops"]:
            yield f"acknowledged as {event['ops']}, but the number stands for {op_of(row)}: {event} and {row}"


def a_shutdown_leaves_nothing_unsafe(trial):
    """(9) After SIGTERM everything is committed or in the journal, and the exit code says which."""
    left = {}
    for event in trial.of("stopped"):
        if event.get("server") is None:
            continue
        left[event["server"], event["incarnation"]] = event["unsaved"]
        if event["unsaved"] != event["journalled"]:
            yield f"ended with saves that are nowhere: {event}"
    for event in trial.of("terminated"):
        unsaved = left.get((event["server"], event["incarnation"]))
        expected = 75 if unsaved else 0
        if unsaved is not None and event["code"] != expected:
            yield f"ended with code {event['code']} instead of {expected}: {event}"


def what_is_reported_delivered_is_delivered(trial):
    """(10) When the last incarnation of every server ended with code 0, nothing is in a journal only."""
    last = {}
    for event in trial.of("started") + trial.of("terminated") + trial.of("killed") + trial.of("crashed"):
        server = event["server"]
        order = (event["incarnation"], event["event"] != "started")
        if order >= last.get(server, ((0, False), None))[0]:
            last[server] = (order, event.get("code"))
    if not last or any(code != 0 for _, code in last.values()):
        return
    held = {}
    for row in trial.applied + trial.fenced:
        held.setdefault(document(row), set()).update(trial.ancestors(op_of(row)))
    for row in trial.journal:
        if op_of(row) not in held.get(document(row), ()):
            yield f"every server said that nothing is left, but this is: {row}"


def nothing_went_wrong_by_itself(trial):
    """(11) Processes end when they are told to, and everything is delivered once all is healed."""
    full = full_volumes(trial)
    for name, meaning in UNSAFE_EVENTS.items():
        for event in trial.of(name):
            if name == "journal_failed" and any(
                server == event["server"] and begin <= event["ms"] <= end + RECOVERY_MS for server, begin, end in full
            ):
                continue
            yield f"{meaning}: {event}"
    if not trial.of("end"):
        yield "the history has no end"


def the_documents_are_what_was_applied(trial):
    """(12) The log of applications is whole: the documents are what was applied last."""
    last = {where: rows[-1] for where, rows in trial.documents().items()}
    stored = {document(event): event for event in trial.stored("document")}
    for where in last.keys() | stored.keys():
        row, event = last.get(where), stored.get(where)
        if row is None or event is None or (number(row), op_of(row)) != (number(event), op_of(event)):
            yield f"applied last: {row}, stored: {event}"


def a_load_shows_what_was_committed(trial):
    """(13) What was acknowledged as committed before a player is asked for is in what the server gets."""
    committed, joining = {}, {}
    for event in trial.events:
        name = event["event"]
        if name == "saved":
            committed.setdefault(event["player"], {}).setdefault(event["key"], set()).update(event["ops"])
        elif name == "restored":
            committed.clear()
            joining.clear()
        elif name == "joining":
            known = committed.get(event["player"], {})
            joining[process_of(event), event["join"]] = {key: set(ops) for key, ops in known.items()}
        elif name == "loaded":
            for key, ops in joining.pop((process_of(event), event["id"]), {}).items():
                trial.compared["loads_after_commit"] += bool(ops)
                seen = event["documents"].get(key, {}).get("op")
                missing = ops - (trial.ancestors(int(seen)) if seen is not None else set())
                if missing:
                    yield f"ops {sorted(missing)} of {key} were committed before, but {seen} is found: {event}"


def a_restart_delivers_before_it_admits(trial):
    """(14) A player who joins a server that was started again finds what its dead process had acknowledged locally."""
    journals = [server["journal"] for plan in trial.of("plan") for server in plan["plan"]["servers"]]
    # Of what was kept as a conflict, what nobody had committed before.
    kept = {}
    for row in trial.fenced:
        earlier = [other for other in trial.documents().get(document(row), []) if other["epoch"] <= row["epoch"]]
        only = trial.ancestors(op_of(row)).difference(*(trial.ancestors(op_of(other)) for other in earlier))
        kept.setdefault(document(row), set()).update(only)
    acknowledged = {}
    for event in trial.events:
        server, incarnation = process_of(event)
        if event["event"] != "restored" and (server is None or journals.count(journals[server]) > 1):
            # A journal folder with several users: another one may have found what the dead one left.
            continue
        if event["event"] == "restored":
            acknowledged.clear()
        elif event["event"] == "journalled":
            acknowledged.setdefault(server, []).extend((incarnation, document(event), op) for op in event["ops"])
        elif event["event"] == "loaded":
            for before, (player, key), op in acknowledged.get(server, []):
                if before == incarnation or player != event["player"] or op in kept.get((player, key), ()):
                    continue
                trial.compared["loads_after_restart"] += 1
                seen = event["documents"].get(key, {}).get("op")
                if seen is None or op not in trial.ancestors(int(seen)):
                    yield f"op {op} of {key} was acknowledged by a process that died, but {seen} is found: {event}"


def a_conflict_stays_until_it_is_resolved(trial):
    """(15) A save that was kept as a conflict is still kept, itself or something built on it, unless it was resolved."""
    rows = {(document(row), row["epoch"]): row for row in trial.stored("conflict")}
    for row in trial.fenced:
        kept = rows.get((document(row), row["epoch"]))
        if kept is None:
            yield f"kept as a conflict, and dropped: {row}"
        elif not kept["resolved"] and op_of(row) not in trial.ancestors(op_of(kept)):
            yield f"kept as a conflict, and replaced by something that is not built on it: {row} by {kept}"


def a_world_holds_what_was_acknowledged(trial):
    """(16) Of each chunk a server finds what was last acknowledged locally, or something newer that was attempted."""
    acknowledged, asked, attempted = {}, {}, {}
    for event in trial.events:
        name = event["event"]
        if name == "chunk_attempted":
            attempted.setdefault((event["world"], event["name"]), set()).add(event["op"])
        elif name == "chunk_journalled":
            chunks = acknowledged.setdefault(event["world"], {})
            chunks[event["name"]] = max(event["op"], chunks.get(event["name"], 0))
        elif name == "chunks_asked":
            asked[process_of(event), event["world"], event["asked"]] = dict(acknowledged.get(event["world"], {}))
        elif name == "chunks":
            world, found = event["world"], event["chunks"]
            for chunk, op in asked.pop((process_of(event), world, event["id"]), {}).items():
                trial.compared["chunks"] += 1
                if (found.get(chunk) or 0) < op:
                    yield f"op {op} of chunk {chunk} was acknowledged, but {found.get(chunk)} is found: {event}"
            for chunk, op in found.items():
                if op not in attempted.get((world, chunk), ()):
                    yield f"chunk {chunk} holds {op}, which nobody put there: {event}"
