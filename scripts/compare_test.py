"""What scripts/compare makes of its measurements: which cells count, what a ratio says, when noise hides it."""

import unittest

from compare_table import Cell, Line, Ratio, ROWS, lines, tell
from file_system import FileSystem

RATE = next(row for row in ROWS if row.text == "records/s, 100 B")
P50 = next(row for row in ROWS if row.text == "p50 at 1,000/s, ms")
P999 = next(row for row in ROWS if row.text == "p99.9 at 1,000/s, ms")
SILENCE = next(row for row in ROWS if row.measure == "failover")
MEMORY = next(row for row in ROWS if row.text == "peak anonymous memory, 100 B, MiB")


def a_round(row, value, *, failed=0, asked=None, rate=1.0, replicas=3, **more):
    """What a run leaves behind, as far as the table reads it."""
    return {row.key: value, **more, "report": {
        "totals": {"failed": failed, "asked_rate": asked, "rate": rate},
        "system": {"name": "System", "version": "1", "replicas": replicas, "durability": "on disk", "client": "own"},
        "environment": {"processor": "p", "cores": 2, "memory_bytes": 1 << 30, "system": "linux", "version": "0",
                        "profile": "release"},
        "started_at": "2026-01-01T00:00:00Z"}}


def line(row, **rounds):
    """A row of systems with so many rounds each."""
    found = {name: {row.measure: of_it} for name, of_it in rounds.items()}
    return next(it for it in lines(found) if it.row is row)


def plain(row, *values):
    """Rounds without anything to remark."""
    return [a_round(row, value) for value in values]


class Cells(unittest.TestCase):
    """What stands in a cell."""

    def test_the_median_of_the_rounds(self):
        self.assertEqual(Cell.of(plain(RATE, 3_000, 1_000, 2_000), RATE).text(RATE.form), "2,000")
        self.assertEqual(Cell.of(plain(MEMORY, 3 << 20), MEMORY).text(MEMORY.form), "3")

    def test_nothing_was_measured(self):
        self.assertIsNone(Cell.of([], RATE))
        self.assertIsNone(Cell.of(plain(MEMORY, None), MEMORY), "an older load generator does not know it")

    def test_failed_records_of_all_rounds_are_told_and_the_cell_does_not_count(self):
        cell = Cell.of([a_round(P50, 2.4, failed=1), a_round(P50, 2.4), a_round(P50, 2.4, failed=2)], P50)
        self.assertEqual((cell.text(P50.form), cell.counts), ("2.40 (3 failed)", False))

    def test_a_run_that_did_not_keep_up_has_no_latency(self):
        kept, behind = a_round(P50, 2.4, asked=10_000, rate=9_901), a_round(P50, 0.1, asked=10_000, rate=8_120.4)
        self.assertEqual(Cell.of([kept], P50).text(P50.form), "2.40")
        cell = Cell.of([kept, behind, kept], P50)
        self.assertEqual((cell.text(P50.form), cell.counts), ("– (only 8,120/s)", False))

    def test_records_are_given_up_in_a_failover_and_it_counts_all_the_same(self):
        cell = Cell.of([a_round(SILENCE, 5_613, failed=4_700, asked=1_000, rate=760)], SILENCE)
        self.assertEqual((cell.text(SILENCE.form), cell.counts), ("5,613 (4,700 failed)", True))

    def test_a_failover_in_which_nobody_took_over_does_not_count(self):
        cell = Cell.of([a_round(SILENCE, 14_000, spoilt="nobody took over")], SILENCE)
        self.assertEqual((cell.text(SILENCE.form), cell.counts), ("– (nobody took over)", False))


