"""Judges matches: reads a file of JSON lines, and fails if a match breaks its rule set.

The first line is {"rule_set": TEXT}; each other {"now_ms": …, "match": …, "tickets": […]}. This is written apart from
the matchmaker, from the description in docs/src/matchmaking.md, and shares nothing with it.

    python3.11 check_matches.py FILE…
"""

import json
import re
import statistics
import sys

FUNCTIONS = ("min", "max", "avg", "median", "sum", "count", "stddev", "flatten", "set_intersection")
EPSILON = 1e-6


class Broken(Exception):
    """A match that should not have been formed."""


def read_rule_set(text):
    """JSON with comments and trailing commas."""
    pattern = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.S)
    text = pattern.sub(lambda found: found.group() if found.group().startswith('"') else " ", text)
    pieces = re.split(r'("(?:\\.|[^"\\])*")', text)
    for index in range(0, len(pieces), 2):
        pieces[index] = re.sub(r",(\s*[}\]])", r"\1", pieces[index])
    return json.loads("".join(pieces))


def listed(value):
    return value if isinstance(value, list) else [value]


class Team:
    def __init__(self, name, base, minimum, maximum):
        self.name, self.base, self.minimum, self.maximum = name, base, minimum, maximum
        self.players = []


class Judge:
    """One match, with what its rule set asks of it at its age."""

    def __init__(self, rule_set, line):
        self.now, self.match, self.tickets = line["now_ms"], line["match"], line["tickets"]
        algorithm = rule_set.get("algorithm", {})
        created = [ticket["created_at_ms"] for ticket in self.tickets]
        chosen = min if algorithm.get("expansionAgeSelection") == "oldest" else max
        self.age = (self.now - chosen(created)) / 1000
        self.types = {a["name"]: a["type"] for a in listed(rule_set.get("playerAttributes", []))}
        self.defaults = {a["name"]: a["default"] for a in listed(rule_set.get("playerAttributes", [])) if "default" in a}
        self.rules = {rule["name"]: dict(rule) for rule in listed(rule_set.get("rules", []))}
        self.teams = []
        for team in listed(rule_set["teams"]):
            quantity = int(team.get("quantity", 1))
            for copy in range(1, quantity + 1):
                name = team["name"] if quantity == 1 else f"{team['name']}_{copy}"
                self.teams.append(Team(name, team["name"], int(team["minPlayers"]), int(team["maxPlayers"])))
        for expansion in listed(rule_set.get("expansions", [])):
            kind, name, member = re.fullmatch(r"(\w+)\[(.*)\]\.(\w+)", expansion["target"]).groups()
            for step in listed(expansion["steps"]):
                if float(step["waitTimeSeconds"]) > self.age:
                    continue
                if kind == "rules":
                    self.rules[name][member] = step["value"]
                    continue
                for team in self.teams:
                    if name in (team.name, team.base):
                        field = "minimum" if member == "minPlayers" else "maximum"
                        setattr(team, field, int(step["value"]))

    # Who is where.

    def seat(self):
        by_name = {team.name: team for team in self.teams}
        places = {}
        for placement in self.match["players"]:
            key = (placement["ticket_id"], placement["player_id"])
            if key in places:
                raise Broken(f"player {key} is there twice")
            places[key] = placement["team"]
        wanted = set()
        if sorted(self.match["tickets"]) != sorted(ticket["id"] for ticket in self.tickets):
            raise Broken("the match has other tickets than those that were given")
        for ticket in self.tickets:
            teams = set()
            for index, player in enumerate(ticket["players"]):
                key = (ticket["id"], player["id"])
                wanted.add(key)
                if key not in places:
                    raise Broken(f"player {key} has no team")
                team = places[key]
                if ticket.get("backfill") and team != player["team"]:
                    raise Broken(f"player {key} of a running game changed the team")
                teams.add(team)
                if team not in by_name:
                    raise Broken(f"there is no team {team}")
                by_name[team].players.append((ticket, index))
            if len(teams) != 1 and not ticket.get("backfill"):
                raise Broken(f"party {ticket['id']} is in teams {sorted(teams)}")
        if wanted != set(places):
            raise Broken("players of no ticket")
        backfills = [ticket["id"] for ticket in self.tickets if ticket.get("backfill")]
        if len(backfills) > 1 or len(backfills) == len(self.tickets):
            raise Broken(f"{len(backfills)} running games among {len(self.tickets)} tickets")
        if backfills != ([self.match["backfill"]] if self.match["backfill"] else []):
            raise Broken("backfill is not the ticket of the running game")
        for team in self.teams:
            if not team.minimum <= len(team.players) <= team.maximum:
                raise Broken(f"{team.name} has {len(team.players)} players of {team.minimum}..{team.maximum}")

    # Values.

    def own(self, player, name):
        """The value of a player: a number, a text, or a set."""
        tagged = player.get("attributes", {}).get(name)
        value = self.defaults[name] if tagged is None else next(iter(tagged.values()))
        kind = self.types[name]
        if kind == "number":
            return float(value)
        return frozenset(listed(value)) if kind == "string_list" else value

    def party(self, ticket, name, how):
        """The value of a party."""
        values = [self.own(player, name) for player in ticket["players"]]
        if self.types[name] == "number":
            return {"min": min, "max": max}.get(how, statistics.fmean)(values)
        if self.types[name] == "string_list":
            return frozenset.intersection(*values) if how == "intersection" else frozenset.union(*values)
        return values

    def read(self, ticket, index, name, how):
        if ticket.get("backfill") or self.types[name] == "string":
            return self.own(ticket["players"][index], name)
        return self.party(ticket, name, how)

    def evaluate(self, text, how, once=False):
        text = text.strip()
        call = re.fullmatch(r"(\w+)\s*\((.*)\)", text, re.S)
        if call:
            return apply(call.group(1), self.evaluate(call.group(2), how, once))
        path = re.fullmatch(r"teams?\s*\[([^\]]*)\]\s*\.\s*players(.*)", text, re.S)
        names, rest = [name.strip() for name in path.group(1).split(",")], path.group(2).strip()
        if names == ["*"]:
            teams, nested = self.teams, True
        else:
            teams = [team for name in names for team in self.teams if name == team.name]
            if len(teams) < len(names):
                teams = [team for name in names for team in self.teams if name in (team.name, team.base)]
            nested = len(teams) > 1
        lists = []
        for team in teams:
            if rest == "":
                lists.append([0.0 for _player in team.players])
            elif "playerId" in rest:
                lists.append([ticket["players"][index]["id"] for ticket, index in team.players])
            else:
                name = re.search(r"attributes\s*\[([^\]]*)\]", rest).group(1).strip()
                numeric = self.types[name] == "number"
                lists.append([
                    self.read(ticket, index, name, how)
                    for ticket, index in team.players
                    if not (once and numeric and index > 0 and not ticket.get("backfill"))
                ])
        return lists if nested else lists[0]

    def reference(self, rule, how):
        value = rule.get("referenceValue")
        if isinstance(value, str) and re.match(r"\s*(teams?\s*\[|(" + "|".join(FUNCTIONS) + r")\s*\()", value):
            return self.evaluate(value, how)
        return value

    # Rules.

    def holds(self, name):
        rule = self.rules[name]
        how = rule.get("partyAggregation", "union" if rule["type"] == "collection" else "avg")
        return getattr(self, "rule_" + rule["type"])(rule, how)

    def rule_batchDistance(self, rule, how):
        name = rule["batchAttribute"]
        if self.types[name] == "number":
            values = [self.party(ticket, name, how) for ticket in self.tickets]
            return max(values) - min(values) <= float(rule["maxDistance"]) + EPSILON
        return len({self.own(player, name) for ticket in self.tickets for player in ticket["players"]}) == 1

    def rule_comparison(self, rule, how):
        operation = rule["operation"]
        if rule.get("referenceValue") is None:
            values = [v for m in listed(rule["measurements"]) for v in leaves(self.evaluate(m, how, once=True))]
            different = len(set(values))
            return different <= 1 if operation == "=" else different == len(values)
        reference = self.reference(rule, how)
        values = [v for m in listed(rule["measurements"]) for v in leaves(self.evaluate(m, how))]
        if reference is None:
            return True
        for value in values:
            if isinstance(value, float):
                reference = float(reference)
            margin = EPSILON if isinstance(value, float) else None
            holds = {
                "=": lambda: value == reference if margin is None else abs(value - reference) <= margin,
                "!=": lambda: value != reference,
                "<": lambda: value < reference + margin,
                "<=": lambda: value <= reference + margin,
                ">": lambda: value > reference - margin,
                ">=": lambda: value >= reference - margin,
            }[operation]()
            if not holds:
                return False
        return True

    def rule_distance(self, rule, how):
        reference = self.reference(rule, how)
        if reference is None:
            return True
        least = float(rule.get("minDistance", "-inf"))
        most = float(rule.get("maxDistance", "inf"))
        values = [v for m in listed(rule["measurements"]) for v in leaves(self.evaluate(m, how))]
        return all(least - EPSILON <= abs(value - float(reference)) <= most + EPSILON for value in values)

    def rule_collection(self, rule, how):
        least, most = float(rule.get("minCount", "-inf")), float(rule.get("maxCount", "inf"))
        values = [self.evaluate(m, how) for m in listed(rule["measurements"])]
        operation = rule["operation"]
        if operation == "intersection":
            sets = [s for value in values for s in collections(value)]
            return not sets or least <= len(frozenset.intersection(*sets)) <= most
        reference = self.reference(rule, how)
        if operation == "contains":
            counts = [
                value.count(reference)
                if value and isinstance(value[0], str)
                else sum(reference in one for one in collections(value))
                for value in values
            ]
        else:
            wanted = set(leaves(reference)) if not isinstance(reference, str) else {reference}
            counts = [len(one & wanted) for value in values for one in collections(value)]
        return all(least <= count <= most for count in counts)

    def rule_latency(self, rule, how):
        return bool(self.near_regions(rule, how))

    def near_regions(self, rule, how):
        merge = {"min": min, "max": max}.get(how, statistics.fmean)
        known = [
            {
                region: merge([player["latency_ms"][region] for player in ticket["players"]])
                for region in ticket["players"][0].get("latency_ms", {})
                if all(region in player.get("latency_ms", {}) for player in ticket["players"])
            }
            for ticket in self.tickets
        ]
        near = set()
        for region in set.intersection(*(set(one) for one in known)):
            values = [one[region] for one in known]
            if max(values) > float(rule.get("maxLatency", "inf")) + EPSILON:
                continue
            if "maxDistance" in rule:
                middle = min(values) if rule["distanceReference"] == "min" else statistics.fmean(values)
                if max(abs(value - middle) for value in values) > float(rule["maxDistance"]) + EPSILON:
                    continue
            near.add(region)
        return near

    def rule_absoluteSort(self, rule, how):
        return True

    rule_distanceSort = rule_absoluteSort

    def rule_compound(self, rule, how):
        return self.statement(rule["statement"])

    def statement(self, text):
        text = text.strip()
        call = re.fullmatch(r"(and|or|not|xor)\s*\((.*)\)", text, re.S)
        if not call:
            return self.holds(text)
        parts, depth, start, inner = [], 0, 0, call.group(2)
        for place, letter in enumerate(inner):
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if letter == "," and depth == 0:
                parts.append(inner[start:place])
                start = place + 1
        parts.append(inner[start:])
        results = [self.statement(part) for part in parts]
        return {"and": all, "or": any, "not": lambda r: not r[0], "xor": lambda r: r[0] != r[1]}[call.group(1)](results)

    def check(self):
        self.seat()
        inside = set()
        for rule in self.rules.values():
            if rule["type"] == "compound":
                inside.update(re.findall(r"[^(),\s][^(),]*[^(),\s]|[^(),\s]", rule["statement"]))
        alone = [name for name in self.rules if name not in inside]
        for name in alone:
            if not self.holds(name):
                raise Broken(f"rule {name} does not hold at an age of {self.age} s")
        latency = [self.rules[name] for name in alone if self.rules[name]["type"] == "latency"]
        if latency:
            near = set.intersection(*(self.near_regions(r, r.get("partyAggregation", "avg")) for r in latency))
            if set(self.match["regions"]) != near:
                raise Broken(f"regions {self.match['regions']}, and near are {sorted(near)}")


