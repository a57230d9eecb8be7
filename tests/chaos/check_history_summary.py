"""What happened in trials, by kind, and the one line of a run. Part of check_history.py."""

import collections
import json

# What 200 trials have to show at least: otherwise they show nothing.
LEAST = {
    "sqlite": 60,
    "postgres": 60,
    "processes": 500,
    "sigkill": 25,
    "sigkill_on_ack": 25,
    "sigterm": 20,
    "sigstop_past_lease": 15,
    "backend_sigkill": 6,
    "backend_sigterm": 3,
    "refuse": 4,
    "blackhole": 5,
    "reset": 5,
    "delay": 4,
    "partition_past_lease": 6,
    "messages_lost_reply": 40,
    "messages_duplicated": 25,
    "messages_truncated": 8,
    "acked": 8_000,
    "applied": 5_000,
    "conflicts": 8,
    "takeovers": 15,
    "handovers": 1_500,
    "loads_after_commit": 1_500,
    "loads_after_restart": 500,
    "left_over": 60,
    "chunks_acked": 500,
    "chunks": 150,
    "ending_crash": 10,
    "ending_stop_without_backend": 10,
    "kind_small_saves": 8,
    "kind_small_volume": 8,
    "kind_foreign_backends": 16,
    "kind_restored_backup": 16,
    "restore": 14,
    "undone": 100,
    "kind_late_loads": 8,
    "kind_leaving_under_load": 8,
    "journal_sizes": 1_000,
    "full_volume": 2,
    "recoveries": 1,
    "late_loads": 100,
    "leave_under_load": 6,
    "stop_unlisted": 3,
    "announced": 5_000,
    "exits_with_0": 200,
    "exits_without_leases": 200,
}
# What has to be shown beside that if a machine can mount volumes; if it cannot, the run says so.
NEEDS_VOLUMES = ("full_volume", "recoveries")
# What ten trials with the real engine have to show beside that.
LEAST_WITH_GODOT = {"signals": 3, "closed_pipe": 1, "messages_hung_up": 1}
COVERED_TRIALS = 200


def counts_of(trial):
    """What happened in a trial, by kind."""
    counts = collections.Counter(trial.compared)
    for event in trial.of("plan"):
        counts[event["plan"]["database"]] += 1
        counts[f"ending_{event['plan']['ending']}"] += 1
        counts[f"kind_{event['plan'].get('kind', 'mixed')}"] += 1
    for event in trial.of("fault_over"):
        if event["struck"]:
            counts[event["name"]] += 1
            if event["past_lease"]:
                counts["sigstop_past_lease" if event["name"] == "sigstop" else "partition_past_lease"] += 1
    for event in trial.of("proxy"):
        for name in ("lost_reply", "duplicated", "truncated", "hung_up"):
            counts[f"messages_{name}"] += event["struck"].get(name, 0)
    for event in trial.of("aftermath"):
        counts["late_loads"] += len(event["late_loads"])
    for event in trial.of("not_run"):
        counts[f"not_run_{event['what']}"] += 1
    counts["undone"] = len(trial.undone)
    counts["processes"] = len(trial.of("started"))
    counts["godot"] = sum(1 for event in trial.of("started") if event.get("kind") == "godot")
    counts["acked"] = sum(len(event["ops"]) for event in trial.of("journalled"))
    counts["committed"] = len(trial.of("saved"))
    counts["applied"] = len(trial.applied)
    counts["conflicts"] = len(trial.fenced)
    counts["resolved"] = sum(1 for event in trial.of("resolved") if event["error"] is None)
    counts["chunks_acked"] = len(trial.of("chunk_journalled"))
    counts["leases"] = len(trial.leases)
    counts["takeovers"] = sum(1 for row in trial.leases if row["taken_from"])
    counts["left_over"] = sum(1 for event in trial.of("saved") if "epoch" in event and not event["ops"])
    return +counts


def summarize(path, seed, with_coverage, least_godot):
    """Prints the one line of a run, from its verdicts. Returns the exit code."""
    try:
        with open(path, encoding="utf-8") as lines:
            verdicts = [json.loads(line) for line in lines]
    except FileNotFoundError:
        verdicts = []
    failed = [verdict for verdict in verdicts if verdict["failures"]]
    sums = collections.Counter()
    for verdict in verdicts:
        sums.update(verdict["counts"])
    figures = " ".join(f"{name}={count}" for name, count in sorted(sums.items()))
    largest = max((verdict["largest_journal"] for verdict in verdicts), default=0)
    figures += f" largest_journal={largest}"
    trials = f"trials={len(verdicts)} failed={len(failed)} seed={seed}"
    if failed or not verdicts:
        rules = sorted({failure.split(":")[0] for verdict in failed for failure in verdict["failures"]})
        reason = f"{failed[0]['failures'][0]} in {failed[0]['trial']}" if failed else "no trial was judged"
        print(f"chaos: FAIL {trials} broken={','.join(rules)} {figures}: {reason}")
        return 1
    rare = too_rare(sums, len(verdicts), least_godot) if with_coverage else []
    if sums["godot"] < least_godot:
        rare.append(f"godot {sums['godot']} of {least_godot}")
    if rare:
        print(f"chaos: FAIL {trials} {figures}: exercised too little: {', '.join(rare)}")
        return 1
    print(f"chaos: PASS {trials} {figures}")
    return 0


def too_rare(sums, trials, godot=0):
    """What happened less often than it has to in so many trials, of which so many were with the real engine."""
    # Rounded up: something of each kind has to happen in however few trials.
    least = {name: -(-count * trials // COVERED_TRIALS) for name, count in LEAST.items()}
    least.update({name: -(-count * godot // 10) for name, count in LEAST_WITH_GODOT.items()})
    if sums.get("not_run_small_volume"):
        least.update(dict.fromkeys(NEEDS_VOLUMES, 0))
    return [f"{name} {sums.get(name, 0)} of {count}" for name, count in least.items() if sums.get(name, 0) < count]
