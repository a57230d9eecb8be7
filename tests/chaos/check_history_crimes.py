"""The test of check_history.py itself: an honest history, and what is done to it that each of its rules has to notice."""

import pathlib
import sqlite3
import tempfile

import check_history as check
import check_history_ends as ends
import check_history_saves as saves
from check_history_summary import LEAST, LEAST_WITH_GODOT, NEEDS_VOLUMES, too_rare


def honest():
    """A small history with everything in it, and a journal."""

    def saved(kind, identity, op, built_on, epoch, sequence, version=None):
        value = {"op": op, "from": built_on}
        row = {"event": "log", "id": identity, "kind": kind, "player": "ada", "key": "purse", "epoch": epoch}
        return row | {"sequence": sequence, "version": version, "value": value}

    def told(server, event, **more):
        return {"event": event, "server": server, "incarnation": 1, "player": "ada", "key": "purse"} | more

    def attempt(server, op, built_on, generation):
        yield told(server, "attempted", op=op, **{"from": built_on})
        yield told(server, "accepted", op=op, generation=generation)

    servers = [{"journal": 0}, {"journal": 1}]
    plan = {"database": "sqlite", "ending": "deliver", "servers": servers}
    events = [{"event": "plan", "plan": plan}]
    events += [{"event": "players", "players": ["ada", "bob"], "backends": [0, 0]}]
    events += restored()
    events += recovered()
    events += attempt(0, 1, [], 1)
    events += attempt(0, 2, [1], 2)
    events += [
        told(1, "started"),
        told(0, "journalled", ops=[1, 2], generation=2, epoch=1, sequence=1),
        told(0, "leaving", leave=1),
        told(0, "saved", ops=[1, 2], generation=2, epoch=1, sequence=1, version=1),
        told(0, "released", leave=1, unsaved=0, conflicted=0),
        told(1, "joining", join=7),
        told(1, "loaded", id=7, documents={"purse": {"op": 2, "version": 1}}),
    ]
    events += attempt(1, 3, [2], 1)
    events += attempt(0, 4, [2], 3)
    events += attempt(1, 5, [3], 2)
    events += [
        told(1, "journalled", ops=[3], generation=1, epoch=2, sequence=1),
        told(0, "journalled", ops=[4], generation=3, epoch=1, sequence=2),
        told(0, "conflicted", epoch=1, sequence=2),
        told(1, "saved", ops=[3], generation=1, epoch=2, sequence=1, version=2),
        told(1, "journalled", ops=[5], generation=2, epoch=2, sequence=2),
        told(0, "started", incarnation=2),
        told(0, "joining", join=8, incarnation=2),
        told(0, "loaded", id=8, documents={"purse": {"op": 3, "version": 2}}, incarnation=2),
        told(0, "registered", server_id="s0", incarnation=2),
        told(0, "earned", player="bob", op=23, incarnation=2),
        told(0, "attempted", player="bob", op=23, incarnation=2, **{"from": [22]}),
        told(0, "accepted", player="bob", op=23, generation=1, incarnation=2),
        told(0, "terminating", healthy=True, incarnation=2),
        told(0, "deregistered", incarnation=2),
        told(0, "terminated", code=0, incarnation=2),
        told(0, "aftermath", code=0, log_position=17, late_loads=[], rows=[], incarnation=2)
        | {"leases": [{"player": "bob", "server_id": "s1"}]},
        told(1, "chunk_attempted", world="w", name="terrain", op=11),
        told(1, "chunk_journalled", world="w", name="terrain", op=11),
        told(0, "chunks_asked", world="w", asked=9, incarnation=2),
        told(0, "chunks", world="w", id=9, chunks={"terrain": 11}, incarnation=2),
        told(1, "stopped", unsaved=1, journalled=1),
        told(1, "terminated", code=75),
        {"event": "log", "id": 1, "kind": "lease", "player": "ada", "epoch": 1, "taken_from": None},
        saved("applied", 2, 2, [1], 1, 1, 1),
        {"event": "log", "id": 3, "kind": "lease", "player": "ada", "epoch": 2, "taken_from": None},
        saved("applied", 4, 3, [2], 2, 1, 2),
        saved("conflict", 5, 4, [2], 1, 2),
        saved("applied", 0, 3, [2], 2, 1, 2) | {"event": "document"},
        saved("conflict", 0, 4, [2], 1, 2) | {"event": "conflict", "resolved": False},
        {"event": "end"},
    ]
    for number, event in enumerate(events):
        event.setdefault("ms", 10_000 + number)
    left = {"player": "ada", "key": "purse", "epoch": 2, "sequence": 2, "value": {"op": 5, "from": [3]}}
    return events, [left]


