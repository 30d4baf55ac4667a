"""What `scripts/streams-vs-duckdb` and `scripts/nexmark-vs-duckdb` share: a window query that is told to us in our SQL
and to DuckDB in its own, the run of both, and the comparison of their rows.

What is late is computed in SQL from the rule in docs/STREAMS.md: in each partition the watermark before a record is the
greatest time of the records before it, less max_out_of_order. Nothing of ours takes part in the expectation.
"""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ZONE = "America/New_York"


@dataclasses.dataclass
class Aggregate:
    """What a query computes: its name, in our SQL, in DuckDB's (over (t, p, off) a record is unique), and how a value
    of ours is held to one of theirs where they need not be equal."""

    name: str
    ours: str
    theirs: str
    close: Callable | None = None


@dataclasses.dataclass
class Data:
    """A table of DuckDB's, called as the topic is: its column for each time that a query may go by, and the field that
    gives the records their own time."""

    table: str
    times: dict
    timestamp_field: str


class Query:
    """One configuration: a window over the data, and how they are dealt out. The first aggregate counts all."""

    def __init__(self, name, window, data, aggregates, *, group=(), disorder=0, lateness=0, partitions=1, key=None,
                 where=None, having=None, top=None, time=None):
        self.name, self.window, self.data, self.group = name, window, data, group
        self.aggregates = [aggregate for aggregate in aggregates if not aggregate.close]
        self.estimates = [aggregate for aggregate in aggregates if aggregate.close]
        self.disorder, self.lateness, self.partitions, self.key = disorder, lateness, partitions, key
        self.where, self.having, self.top, self.time = where, having, top, time or next(iter(data.times))

    def columns(self):
        """The names of a row's columns; those that need not be equal come last."""
        values = [aggregate.name for aggregate in (*self.aggregates, *self.estimates)]
        return [*self.group, "window_start", "window_end", *values]

    def exact_columns(self):
        """How many columns have to be equal."""
        return len(self.group) + 2 + len(self.aggregates)

    def ours(self):
        """The query as our SQL says it."""
        kind, *lengths = self.window
        interval = [f"INTERVAL '{length}ms'" for length in lengths if isinstance(length, int)]
        function = {"tumbling": "TUMBLE", "hopping": "HOP", "session": "SESSION", "day": "TUMBLE"}[kind]
        if kind == "day":
            interval = ["INTERVAL '1' DAY", f"timezone => '{ZONE}'"]
        if kind == "hopping":
            interval.reverse()
        # `record_key` is no column of the record; it is the key under which it was sent.
        columns = [*self.group, "window_start", "window_end"]
        options = f"max_out_of_order='{self.disorder}ms', allowed_lateness='{self.lateness}ms'"
        text = f"CREATE MATERIALIZED VIEW compared WITH ({options}) AS\nSELECT " + ", ".join(
            columns + [f"{aggregate.ours} AS {aggregate.name}" for aggregate in (*self.aggregates, *self.estimates)])
        text += f"\nFROM {function}({', '.join([self.data.table, self.time, *interval])})"
        if self.where:
            text += f"\nWHERE {self.where}"
        text += f"\nGROUP BY {', '.join(columns)}"
        if self.having:
            text += f"\nHAVING {self.having}"
        if self.top:
            text += f"\nORDER BY {self.top[0]} DESC LIMIT {self.top[1]} PER WINDOW"
        return text

    def condition(self):
        """WHERE, as DuckDB says it."""
        return (self.where or "true").replace("record_key", str(self.key))

    def theirs(self, name):
        """A column of ours as the table calls it."""
        return f"{self.key}::varchar" if name == "record_key" else name

    def judged(self):
        """Every record with its partition and with the watermark that it is judged by."""
        partition = "0" if self.partitions == 1 else f"p_{self.key}_{self.partitions}"
        time = self.data.times[self.time]
        return f"""
            select * exclude ({', '.join({*self.data.times.values()})}), {time} as t, {partition} as p,
                   max({time}) over (partition by {partition} order by off
                                     rows between unbounded preceding and 1 preceding) - {self.disorder} as w
            from {self.data.table}"""

    def places(self):
        """(record, window) pairs of what the query reads, with `late` for each: start, end and their record."""
        kind, *lengths = self.window
        kept = f"where {self.condition()}" if self.where else ""
        if kind == "session":
            return f"""
                select *, t as window_start, t as window_end, coalesce(t + {self.lateness} < w, false) as late
                from (select * from ({self.judged()}) {kept})"""
        if kind == "day":
            local = f"date_trunc('day', timezone('{ZONE}', make_timestamp(t * 1000)::timestamp at time zone 'UTC'))"
            starts = f"[epoch_ms(timezone('{ZONE}', {local}))]"
            end = f"epoch_ms(timezone('{ZONE}', timezone('{ZONE}', to_timestamp(window_start / 1000)) + interval 1 day))"
        else:
            size, hop = lengths[0], lengths[-1]
            starts = f"range({hop} * (t // {hop}), t - {size}, -{hop})"
            end = f"window_start + {size}"
        return f"""
            select *, {end} as window_end, coalesce({end} + {self.lateness} <= w, false) as late
            from (select *, unnest({starts}) as window_start from (select * from ({self.judged()}) {kept}))
        """

    def expected(self, database):
        """The rows, by DuckDB."""
        group = [self.theirs(name) for name in self.group]
        accepted = f"select * from ({self.places()}) where not late"
        if self.window[0] == "session":
            by = f"partition by {', '.join(group)}" if group else ""
            accepted = f"""
                select *, min(t) over (mine) as window_start, max(t) over (mine) as window_end from (
                    select * exclude (window_start, window_end),
                           sum(begins) over ({by} order by t, p, off rows unbounded preceding) as session
                    from (select *, coalesce(t - lag(t) over ({by} order by t, p, off) > {self.window[1]}, true)::int
                          as begins from ({accepted})))
                window mine as (partition by {', '.join([*group, 'session'])})"""
        columns = ", ".join([*self.group, "window_start", "window_end"])
        named = [f"{theirs} as {name}" for theirs, name in zip(group, self.group)]
        named = ", ".join([*named, "window_start", "window_end"])
        values = ", ".join(f'{aggregate.theirs} as "{aggregate.name}"'
                           for aggregate in (*self.aggregates, *self.estimates))
        rows = f"select {named}, {values} from ({accepted}) group by {columns}"
        if self.having:
            rows += f" having {self.having}"
        if self.top:
            order = f"order by {self.top[0]} desc, {', '.join(self.group)}"
            rows = f"""select * from ({rows})
                       qualify row_number() over (partition by window_start, window_end {order}) <= {self.top[1]}"""
        return [tuple(map(hashable, row)) for row in database.execute(rows).fetchall()]

    def tally(self, database):
        """Records by what became of them, and late pairs."""
        read, filtered = database.execute(
            f"select count(*), count(*) filter (where not coalesce({self.condition()}, false)) from {self.data.table}"
        ).fetchone()
        accepted, late, pairs = database.execute(f"""
            select count(*) filter (where not lost), count(*) filter (where lost), coalesce(sum(pairs), 0)::bigint
            from (select off, bool_and(late) as lost, count(*) filter (where late) as pairs
                  from ({self.places()}) group by off)""").fetchone()
        return {"read": read, "accepted": accepted, "filtered": filtered, "late": late, "late_pairs": pairs}


