"""What kube-apiserver's storage and Patroni send: Cairn answers as etcd 3.7 does."""

import threading

import harness

PARTS = ["start", "objects", "pages", "watches", "compaction", "alarm", "leases", "patroni", "restarts"]


@harness.needs("kubeclient", "etcd37")
class Storage(harness.Case):
    maxDiff = None

    def test_it_is_told_the_same_as_by_etcd(self):
        told = {}

        def run(kind):
            server = self.server(kind, self.dir / kind).start()
            told[kind] = self.transcript(server, [harness.program("kubeclient"), server.endpoint, *PARTS], 280)
            server.stop()

        # Beside each other: each waits for what it has asked for.
        threads = [threading.Thread(target=run, args=(kind,)) for kind in ("etcd37", "cairn")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(told["etcd37"], told["cairn"])
        self.assertFalse([line for line in told["etcd37"] if "FAILED" in line or "nothing came" in line])
        self.assertIn("## " + PARTS[-1], told["etcd37"])


if __name__ == "__main__":
    harness.main()
