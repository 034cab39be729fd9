"""What kube-apiserver's storage and Patroni send: Cairn answers as etcd 3.7 does."""

import harness

PARTS = ["start", "objects", "pages", "watches", "compaction", "alarm", "leases", "patroni", "restarts"]


@harness.needs("kubeclient", "etcd37")
class Storage(harness.Case):
    maxDiff = None

    def test_it_is_told_the_same_as_by_etcd(self):
        def run(server):
            told = self.transcript(server, [harness.program("kubeclient"), server.endpoint, *PARTS], 280)
            server.stop()
            return told

        etcd, cairn = self.side_by_side(run, ("etcd37", "cairn"))
        self.assertEqual(etcd, cairn)
        self.assertFalse([line for line in etcd if "FAILED" in line or "nothing came" in line])
        self.assertIn("## " + PARTS[-1], etcd)


if __name__ == "__main__":
    harness.main()
