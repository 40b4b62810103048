"""The pure parts of the bench: `python -m unittest discover benches/peers`."""

import unittest

import contenders
import load
import machine
import report
import run
import statistic

SAID = """
finished in 1.00s, 10.00 req/s, 12.00KB/s
requests: 12 total, 12 started, 10 done, 9 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 9 2xx, 0 3xx, 1 4xx, 0 5xx
"""


class Peers(unittest.TestCase):
    def test_a_quantile_is_the_least_value_that_enough_do_not_exceed(self):
        values = list(range(1, 1001))
        for share, expected in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)]:
            self.assertEqual(statistic.quantile(values, share), expected)
        self.assertEqual(statistic.quantile([7], 0.999), 7)
        self.assertIsNone(statistic.quantile([], 0.5))

    def test_a_spread_has_the_middle_and_both_ends(self):
        self.assertEqual(statistic.Spread.of([3.0, 1.0, 2.0]), statistic.Spread(2.0, 1.0, 3.0))
        self.assertEqual(statistic.Spread.of([4.0, 1.0]), statistic.Spread(2.5, 1.0, 4.0))
        self.assertIsNone(statistic.Spread.of([None]))

    def test_a_name_with_a_bracket_does_not_shift_the_fields_of_a_stat_line(self):
        fields = ["S", "1", "2", "77", *["0"] * 7, "30", "12", "0"]
        self.assertEqual(machine.ticks_of("5 (a) b) " + " ".join(fields)), (42, 77))

    def test_waiting_for_the_disk_is_idle(self):
        before, after = [0] * 10, [30, 0, 10, 50, 10, 0, 0, 0, 5, 0]
        self.assertAlmostEqual(machine.busy_share(before, after), 0.4)

    def test_what_h2load_says_is_read_and_anything_else_refused(self):
        self.assertEqual(load.statuses(SAID), ({200: 9, 300: 0, 400: 1, 500: 0}, 0))
        with self.assertRaises(ValueError):
            load.statuses("usage: h2load")

    def test_rates_are_rounded_down(self):
        for rate, expected in [(3_471.0, 3_400), (99.9, 99), (7.5, 7), (12_999, 12_000)]:
            self.assertEqual(run.rounded(rate), expected)

    def test_a_placeholder_without_a_value_is_an_error(self):
        self.assertEqual(contenders.filled("listen @PORT@;", {"PORT": 80}), "listen 80;")
        with self.assertRaises(KeyError):
            contenders.filled("@NOBODY@", {})

    def test_every_job_names_peers_that_exist_and_their_files_are_there(self):
        peers = contenders.peers("target", "wheels")
        for job in contenders.JOBS:
            self.assertEqual(job.entries[0].peer, "vestibule")
            for entry in job.entries:
                for source, _ in peers[entry.peer].files:
                    self.assertTrue((contenders.HERE / source).is_file(), source)

    def test_columns_are_aligned_and_what_is_missing_is_said(self):
        spread = statistic.Spread(37.9, 36.0, 40.0)
        rows = [report.Row("vestibule", "", spread, spread, (1, 2, 3), 2**20), report.Row("Envoy", "", missing="not available here")]
        table = report.Table("h1", "Plain", "request", 100, rows)
        lines = report.text(table).splitlines()
        self.assertEqual(lines[2].index("37.9"), lines[1].index("request") - len("CPU µs a ") + len("CPU µs a request") - len("37.9 (36.0–40.0)"))
        self.assertIn("not available here", lines[3])
        self.assertIn("| vestibule |", report.markdown(table))

    def test_a_plot_escapes_and_leaves_out_what_was_not_measured(self):
        rows = [report.Row("a<b", "", statistic.Spread(1.0, 1.0, 1.0)), report.Row("none", "", missing="not available here")]
        drawn = report.svg(report.Table("h1", "Plain", "request", 0, rows), "now")
        self.assertIn("a&lt;b", drawn)
        self.assertNotIn("none", drawn.replace('fill="none"', ""))


if __name__ == "__main__":
    unittest.main()