def quantile_close(value, theirs):
    """Theirs is how many values there were, the exact quantile, and the value at its rank. Ours is between two known
    values up to 64 of them, to the last digits, which DuckDB rounds in another way; of more values it is within 1 % of
    the one at that rank."""
    count, exact, at_rank = theirs
    if count <= 64:
        return value == exact or (None not in (value, exact) and math.isclose(value, exact, rel_tol=1e-12))
    return value is not None and abs(value - at_rank) <= 0.01 * abs(at_rank) + 1e-9


# Where estimates of distinct values begin, and how far off one may be: three times the standard error of HyperLogLog
# with 4,096 registers, which is 1.04 / sqrt(4096).
DISTINCT_EXACT = 1_024
DISTINCT_ERROR = 3 * 1.04 / math.sqrt(4_096)


def distinct_close(value, exact):
    """Equal up to 1,024 distinct values, and an estimate above."""
    return value == exact if exact <= DISTINCT_EXACT else abs(value - exact) <= DISTINCT_ERROR * exact


def hashable(value):
    """Lists as tuples."""
    return tuple(value) if isinstance(value, list) else value


def murmur2(data):
    """Kafka's hash of a key."""
    mask, m = 0xFFFF_FFFF, 0x5BD1_E995
    h = 0x9747_B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at:at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if data[whole:]:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key, position, partitions):
    """Where `stream run` puts a record: by its key, and in turn when it has none."""
    if key is None:
        return position % partitions
    return (murmur2(key.encode()) & 0x7FFF_FFFF) % partitions


