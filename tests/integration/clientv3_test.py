"""etcd's client library for Go over its whole API: it is told by Cairn what etcd 3.7 tells it."""

import harness

BOTH = ("etcd37", "cairn")


@harness.needs("apiclient", "etcd37")
class ClientLibrary(harness.Case):
    maxDiff = None

    def test_it_is_told_the_same_as_by_etcd(self):
        def run(server):
            return self.transcript(server, [harness.program("apiclient"), server.endpoint], 280)

        etcd, cairn = self.side_by_side(run, BOTH)
        self.assertEqual(etcd, cairn)
        self.assertFalse([line for line in etcd if "FAILED" in line])
        self.assertEqual(etcd[-1], "# the end", etcd[-20:])


if __name__ == "__main__":
    harness.main()