class Ratios(unittest.TestCase):
    """This log beside the best of the others."""

    def test_above_one_is_better_whichever_way_a_row_counts(self):
        more = line(RATE, pubg1=plain(RATE, 300), a=plain(RATE, 100), b=plain(RATE, 120))
        self.assertEqual((more.ratio.median, more.demand), (2.5, "≥ 2: yes"))
        less = line(P50, pubg1=plain(P50, 2.0), a=plain(P50, 1.0), b=plain(P50, 3.0))
        self.assertEqual((less.ratio.median, less.demand), (0.5, "≥ 1: NO"))

    def test_who_failed_fell_behind_or_keeps_no_replicas_is_not_the_best(self):
        others = {"failed": [a_round(P50, 0.1, failed=1)], "behind": [a_round(P50, 0.1, asked=1_000, rate=900)],
                  "alone": [a_round(P50, 0.1, replicas=1)]}
        found = line(P50, pubg1=plain(P50, 1.0), sound=plain(P50, 2.0), **others)
        self.assertEqual((found.ratio.median, found.demand), (2.0, "≥ 1: yes"))
        nobody = line(P50, pubg1=plain(P50, 1.0), **others)
        self.assertEqual((nobody.ratio, nobody.demand), (None, ""))

    def test_our_own_failure_meets_no_demand(self):
        found = line(P50, pubg1=[a_round(P50, 0.1, failed=1)], a=plain(P50, 2.0))
        self.assertEqual((found.ratio, found.met, found.demand), (None, None, "≥ 1: NO (not measured as asked)"))

    def test_a_ratio_goes_from_our_worst_beside_their_best_to_the_opposite(self):
        more = line(RATE, pubg1=plain(RATE, 200, 240, 300), a=plain(RATE, 90, 100, 110), b=plain(RATE, 10, 20, 120))
        self.assertEqual((more.ratio.lowest, more.ratio.median, more.ratio.highest), (200 / 120, 2.4, 300 / 90))
        less = line(P50, pubg1=plain(P50, 1, 2, 4), a=plain(P50, 4, 5, 8))
        self.assertEqual((less.ratio.lowest, less.ratio.median, less.ratio.highest), (1.0, 2.5, 8.0))

    def test_a_range_that_holds_the_demand_is_noise(self):
        others = plain(RATE, 100, 100, 100)
        for ours, said in (((190, 210, 220), "yes (within noise)"), ((180, 190, 210), "NO (within noise)"),
                           ((200, 210, 220), "yes"), ((180, 190, 199), "NO")):
            self.assertEqual(line(RATE, pubg1=plain(RATE, *ours), a=others).demand, f"≥ 2: {said}")

    def test_without_a_demand_noise_is_about_which_is_better(self):
        others = plain(P999, 4, 4, 4)
        self.assertEqual(line(P999, pubg1=plain(P999, 3, 5, 6), a=others).demand, "(within noise of 1)")
        self.assertEqual(line(P999, pubg1=plain(P999, 5, 5, 6), a=others).demand, "")

    def test_one_round_says_nothing_of_noise(self):
        self.assertEqual(line(RATE, pubg1=plain(RATE, 200), a=plain(RATE, 100)).demand, "≥ 2: yes")

    def test_nobody_to_compare_with(self):
        self.assertIsNone(line(RATE, pubg1=plain(RATE, 1)).ratio)
        self.assertIsNone(Ratio.of(None, [Cell.of(plain(RATE, 1), RATE)], RATE.better))
        self.assertEqual(Line(RATE, {"a": None}, None).demand, "")


class Texts(unittest.TestCase):
    """All of it."""

    def told(self, rounds, markdown):
        """Two systems, one row."""
        results = {name: {RATE.measure: plain(RATE, *[100 * times + more for more in range(rounds)])}
                   for name, times in (("pubg1", 3), ("nats", 1))}
        return tell("scripts/compare", results, "ext4 (/dev/x, rw)", {"pubg1": "", "nats": "", "all": ""}, markdown)

    def test_the_file_system_comes_first_and_ranges_follow_the_medians(self):
        said = self.told(3, markdown=True)
        self.assertTrue(said.startswith("Data directories: ext4 (/dev/x, rw)"), said)
        self.assertIn("| records/s, 100 B | 301 | 101 | 2.98 | ≥ 2: yes |", said)
        self.assertIn("| records/s, 100 B | 300 to 302 | 100 to 102 | 2.94 to 3.02 |", said)

    def test_a_check_alone_has_no_table(self):
        self.assertIn("Nothing was measured", tell("scripts/compare", {"pubg1": {}}, "ext4", {"all": ""}, False))

    def test_a_single_round_is_called_one(self):
        said = self.told(1, markdown=False)
        self.assertIn("One round: nothing is known of its noise.", said)
        self.assertNotIn("Lowest to highest", said)


class FileSystems(unittest.TestCase):
    """Where data is."""

    MOUNTS = "\n".join([
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro",
        "30 22 0:26 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw,size=1024k",
        r"31 22 0:27 / /with\040blank rw - xfs /dev/vdb rw",
        "32 22 0:28 / /twice rw - ext4 /dev/vdc rw",
        "33 32 0:29 / /twice ro - ramfs ramfs rw"])

    def test_the_deepest_mount_that_was_made_last_holds_a_directory(self):
        for path, kind in (("/", "ext4"), ("/dev", "ext4"), ("/dev/shm/a/b", "tmpfs"), ("/dev/shmx", "ext4"),
                           ("/with blank/a", "xfs"), ("/twice/a", "ramfs")):
            self.assertEqual(FileSystem.of(path, self.MOUNTS).kind, kind, path)

    def test_what_is_in_memory_is_known(self):
        found = {path: FileSystem.of(path, self.MOUNTS).in_memory for path in ("/", "/dev/shm", "/twice")}
        self.assertEqual(found, {"/": False, "/dev/shm": True, "/twice": True})
        self.assertEqual(str(FileSystem.of("/", self.MOUNTS)), "ext4 (/dev/vda, rw,relatime)")


if __name__ == "__main__":
    unittest.main()