def restored():
    """Bob's server holds what a restored copy has lost, and sends it again."""

    def told(event, **more):
        return {"event": event, "server": 1, "incarnation": 1, "player": "bob", "key": "purse"} | more

    def log(identity, kind, epoch, op=None, built_on=(), **more):
        row = {"event": "log", "id": identity, "kind": kind, "player": "bob", "epoch": epoch} | more
        return row if op is None else row | {"key": "purse", "value": {"op": op, "from": list(built_on)}}

    def saved(op, built_on, sequence):
        numbers = {"generation": sequence, "epoch": 1, "sequence": sequence}
        yield told("attempted", op=op, **{"from": built_on})
        yield told("accepted", op=op, generation=sequence)
        yield told("journalled", ops=[op], **numbers)
        yield told("saved", ops=[op], version=sequence, **numbers)

    yield from saved(21, [], 1)
    yield from saved(22, [21], 2)
    yield {"event": "restored", "undone": 1}
    yield log(11, "lease", 1, taken_from=None)
    yield log(12, "applied", 1, 21, sequence=1, version=1)
    yield log(13, "applied", 1, 22, [21], sequence=2, version=2)
    yield log(14, "restored", None, version=12)
    yield log(15, "lease", 5, taken_from=None)
    yield log(16, "applied", 5, 22, [21], sequence=1, version=2)
    yield log(17, "applied", 5, 23, [22], sequence=2, version=3)
    yield log(17, "applied", 5, 23, [22], sequence=2, version=3) | {"event": "document"}


def recovered():
    """Bob's server finds its volume full, and then room on it."""
    place = {"server": 1, "incarnation": 1, "player": "bob", "key": "place"}
    yield {"event": "journal_size", "journal": 1, "bytes": 4_096}
    yield {"event": "volume_full", "server": 1, "ms": 500}
    yield place | {"event": "journal_failed", "error": "no room", "ms": 900}
    yield {"event": "volume_room", "server": 1, "ms": 1_000}
    ops = range(31, 31 + ends.ENOUGH_SAVES)
    for op in ops:
        built_on = [op - 1] if op > ops[0] else []
        yield place | {"event": "attempted", "op": op, "from": built_on, "ms": 3_000}
        yield place | {"event": "accepted", "op": op, "generation": op, "ms": 3_000}
    numbers = {"epoch": 5, "sequence": 3}
    yield place | {"event": "journalled", "ops": list(ops), "generation": ops[-1]} | numbers
    row = {"player": "bob", "key": "place", "version": 1, "value": {"op": ops[-1], "from": [ops[-2]]}} | numbers
    yield row | {"event": "log", "id": 18, "kind": "applied"}
    yield row | {"event": "document"}


