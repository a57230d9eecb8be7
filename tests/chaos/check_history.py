#!/usr/bin/env python3
"""Judges what `cargo xtask chaos` wrote down. Shares no code with the product or with the orchestrator.

    check_history.py [--verdicts FILE] TRIAL     judges one trial's folder, adds its verdict to FILE
    check_history.py --summary FILE --seed S     the one line of a run, from its verdicts; with --coverage it fails, too,
                                                 if faults or outcomes of some kind were too rare, or
                                                 Godot was started fewer times than --least-godot says
    check_history.py --self-test                 does the checker notice what it has to notice?

Exit code 0: nothing wrong; 1: something is; 2: could not judge; 3: the rule named by --wanted is broken.

Every save carries a number of its own, `op`, and the numbers of the saves it was built on, `from`. So the ancestors
of a document are known: a save is *contained* in another one that is built on it, directly or not.

What the backend really did comes from triggers in its database, in the order in which it happened: every application
of a save, every save kept as a conflict, every new epoch of a player. What is left on local disk comes from the
journal files.
"""

import argparse
import json
import pathlib
import shutil
import sqlite3
import sys
import tempfile

# The other files of this program lie beside it, and are not worth a cache.
sys.dont_write_bytecode = True
import check_history_ends as ends  # noqa: E402
import check_history_saves as saves  # noqa: E402
from check_history_summary import counts_of, summarize  # noqa: E402
from check_history_trial import Trial, players_of  # noqa: E402

RULES = [
    saves.local_acknowledgements_are_covered,
    saves.everything_is_applied_once,
    saves.versions_epochs_and_sequences_grow,
    saves.nothing_fenced_is_applied,
    saves.remote_acknowledgements_are_true,
    saves.a_handover_shows_the_last_save,
    saves.every_application_builds_on_the_one_before,
    saves.a_number_stands_for_one_save,
    saves.a_shutdown_leaves_nothing_unsafe,
    saves.what_is_reported_delivered_is_delivered,
    saves.nothing_went_wrong_by_itself,
    saves.the_documents_are_what_was_applied,
    saves.a_load_shows_what_was_committed,
    saves.a_restart_delivers_before_it_admits,
    saves.a_conflict_stays_until_it_is_resolved,
    saves.a_world_holds_what_was_acknowledged,
    ends.no_lease_outlives_an_orderly_exit,
    ends.exit_0_means_nothing_undelivered,
    ends.what_was_announced_saved_is_there,
    ends.no_epoch_is_given_twice,
    ends.nothing_arrives_at_another_backend,
    ends.a_journal_stays_small,
    ends.a_volume_with_room_takes_saves,
    ends.whoever_can_leave_in_order_does,
]


def judge(trial):
    return [f"{rule.__name__}: {failure}" for rule in RULES for failure in rule(trial)]


def read_journal(path):
    """The saves in a journal file. Read from a copy: the original stays as its process left it, log and all."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "journal.db"
        shutil.copy(path, copy)
        log = pathlib.Path(f"{path}-wal")
        if log.exists():
            shutil.copy(log, f"{copy}-wal")
        connection = sqlite3.connect(copy)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "saves" in tables:
                for player, key, epoch, sequence, value in connection.execute(
                    "SELECT player_id, document_key, epoch, sequence, value FROM saves"
                ):
                    rows.append(
                        {"player": player, "key": key, "epoch": epoch, "sequence": sequence, "value": json.loads(value)}
                    )
        finally:
            connection.close()
    return rows


def read_trial(folder):
    with open(folder / "history.jsonl", encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    journals = [event["path"] for event in events if event["event"] == "journal"]
    players = players_of(events)
    for event in events:
        if event["event"] == "aftermath":
            rows = [row for path in event["journals"] for row in read_journal(path)]
            event["rows"] = [row for row in rows if row["player"] in players]
    return Trial(events, [row for path in journals for row in read_journal(path)])


def judge_folder(folder, verdicts, wanted):
    trial = read_trial(folder)
    failures = judge(trial)
    verdict = {"trial": str(folder), "failures": failures, "counts": counts_of(trial)}
    verdict["largest_journal"] = max((event["bytes"] for event in trial.of("journal_size")), default=0)
    if verdicts:
        with open(verdicts, "a", encoding="utf-8") as out:
            out.write(json.dumps(verdict) + "\n")
    for failure in failures[:5]:
        print(f"{folder}: {failure}")
    if len(failures) > 5:
        print(f"{folder}: and {len(failures) - 5} more")
    if wanted and any(failure.startswith(f"{wanted}:") for failure in failures):
        return 3
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", nargs="?", type=pathlib.Path)
    parser.add_argument("--verdicts", type=pathlib.Path)
    parser.add_argument("--wanted")
    parser.add_argument("--summary", type=pathlib.Path)
    parser.add_argument("--seed", default="?")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--least-godot", type=int, default=0)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        from check_history_crimes import self_test

        return self_test()
    if arguments.summary:
        return summarize(arguments.summary, arguments.seed, arguments.coverage, arguments.least_godot)
    if arguments.trial:
        return judge_folder(arguments.trial, arguments.verdicts, arguments.wanted)
    parser.print_usage()
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError, sqlite3.Error) as trouble:
        print(f"check_history: cannot judge: {trouble!r}", file=sys.stderr)
        sys.exit(2)
