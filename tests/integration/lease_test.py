"""Leases of real clients: etcd's client library, with all that it builds upon them, sees the same as beside etcd."""

import harness


@harness.needs("leaseclient", "etcd37")
class ClientLibrary(harness.Case):
    maxDiff = None

    def test_it_sees_the_same_as_with_etcd(self):
        told = []
        for kind in ("etcd37", "cairn"):
            server = self.server(kind, self.dir / kind).start()
            told.append(self.run_tool("leaseclient", server.endpoint, timeout=300).stdout.splitlines())
            server.stop()
        self.assertEqual(*told)
        self.assertNotIn("FAILED", "\n".join(told[0]))


if __name__ == "__main__":
    harness.main()
