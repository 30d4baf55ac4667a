"""What scripts/compare found, as a table: medians of the rounds, and this log beside the best of the others.

A round in which records failed, or which fell behind the rate that was asked for, is told in its cell, and the cell is
then neither the best of the others nor a demand that is met. In a failover records are given up: that is told, too,
but the time without an acknowledgement is what the row is about, so it counts.
"""

import statistics
from dataclasses import dataclass

OURS = "pubg1"
# Of the rate that was asked for; what stays below it has measured another load.
KEPT_UP = 0.99
# Records are given up there because the leader was killed.
FAILURES_BELONG = {"failover"}
HIGHER, LOWER = max, min
MIB = 1 << 20
NONE = "–"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    text: str
    measure: str
    key: str
    better: object
    form: str
    # How many times better than the best of the others it is to be.
    demand: float | None = None
    unit: float = 1


def _rows():
    whole, hundredths = "{:,.0f}", "{:.2f}"
    yield Row("records/s, 100 B", "throughput 100", "rate", HIGHER, whole, 2)
    yield Row("records/s, 1 KiB", "throughput 1024", "rate", HIGHER, whole, 2)
    yield Row("records/s flushed, 100 B", "flushed 100", "rate", HIGHER, whole, 3)
    yield Row("records/s flushed, 1 KiB", "flushed 1024", "rate", HIGHER, whole, 3)
    for rate in ("1,000", "10,000"):
        for quantile, demand in (("p50", 1), ("p99", 1), ("p99.9", None)):
            measure = f"latency {rate.replace(',', '')}"
            yield Row(f"{quantile} at {rate}/s, ms", measure, quantile, LOWER, hundredths, demand)
    yield Row("failover, ms without an acknowledgement", "failover", "silence", LOWER, whole, 3)
    yield Row("processor s per million records, 100 B", "throughput 100", "cpu_per_million", LOWER, hundredths)
    yield Row("processor s per million records, 1 KiB", "throughput 1024", "cpu_per_million", LOWER, hundredths)
    for measure, load in (("throughput 100", "100 B"), ("latency 1000", "at 1,000/s")):
        yield Row(f"peak anonymous memory, {load}, MiB", measure, "anonymous", LOWER, whole, unit=MIB)
        yield Row(f"peak resident memory (with mapped files), {load}, MiB", measure, "resident", LOWER, whole, unit=MIB)


ROWS = tuple(_rows())


@dataclass(frozen=True)
class Cell:
    """What the rounds of one system say."""

    median: float
    lowest: float
    highest: float
    # Over all rounds.
    failed: int
    # The lowest rate of a round that did not keep up.
    behind: float | None
    # Why it is no measurement at all.
    spoilt: str | None
    failures_belong: bool

    @classmethod
    def of(cls, rounds, row):
        """Nothing if it was not measured."""
        values = [found[row.key] / row.unit for found in rounds if found.get(row.key) is not None]
        if not values:
            return None
        totals = [found["report"]["totals"] for found in rounds]
        belong = row.measure in FAILURES_BELONG
        behind = [total["rate"] for total in totals
                  if total["asked_rate"] and total["rate"] < KEPT_UP * total["asked_rate"] and not belong]
        spoilt = next((found["spoilt"] for found in rounds if found.get("spoilt")), None)
        return cls(statistics.median(values), min(values), max(values), sum(total["failed"] for total in totals),
                   min(behind, default=None), spoilt, belong)

    @property
    def counts(self):
        """Whether it is what was asked for."""
        return not self.spoilt and self.behind is None and (not self.failed or self.failures_belong)

    def text(self, form):
        """The median, or why there is none."""
        if self.spoilt:
            return f"{NONE} ({self.spoilt})"
        if self.behind is not None:
            return f"{NONE} (only {self.behind:,.0f}/s)"
        return form.format(self.median) + (f" ({self.failed:,} failed)" if self.failed else "")

    def range(self, form):
        """The lowest and the highest of the rounds."""
        return NONE if self.spoilt else f"{form.format(self.lowest)} to {form.format(self.highest)}"


