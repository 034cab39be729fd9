"""An index checkpoint is believed only beside the db that it was made of: a backup is put back in place, etcd goes on
from there, and Cairn must not serve the keys of the history that was undone.
"""

import shutil

import harness

RECORDS = 6000  # a stop saves a checkpoint after 5000


class Undone(harness.Case):
    def grow(self, client, prefix):
        client.put_many([(b"%s/%04d" % (prefix, i), b"value") for i in range(RECORDS)])
        client.put(b"heartbeat", b"alive")  # the same record at the same revision in both histories

    def put_back(self, backup, member):
        """As cp does: the db stays the same file, and what the backup does not have stays there."""
        shutil.rmtree(member / "wal")
        shutil.copytree(backup / "wal", member / "wal")
        with open(member / "snap/db", "r+b") as db:
            db.truncate()
            db.write((backup / "snap/db").read_bytes())

    def go(self, kind):
        data = self.dir / "data"
        member, backup = data / "member", self.dir / "backup"
        founder = self.server(kind, data).start()
        founder.client().put(b"first", b"1")
        founder.stop()

        cairn = self.server("cairn", data).start()
        cairn.client().put(b"second", b"2")
        cairn.stop()
        harness.copy_directory(member, backup)
        cairn.start()
        self.grow(cairn.client(), b"undone")
        cairn.stop()
        self.assertIn("saved index checkpoint", cairn.log_text())
        cairn.start()  # it is good for this db
        self.assertIn("read the index from its checkpoint", cairn.log_text())
        cairn.stop()

        self.put_back(backup, member)
        self.assertTrue((member / "cairn/index").exists())
        # Many small commits, so that the transaction id passes the checkpoint's, too.
        etcd = self.server(kind, data, flags=["--backend-batch-limit", "50"]).start()
        client = etcd.client()
        self.grow(client, b"other")
        client.put_many([(b"later/%d" % i, b"value") for i in range(100)])
        expected, revision = client.all(), client.revision()
        etcd.stop()

        for _ in range(2):
            cairn.start()
            client = cairn.client()
            self.assertEqual(client.all(), expected)
            self.assertEqual(client.revision(), revision)
            cairn.stop()
        self.check_directory(data, mutate=100)

    @harness.needs("etcd34")
    def test_etcd_34_went_on_from_a_backup(self):
        self.go("etcd34")

    @harness.needs("etcd37")
    def test_etcd_37_went_on_from_a_backup(self):
        self.go("etcd37")


if __name__ == "__main__":
    harness.main()