def leaves(value):
    """All single values of nested lists."""
    if value is None:
        return []
    if isinstance(value, (list, set, frozenset)):
        return [leaf for one in value for leaf in leaves(one)]
    return [value]


def collections(value):
    """All innermost lists, as sets."""
    if isinstance(value, frozenset):
        return [value]
    if not any(isinstance(one, (list, frozenset)) for one in value):
        # A list of values; an empty list of lists has none.
        return [frozenset(value)] if value else []
    return [found for one in value for found in collections(one)]


def apply(function, value):
    if function == "flatten":
        return [inner for one in value for inner in one]
    nested = any(isinstance(one, list) for one in value)
    if function == "set_intersection":
        if any(isinstance(inner, frozenset) for one in value if isinstance(one, list) for inner in one):
            return [apply(function, one) for one in value]
        return frozenset.intersection(*(frozenset(one) for one in value)) if value else frozenset()
    if nested:
        results = [apply(function, one) for one in value]
        return [result for result in results if result is not None]
    if function == "count":
        if value and isinstance(value[0], frozenset):
            return [float(len(one)) for one in value]
        return float(len(value))
    if not value:
        return None
    return float({
        "min": min,
        "max": max,
        "avg": statistics.fmean,
        "median": statistics.median,
        "sum": sum,
        "stddev": statistics.pstdev,
    }[function](value))


def check_file(path):
    with open(path, encoding="utf-8") as lines:
        rule_set = read_rule_set(json.loads(next(lines))["rule_set"])
        matched, count = set(), 0
        for number, line in enumerate(lines, 2):
            line = json.loads(line)
            try:
                for ticket in line["match"]["tickets"]:
                    if ticket in matched:
                        raise Broken(f"ticket {ticket} has a match already")
                    matched.add(ticket)
                Judge(rule_set, line).check()
            except Broken as broken:
                raise SystemExit(f"{path}:{number}: {broken}") from None
            count += 1
    return count


if __name__ == "__main__":
    print(sum(check_file(path) for path in sys.argv[1:]), "matches are as their rule sets want them")