def run(binary, query, lines):
    """Our rows and our counts."""
    command = [binary, "stream", "run", "--output", "json", "--input", str(lines), "--sql", query.ours(),
               "--timestamp-field", query.data.timestamp_field, "--partitions", str(query.partitions)]
    if query.key:
        command += ["--key-field", query.key]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr}")
    columns, total = query.columns(), query.aggregates[0].name
    rows = []
    for line in done.stdout.splitlines():
        row = json.loads(line)
        if row["records"] != row[total] or not row["final"] or row["rev"] != 0:
            sys.exit(f"not a first and final row of all its records: {line}")
        rows.append(tuple(hashable(row[column]) for column in columns))
    return rows, json.loads(done.stderr.splitlines()[-1])


def ordered(rows):
    """Rows in one order, whatever is null in them."""
    return sorted(rows, key=lambda row: [(value is not None, str(type(value)), value) for value in row])


def wrong_order(query, ours):
    """Windows come out by their end, then by their start; within one, rows by their group."""
    if "record_key IS NOT NULL" in (query.where or "") and not query.top:
        return []  # Every partition has an order of its own.
    groups = len(query.group)
    places = [(row[groups + 1], row[groups], [(value is not None, value) for value in row[:groups]]) for row in ours]
    if query.top:
        places = [place[:2] for place in places]
    return [] if places == sorted(places) else ["rows do not come out in the order of their windows"]


def wrong_estimates(query, ours, theirs):
    """The columns that need not be equal, by their own rule."""
    key, first = len(query.group) + 2, query.exact_columns()
    found = {row[:key]: row[first:] for row in ours}
    problems = []
    for row in theirs:
        mine = found.get(row[:key])
        if mine is None:
            continue  # A missing row is told by the comparison of the others.
        for aggregate, value, expected in zip(query.estimates, mine, row[first:]):
            if not aggregate.close(value, expected):
                problems.append(f"{aggregate.name} of {row[:key]}: {value} beside {expected}")
    return problems[:3]


def compare(binary, database, query, lines):
    """One configuration: what differs, as text, or nothing; our rows and DuckDB's; and what was counted."""
    ours, stats = run(binary, query, lines)
    theirs = query.expected(database)
    tally = query.tally(database)
    problems = []
    different = {name: (stats[name], count) for name, count in tally.items() if stats[name] != count}
    if different:
        problems.append(f"counts (ours, DuckDB's): {different}")
    kinds = [name for name in ("future", "malformed", "no_time", "late_merges") if stats[name] != 0]
    if kinds:
        problems.append(f"not expected at all: {kinds}")
    if stats["read"] != sum(stats[name] for name in ("accepted", "filtered", "late")):
        problems.append(f"the counts do not add up: {stats}")
    problems += wrong_order(query, ours)
    problems += wrong_estimates(query, ours, theirs)
    exact = query.exact_columns()
    expected, found = (ordered(row[:exact] for row in rows) for rows in (theirs, ours))
    if expected != found:
        missing, surplus = set(expected) - set(found), set(found) - set(expected)
        problems.append(f"{len(found)} rows beside {len(expected)}; {len(missing)} missing, {len(surplus)} surplus")
        problems += [f"  missing {row}" for row in ordered(missing)[:3]]
        problems += [f"  surplus {row}" for row in ordered(surplus)[:3]]
    return problems, ours, theirs, tally


def compare_all(binary, database, queries, lines, look=lambda query, ours, theirs: None):
    """All of them, a line each and then what `look` says of the rows; answers whether all are equal."""
    print(f"{'query':58} {'parts':>5} {'rows':>7} {'late pairs':>10} {'late':>6}  equal")
    failed = 0
    for query in queries:
        problems, ours, theirs, tally = compare(binary, database, query, lines)
        verdict = "no" if problems else "yes"
        print(f"{query.name:58} {query.partitions:5} {len(theirs):7,} {tally['late_pairs']:10,} {tally['late']:6,}  "
              f"{verdict}", flush=True)
        for problem in problems:
            print(f"    {problem}")
        look(query, ours, theirs)
        failed += bool(problems)
    print(f"\n{len(queries) - failed} passed, {failed} failed")
    return failed == 0 and bool(queries)