@dataclass(frozen=True)
class Ratio:
    """How many times better: above 1 is better, whichever way the row counts."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ours, others, better):
        """Nothing if one side has nothing that counts."""
        others = [cell for cell in others if cell.counts and cell.median]
        if not ours or not ours.counts or not others or not ours.lowest:
            return None

        def times(mine, of_theirs):
            theirs = better(of_theirs(cell) for cell in others)
            return mine / theirs if better is HIGHER else theirs / mine

        def lowest(cell):
            return cell.lowest

        def highest(cell):
            return cell.highest

        worst, best = (lowest, highest) if better is HIGHER else (highest, lowest)
        return cls(times(ours.median, lambda cell: cell.median), times(worst(ours), best), times(best(ours), worst))

    def within_noise(self, demand):
        """Whether the rounds do not agree on which side of the demand it is; one round alone says nothing of that."""
        return self.lowest < demand <= self.highest


@dataclass(frozen=True)
class Line:
    """A row with what was found."""

    row: Row
    cells: dict
    ratio: Ratio | None

    @property
    def demand(self):
        """Whether the demand is met; of a row without one, whether better and worse can be told apart."""
        noise = self.ratio and self.ratio.within_noise(self.row.demand or 1)
        if self.row.demand is None:
            return "(within noise of 1)" if noise else ""
        asked = f"≥ {self.row.demand:g}: "
        if self.ratio:
            return asked + ("yes" if self.met else "NO") + (" (within noise)" if noise else "")
        ours = self.cells.get(OURS)
        return asked + "NO (not measured as asked)" if ours and not ours.counts else ""

    @property
    def met(self):
        """Whether the demand is met, if there is one and it can be told."""
        return self.ratio.median >= self.row.demand if self.ratio and self.row.demand else None

    def document(self):
        """For whoever reads it with a program."""
        cells = {name: {"median": cell.median, "lowest": cell.lowest, "highest": cell.highest, "failed": cell.failed,
                        "behind": cell.behind, "spoilt": cell.spoilt, "counts": cell.counts}
                 for name, cell in self.cells.items() if cell}
        ratio = self.ratio and {"median": self.ratio.median, "lowest": self.ratio.lowest,
                                "highest": self.ratio.highest,
                                "within_noise": self.ratio.within_noise(self.row.demand or 1)}
        return {"row": self.row.text, "systems": cells, "ratio": ratio, "demand": self.row.demand, "met": self.met}


def lines(results):
    """All rows of which anybody was measured."""
    described = {name: description(measured) for name, measured in results.items()}
    for row in ROWS:
        cells = {name: Cell.of(measured.get(row.measure, []), row) for name, measured in results.items()}
        if not any(cells.values()):
            continue
        # Who keeps no replicas does other work.
        others = [cell for name, cell in cells.items()
                  if name != OURS and cell and described[name].get("replicas", 0) > 1]
        yield Line(row, cells, Ratio.of(cells.get(OURS), others, row.better))


def tell(command, results, file_system, failover, markdown):
    """The table, the ranges behind it, and what was measured. `failover` says how each takes over."""
    described = {name: description(measured) for name, measured in results.items()}
    found = list(lines(results))
    if not found:
        return "Nothing was measured; what was checked is as it should be."
    draw = as_markdown if markdown else as_text
    titles = [title(name, system) for name, system in described.items()]
    parts = [f"Data directories: {file_system}",
             draw([["", *titles, "PubG1 : best other", "asked"], *map(medians, found)])]
    rounds = max((len(all_values) for measured in results.values() for all_values in measured.values()), default=0)
    if rounds > 1:
        parts += [f"Lowest to highest of {rounds} rounds; of the ratio, the worst to the best for PubG1:",
                  draw([["", *titles, "PubG1 : best other"], *map(ranges, found)])]
    elif rounds:
        parts.append("One round: nothing is known of its noise.")
    parts += notes(described, results, failover)
    parts.append(f"Command: `{command}`" if markdown else command)
    return "\n\n".join(part for part in parts if part)


def medians(line):
    """The line of the table."""
    cells = (cell.text(line.row.form) if cell else NONE for cell in line.cells.values())
    return [line.row.text, *cells, f"{line.ratio.median:.2f}" if line.ratio else NONE, line.demand]


def ranges(line):
    """The line of the table of ranges."""
    cells = (cell.range(line.row.form) if cell else NONE for cell in line.cells.values())
    ratio = f"{line.ratio.lowest:.2f} to {line.ratio.highest:.2f}" if line.ratio else NONE
    return [line.row.text, *cells, ratio]


def description(measured):
    """What the system says of itself in its first report."""
    first = next((values for all_values in measured.values() for values in all_values), None)
    return first["report"]["system"] if first else {}


def title(name, system):
    """A system and its version."""
    version = system.get("version", "")
    return f"{system.get('name', name)} {version if version[:1].isdigit() else ''}".strip()


def as_markdown(table):
    """With bars."""
    head, *rows = ("| " + " | ".join(row) + " |" for row in table)
    columns = len(table[0])
    return "\n".join([head, "| --- |" + " ---: |" * (columns - 1), *rows])


def as_text(table):
    """With columns of equal width."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    padded = ([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
              for row in table)
    return "\n".join(map("  ".join, padded))


def notes(described, results, failover):
    """Who kept what where, with which client, and how it takes over."""
    for name, system in described.items():
        if not system:
            continue
        flushed = description({measure: values for measure, values in results[name].items() if "flushed" in measure})
        yield (f"- **{system['name']} {system['version']}**: {system['replicas']} replicas; {system['durability']}"
               + (f" (flushed rows: {flushed['durability']})" if flushed and flushed != system else "")
               + f". Client: {system['client']}."
               + (f" Failover: {failover[name]}" if "failover" in results[name] else ""))
    reports = [values["report"] for measured in results.values() for all_values in measured.values()
               for values in all_values]
    if any("failover" in measured for measured in results.values()):
        yield failover["all"]
    if reports:
        where = reports[0]["environment"]
        yield (f"Machine: {where['processor']}, {where['cores']} cores, {where['memory_bytes'] / (1 << 30):.0f} GiB, "
               f"{where['system']}; load generator {where['version']} ({where['profile']}); "
               f"{reports[0]['started_at'][:10]}.")
