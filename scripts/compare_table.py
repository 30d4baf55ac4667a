"""What scripts/compare found, as a table: medians of the rounds, and how this log stands beside the best of the others."""

import statistics

OURS = "pubg1"
# Who keeps fewer replicas, or acknowledges before others have a record, does other work: not the best of the others.
HIGHER, LOWER = max, min
ROWS = [
    ("records/s, 100 B", "throughput 100", "rate", HIGHER, "{:,.0f}", 2.0),
    ("records/s, 1 KiB", "throughput 1024", "rate", HIGHER, "{:,.0f}", 2.0),
    ("records/s flushed, 100 B", "flushed 100", "rate", HIGHER, "{:,.0f}", 3.0),
    ("records/s flushed, 1 KiB", "flushed 1024", "rate", HIGHER, "{:,.0f}", 3.0),
    ("p50 at 1,000/s, ms", "latency 1000", "p50", LOWER, "{:.2f}", 1.0),
    ("p99 at 1,000/s, ms", "latency 1000", "p99", LOWER, "{:.2f}", 1.0),
    ("p99.9 at 1,000/s, ms", "latency 1000", "p99.9", LOWER, "{:.2f}", None),
    ("p50 at 10,000/s, ms", "latency 10000", "p50", LOWER, "{:.2f}", 1.0),
    ("p99 at 10,000/s, ms", "latency 10000", "p99", LOWER, "{:.2f}", 1.0),
    ("p99.9 at 10,000/s, ms", "latency 10000", "p99.9", LOWER, "{:.2f}", None),
    ("failover, ms without an acknowledgement", "failover", "silence", LOWER, "{:,.0f}", 3.0),
    ("processor s per million records, 100 B", "throughput 100", "cpu_per_million", LOWER, "{:.2f}", None),
    ("processor s per million records, 1 KiB", "throughput 1024", "cpu_per_million", LOWER, "{:.2f}", None),
    ("peak memory of all nodes, 100 B, MiB", "throughput 100", "memory", LOWER, "{:,.0f}", None),
    ("peak memory of all nodes at 1,000/s, MiB", "latency 1000", "memory", LOWER, "{:,.0f}", None),
]
MIB = 1 << 20


def median(results, name, measure, key):
    """Over the rounds; nothing if it was not measured."""
    values = [values[key] for values in results[name].get(measure, [])]
    if not values:
        return None
    return statistics.median(values) / (MIB if key == "memory" else 1)


def tell(command, results, markdown):
    """The table, and what was measured."""
    names = list(results)
    described = {name: description(results[name]) for name in names}
    rows = [row for row in (line(results, names, described, *row) for row in ROWS) if row]
    head = ["", *(title(name, described) for name in names), "PubG1 : best other", "asked"]
    table = [head, *rows]
    parts = [as_markdown(table) if markdown else as_text(table), *notes(names, described, results)]
    parts.append(f"Command: `{command}`" if markdown else command)
    return "\n\n".join(part for part in parts if part)


def description(measured):
    """What the system says of itself in its first report."""
    reports = (values["report"] for all_values in measured.values() for values in all_values)
    return next(reports, {}).get("system", {})


def title(name, described):
    """A system and its version."""
    system = described[name]
    version = system.get("version", "")
    return f"{system.get('name', name)} {version if version[:1].isdigit() else ''}".strip()


def line(results, names, described, text, measure, key, best, form, asked):
    """One row; nothing if nobody was measured."""
    values = {name: median(results, name, measure, key) for name in names}
    if not any(value is not None for value in values.values()):
        return None
    cells = [form.format(value) if value is not None else "–" for value in values.values()]
    others = [value for name, value in values.items()
              if name != OURS and value and described[name].get("replicas", 0) > 1]
    ours = values.get(OURS)
    if not others or not ours:
        return [text, *cells, "–", ""]
    # How many times better: above 1 is better, whichever way the row counts.
    ratio = ours / best(others) if best is HIGHER else best(others) / ours
    demand = "" if asked is None else f"≥ {asked:g}: {'yes' if ratio >= asked else 'NO'}"
    return [text, *cells, f"{ratio:.2f}", demand]


def as_markdown(table):
    """With bars."""
    head, *rows = ("| " + " | ".join(row) + " |" for row in table)
    columns = len(table[0])
    return "\n".join([head, "| --- |" + " ---: |" * (columns - 1), *rows])


def as_text(table):
    """With columns of equal width."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
                     for row in table)


def notes(names, described, results):
    """Who kept what where, with which client."""
    for name in names:
        system = described[name]
        if not system:
            continue
        flushed = description({measure: values for measure, values in results[name].items() if "flushed" in measure})
        yield (f"- **{system['name']} {system['version']}**: {system['replicas']} replicas; {system['durability']}"
               + (f" (flushed rows: {flushed['durability']})" if flushed and flushed != system else "")
               + f". Client: {system['client']}.")
    reports = [values["report"] for measured in results.values() for all_values in measured.values()
               for values in all_values]
    if reports:
        where = reports[0]["environment"]
        yield (f"Machine: {where['processor']}, {where['cores']} cores, {where['memory_bytes'] / (1 << 30):.0f} GiB, "
               f"{where['system']}; load generator {where['version']} ({where['profile']}); "
               f"{reports[0]['started_at'][:10]}.")