def self_test():
    def log(events, identity):
        return next(event for event in events if event["event"] == "log" and event["id"] == identity)

    def last(events, name):
        return [event for event in events if event["event"] == name][-1]

    def first(events, name):
        return next(event for event in events if event["event"] == name)

    def attempted(events, op):
        return next(event for event in events if event["event"] == "attempted" and event["op"] == op)

    def applied_again(events, **changes):
        events.append(log(events, 4) | {"id": 9, "version": 3} | changes)

    def as_godot_tells(events):
        """Its signals name no numbers."""
        for event in events:
            if event["event"] in ("journalled", "saved", "conflicted"):
                del event["epoch"], event["sequence"]

    # What is done to the honest history, and the rule that has to notice.
    crimes = [
        (saves.local_acknowledgements_are_covered, lambda events, journal: journal.clear()),
        (saves.local_acknowledgements_are_covered, lambda events, journal: events.remove(log(events, 5))),
        (saves.everything_is_applied_once, lambda events, journal: applied_again(events)),
        (saves.everything_is_applied_once, lambda events, journal: applied_again(events, sequence=7)),
        (
            saves.everything_is_applied_once,
            lambda events, journal: applied_again(events, key="place", value={"op": 8, "from": []}),
        ),
        (saves.versions_epochs_and_sequences_grow, lambda events, journal: log(events, 4).update(version=3)),
        (saves.versions_epochs_and_sequences_grow, lambda events, journal: log(events, 2).update(version=2)),
        (saves.versions_epochs_and_sequences_grow, lambda events, journal: applied_again(events, epoch=1)),
        (saves.versions_epochs_and_sequences_grow, lambda events, journal: applied_again(events, sequence=1)),
        (saves.nothing_fenced_is_applied, lambda events, journal: log(events, 4).update(epoch=1)),
        (saves.nothing_fenced_is_applied, lambda events, journal: log(events, 3).update(epoch=1)),
        (saves.nothing_fenced_is_applied, lambda events, journal: log(events, 5).update(value={"op": 3, "from": [2]})),
        (saves.remote_acknowledgements_are_true, lambda events, journal: events.remove(log(events, 4))),
        (saves.remote_acknowledgements_are_true, lambda events, journal: last(events, "saved").update(version=1)),
        (saves.remote_acknowledgements_are_true, lambda events, journal: last(events, "conflicted").update(sequence=3)),
        (
            saves.remote_acknowledgements_are_true,
            lambda events, journal: (as_godot_tells(events), last(events, "saved").update(version=3)),
        ),
        (
            saves.remote_acknowledgements_are_true,
            lambda events, journal: (as_godot_tells(events), events.remove(log(events, 5))),
        ),
        (saves.a_handover_shows_the_last_save, lambda events, journal: first(events, "loaded").update(documents={})),
        (
            saves.a_handover_shows_the_last_save,
            lambda events, journal: first(events, "loaded").update(documents={"purse": {"op": 1, "version": 1}}),
        ),
        (
            saves.every_application_builds_on_the_one_before,
            lambda events, journal: attempted(events, 3).update({"from": [1]}),
        ),
        (saves.a_number_stands_for_one_save, lambda events, journal: journal[0].update(sequence=1)),
        (saves.a_number_stands_for_one_save, lambda events, journal: journal[0].update(value={"op": 3, "from": [2]})),
        (saves.a_shutdown_leaves_nothing_unsafe, lambda events, journal: last(events, "stopped").update(journalled=0)),
        (saves.a_shutdown_leaves_nothing_unsafe, lambda events, journal: last(events, "terminated").update(code=0)),
        (saves.what_is_reported_delivered_is_delivered, lambda events, journal: last(events, "terminated").update(code=0)),
        (saves.nothing_went_wrong_by_itself, lambda events, journal: events.pop()),
        (saves.nothing_went_wrong_by_itself, lambda events, journal: events.append({"event": "crashed"})),
        (saves.the_documents_are_what_was_applied, lambda events, journal: events.remove(first(events, "document"))),
        (
            saves.a_load_shows_what_was_committed,
            lambda events, journal: last(events, "loaded").update(documents={"purse": {"op": 2, "version": 1}}),
        ),
        (
            saves.a_restart_delivers_before_it_admits,
            lambda events, journal: last(events, "loaded").update(documents={"purse": {"op": 1, "version": 1}}),
        ),
        (saves.a_world_holds_what_was_acknowledged, lambda events, journal: last(events, "chunks")["chunks"].clear()),
        (
            saves.a_world_holds_what_was_acknowledged,
            lambda events, journal: last(events, "chunks").update(chunks={"terrain": 12}),
        ),
        (
            saves.a_conflict_stays_until_it_is_resolved,
            lambda events, journal: events.remove(first(events, "conflict")),
        ),
        (
            saves.a_conflict_stays_until_it_is_resolved,
            lambda events, journal: first(events, "conflict").update(value={"op": 3, "from": [2]}),
        ),
    ]
    def lost_with_the_copy(events):
        """What was announced before is at the backend no more, and nobody sent it again."""
        stored = next(event for event in events if event["event"] == "document" and event["player"] == "bob")
        stored["value"] = log(events, 12)["value"]

    def exit_of(events):
        return last(events, "aftermath")

    def with_the_exit(**changes):
        return lambda events, journal: exit_of(events).update(changes)

    in_its_journal = {"player": "ada", "key": "purse", "epoch": 2, "sequence": 9, "value": {"op": 99, "from": []}}
    crimes += [
        (
            saves.nothing_went_wrong_by_itself,
            lambda events, journal: first(events, "journal_failed").update(ms=99_999),
        ),
        (
            ends.no_lease_outlives_an_orderly_exit,
            with_the_exit(leases=[{"player": "ada", "server_id": "s0"}]),
        ),
        (ends.exit_0_means_nothing_undelivered, with_the_exit(log_position=16)),
        (ends.exit_0_means_nothing_undelivered, with_the_exit(rows=[in_its_journal])),
        (
            ends.exit_0_means_nothing_undelivered,
            lambda events, journal: first(events, "earned").update(op=25),
        ),
        (ends.what_was_announced_saved_is_there, lambda events, journal: lost_with_the_copy(events)),
        (
            ends.what_was_announced_saved_is_there,
            lambda events, journal: [event.update(value={"op": 2}) for event in events if event["event"] == "document"],
        ),
        (ends.no_epoch_is_given_twice, lambda events, journal: log(events, 15).update(epoch=1)),
        (ends.nothing_arrives_at_another_backend, lambda events, journal: log(events, 4).update(backend=1)),
        (ends.nothing_arrives_at_another_backend, lambda events, journal: first(events, "conflict").update(backend=1)),
        (
            ends.a_journal_stays_small,
            lambda events, journal: first(events, "journal_size").update(bytes=2 * ends.JOURNAL_BYTES),
        ),
        (
            ends.a_volume_with_room_takes_saves,
            lambda events, journal: [event.update(ops=[]) for event in events if event["event"] == "journalled"],
        ),
        (
            ends.whoever_can_leave_in_order_does,
            lambda events, journal: first(events, "terminated").update(code=75),
        ),
        (
            ends.whoever_can_leave_in_order_does,
            lambda events, journal: last(events, "terminated").update(code=None),
        ),
    ]
    events, journal = honest()
    assert check.judge(check.Trial(events, journal)) == [], check.judge(check.Trial(events, journal))
    as_godot_tells(events)
    assert check.judge(check.Trial(events, journal)) == [], check.judge(check.Trial(events, journal))
    accused = set()
    for rule, crime in crimes:
        events, journal = honest()
        crime(events, journal)
        assert list(rule(check.Trial(events, journal))), f"{rule.__name__} did not notice a crime"
        accused.add(rule)
    assert accused == set(check.RULES), "a rule was never tried"
    assert len(too_rare(dict.fromkeys(LEAST, 0), 200)) == len(LEAST) > 0
    assert not too_rare(LEAST, 200), "as much as is asked for"
    assert len(too_rare(LEAST, 400)) == len(LEAST), "half of what is asked for"
    assert len(too_rare(LEAST, 200, 10)) == len(LEAST_WITH_GODOT), "nothing of what only the engine shows"
    assert len(too_rare({}, 160, 8)) == len(LEAST) + len(LEAST_WITH_GODOT), "nothing is rounded to nothing"
    without = LEAST | dict.fromkeys(NEEDS_VOLUMES, 0)
    assert len(too_rare(without, 200)) == len(NEEDS_VOLUMES)
    assert not too_rare(without | {"not_run_small_volume": 1}, 200), "a machine that cannot mount"
    read_back()
    print(f"check_history: {len(crimes)} crimes noticed, {len(check.RULES)} rules tried")
    return 0


def read_back():
    """A journal whose process was killed: its saves are in the log beside the file, which nobody has closed."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "journal-0.db"
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE saves (player_id, document_key, epoch, sequence, value)")
        connection.execute("INSERT INTO saves VALUES ('ada', 'purse', 1, 2, '{\"op\": 3}')")
        connection.commit()
        rows = check.read_journal(path)
        assert rows == [{"player": "ada", "key": "purse", "epoch": 1, "sequence": 2, "value": {"op": 3}}], rows
        connection.close()
